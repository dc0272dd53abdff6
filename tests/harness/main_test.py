"""`python -m harness` lists the commands."""

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import __main__
from harness.terminal.errors import UserError

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_and_none_is_imported() -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "harness"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, _ = found.stdout.splitlines()
    files = [path for path in (ROOT / "harness").glob("*.py") if path.stem != "__main__"]
    names = sorted(path.stem for path in files if "cli.main(main)" in path.read_text())
    assert [line.split()[1] for line in lines] == names
    assert "preflight" in names
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    assert "harness.terminal.text" in imported
    assert not imported & {"jax", "numpy", "flax", *(f"harness.{name}" for name in names)}


@pytest.mark.parametrize("name", __main__.commands())
def test_an_example_is_one_that_the_command_takes(name: str) -> None:
    what, example = __main__.commands()[name]
    assert what
    command, module, *arguments = shlex.split(example)
    assert (command, module) == ("harness", name)
    importlib.import_module(f"harness.{module}").parser().parse_args(arguments)


def test_a_command_that_is_named_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["compare", "--help"])
    assert "usage: harness compare" in capsys.readouterr().out


def test_it_takes_nothing_else() -> None:
    with pytest.raises(UserError, match="unrecognized arguments: runs"):
        __main__.main(["runs"])
