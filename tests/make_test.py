"""What `make` is told wrongly is a line, and nothing is installed."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a `make` hands to those that it starts, its own arguments among them.
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", "VENV", "EXTRA", "CASE")


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What would be done, whatever the `make` was given that runs these tests."""
    command = ["make", "--dry-run", "run", *arguments]
    own = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("EXTRA=gpu", "EXTRA=gpu: must be tpu, cuda or nothing."),
        ("EXTRA=tpu gpu", "EXTRA=tpu gpu: must be tpu, cuda or nothing."),
        ("PYTHON=python2.99", "PYTHON=python2.99: no such Python here, or one before 3.11; "),
        ("PYTHON=SHIM", "/shim: no such Python here, or one before 3.11; "),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(argument: str, told: str, tmp_path: Path) -> None:
    shim = tmp_path / "shim"  # of a version manager, of a version that is not active
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    ended = made(argument.replace("SHIM", str(shim)))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert told in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(("extra", "installed"), [("cuda", "'.[cuda]'"), ("", "'.'")])
def test_what_is_there_is_installed_in_place_and_run(extra: str, installed: str) -> None:
    commands = made(f"EXTRA={extra}", "VENV=build/none", "CASE=04_int8").stdout.splitlines()
    (install,) = [line for line in commands if " pip install " in line]
    assert install.endswith(f"--editable {installed}")
    assert "build/none/bin/harness run --case 04_int8 --impl both" in commands
    assert 'source "%s/bin/activate"' in commands[-1]
    assert commands[-1].endswith('"$(cd build/none && pwd)"')
