import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from harness.records import environment, record


def devices(kind: str, count: int, cores: int = 1, processes: int = 1) -> list[Any]:
    return [
        SimpleNamespace(
            platform="tpu", device_kind=kind, num_cores=cores, process_index=index % processes
        )
        for index in range(count)
    ]


def test_the_environment_of_this_process_fits_the_record() -> None:
    made = record.blank("a-run", "completed")
    made["environment"] = environment.collect(jax.devices())
    record.validate(made)
    found = made["environment"]
    assert found["platform"] == found["device_kind"] == "cpu"
    assert (found["device_count"], found["process_count"], found["topology"]) == (8, 1, None)
    assert found["jax"] == jax.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["xla_flags"] == os.environ["XLA_FLAGS"]
    assert datetime.now(UTC) - datetime.fromisoformat(found["time"]) < timedelta(minutes=1)


def test_a_run_without_devices_fits_the_record() -> None:
    made = record.blank("a-run", "failed")
    made["environment"] = environment.collect([])
    record.validate(made)
    assert made["environment"]["device_count"] is None


@pytest.mark.parametrize(
    ("kind", "count", "cores", "name"),
    [
        ("TPU v4", 4, 2, "v4-8"),
        ("TPU v5 lite", 8, 1, "v5litepod-8"),
        ("TPU v5", 4, 2, "v5p-8"),
        ("TPU v6 lite", 32, 1, "v6e-32"),
        ("TPU v6e", 32, 1, "v6e-32"),
        ("TPU7x", 8, 1, "tpu7x-8"),
        ("TPU v9", 8, 1, None),
    ],
)
def test_slices_are_named_as_xpk_names_them(
    kind: str, count: int, cores: int, name: str | None
) -> None:
    assert environment.collect(devices(kind, count, cores))["topology"] == name


def test_processes_are_counted_from_their_devices() -> None:
    found = environment.collect(devices("TPU v6 lite", 32, processes=8))
    assert (found["device_count"], found["process_count"]) == (32, 8)


def test_a_package_that_is_missing_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment._DISTRIBUTIONS, "libtpu", "no-such-distribution")
    assert environment.collect([])["libtpu"] is None


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_tells_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert environment._git_state(tmp_path) == {"git_commit": None, "git_dirty": False}
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert environment._git_state(tmp_path) == {"git_commit": commit, "git_dirty": False}
    (tmp_path / "file").write_text("two")
    assert environment._git_state(tmp_path) == {"git_commit": commit, "git_dirty": True}


def test_another_checkout_around_an_installed_package_is_not_ours(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "site-packages").mkdir()
    unknown = {"git_commit": None, "git_dirty": None}
    assert environment._git_state(tmp_path / "site-packages") == unknown


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._git_state(tmp_path) == {"git_commit": None, "git_dirty": None}


def test_it_imports_no_framework() -> None:
    code = (
        "import sys; from harness.records import environment; environment.collect([]);"
        "print([name for name in ('jax', 'flax', 'orbax', 'optax') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
