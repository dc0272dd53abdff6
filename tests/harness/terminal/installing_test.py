import sys
from importlib import metadata

import pytest

from harness.terminal import installing


def test_an_extra_is_what_the_project_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/home/me/my env/bin/python")
    start = "'/home/me/my env/bin/python' -m pip install "
    assert installing.command("tpu") == f"{start}'jax[tpu]'"
    assert installing.command("gcs") == f"{start}'etils[epath-gcs]'"


def test_what_was_never_installed_is_installed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert installing.command("tpu").endswith(" -m pip install '.[tpu]'")
