"""`python -m harness` lists the commands."""

import importlib
import os
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


def test_what_is_refused_is_refused_without_jax(tmp_path: Path) -> None:
    """Help, lists and bad input of every command, one after the other in one process."""
    for name, text in (("bad.yaml", "model: ["), ("bad.json", "{"), ("text.txt", "some")):
        (tmp_path / name).write_text(text)
    (tmp_path / "results" / "broken").mkdir(parents=True)
    (tmp_path / "results" / "broken" / "record.json").write_text("{")
    told = [line for line in _REFUSED.splitlines() if line]
    told += [f"{name} --help" for name in __main__.commands()]
    code = f"import sys; from harness import __main__\nTOLD = {told!r}\n{_ASKING}"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    ended = dict(line.rsplit(": ", 1) for line in found.stdout.splitlines() if line[:1] == "$")
    assert len(ended) == len(told) > 70
    wrong = {line: how for line, how in ended.items() if how != _wanted(line)}
    assert not wrong, found.stderr


def _wanted(line: str) -> str:
    return "2" if not line.endswith(("--help", "--list", "settings optim")) else "0"


# Prints of each command how it ended, and from the first on that imported one what it imported.
_ASKING = """
import os, shlex
from harness.terminal.errors import UserError
for line in TOLD:
    try:
        code = __main__.main(shlex.split(line))
    except UserError as error:
        code = 2
        print(line, error, sep=" -> ", file=sys.stderr)
    except SystemExit as ended:
        code = ended.code or 0
    heavy = [name for name in ("jax", "flax", "optax", "orbax") if name in sys.modules]
    print(f"$ {line}: {' and '.join([str(code), *heavy])}")
"""
_REFUSED = """
nothing
run
run --list
run --case 99
run --case nowhere.yaml
run --case bad.yaml
run --case 01_baseline --nothing
run --case 01_baseline --set model.layer=2
run --case 20_honeycrisp --set model.layers=two
run --case 30_pipeline --set model.layers=0
run --case 01_baseline --set nothing
run --case 01_baseline --impl nothing
run --case 01_baseline --size big
run --case 01_baseline --recipe quick
run --case 01_baseline --steps 0
run --case 01_baseline --repeats 0
run --case 01_baseline --precision 0
run --case 01_baseline --profile-steps 3
run --case 01_baseline --nnx-state jit
run --case 01_baseline --against x
run --case 01_baseline --impl nnx --against '--case 3'
run --case 01_baseline --impl nnx --against '--set model.layer=2'
run --case 01_baseline --impl nnx --restore nowhere
run --case 01_baseline --impl nnx --restore results
run --case 01_baseline --restore-what params
run --case 01_baseline --run-id a/b
run --case 01_baseline --results-dir text.txt
run --case 01_baseline --coordinator a:1
run --case 01_baseline --coordinator a:1 --processes 2 --process-id 2
run --case 01_baseline --check --set model.layer=2
run --case 01_baseline --check --devices 0
run --case 01_baseline --devices 0
run --twins nowhere
run --twins nowhere --check
run --twins mine.py
run --resume nothing
run --resume ../x
run --in-turns a b
run --in-turns broken b
preflight
preflight --topology v6e-8
preflight --topology v6e-9 --case 01_baseline
preflight --topology nothing --case 01_baseline
preflight --topology v6e-8 --case 99
preflight --topology v6e-8 --case 01_baseline --impl nothing
preflight --topology v6e-8 --case 01_baseline --set model.layer=2
preflight --topology v6e-8 --case 01_baseline --json nowhere/x.json
preflight --topology v6e-8 --case 01_baseline --search-minutes 0
preflight --topology v6e-8 --case all --search
preflight --topology v6e-8 --twins nowhere
bisect
bisect --case 99
bisect --case 01_baseline --a nothing
bisect --case 01_baseline --set model.layer=2
bisect --case 01_baseline --save nowhere/x
bisect --case 01_baseline --save x --against y
bisect --case 01_baseline --against --set
bisect --case 01_baseline --against '--set model.layer=2'
bisect --case 01_baseline --restore nowhere
bisect --twins nowhere
bisect a
bisect a b
bisect a b c
bisect text.txt text.txt
checkpoints
checkpoints inspect
checkpoints inspect nowhere
checkpoints inspect text.txt
checkpoints verify results
checkpoints diff results results
checkpoints convert results x --twins nowhere --to nnx
compare
compare a b
compare bad.json bad.json
compare a b --page nowhere/x.html
compare 03_dropout:nnx 03_dropout:linen
report
report --output text.txt
ingest
ingest nowhere
ingest text.txt
ingest bad.json
settings optim
settings nothing
doctor --processes 2
doctor --nothing
completion nothing
"""
