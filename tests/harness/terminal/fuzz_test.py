"""Command lines of all kinds: each is taken, or refused in one line."""

import argparse
import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import run_folders

from harness import __main__
from harness.terminal import cli

FEW, MANY = 100, pytest.param(1300, marks=pytest.mark.fuzz)
# Those that read; of the others, which would train and compile, the arguments alone are read.
READING = ("checkpoints", "compare", "ingest", "report", "settings")
ODD = (
    *("", "-", "--", "-1", "0", "1e999", "nan", "9" * 400, "x", "..", "/", "a/b", ".", "~", "*"),
    *("x" * 300, "\x00", "\x1b[31m", "\udc80", "\u202e", "a=b", "=", "model.layers=0", "gs://"),
    *("/dev/null", "/dev/full", "/proc/self/mem", "%s", "{}", "run-1", "results"),
    *("inspect", "diff", "verify", "convert", "linen", "tiny", "@x", "--help"),
)  # fmt: skip


def words(chance: random.Random, options: list[str]) -> list[str]:
    """Up to six words: options of the command, with values and without, and others."""
    found = []
    for _ in range(chance.randint(0, 6)):
        option = chance.choice(options)
        match chance.randrange(4):
            case 0:
                found.append(chance.choice(ODD))
            case 1:
                found.append(f"{option}={chance.choice(ODD)}")
            case 2:
                found += [option, chance.choice(ODD)]
            case _:
                found.append(option[: chance.randrange(2, len(option) + 1)])
    return found


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings if len(name) > 2]


@pytest.mark.parametrize("count", [FEW, MANY], ids=["few", "many"])
def test_no_command_line_ends_in_anything_but_a_line(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_folders.completed(tmp_path / "results")
    chance = random.Random(count)
    modules = {name: importlib.import_module(f"harness.{name}") for name in __main__.commands()}
    codes: list[Any] = []
    for _ in range(count):
        name = chance.choice([*modules])
        module = modules[name]

        def called(argv: list[str], module: Any = module, reads: bool = name in READING) -> int:
            if reads:
                return int(module.main(argv))
            module.parser().parse_args(argv)
            return 0

        argv = words(chance, options_of(module.parser()))
        monkeypatch.setattr(sys, "argv", [name, *argv])
        with pytest.raises(SystemExit) as ended:
            cli.main(called)
        told = capsys.readouterr()
        assert ended.value.code in (0, 1, 2, 3), (name, argv)
        assert "Traceback" not in told.err, (name, argv)
        if ended.value.code == 2:
            last = told.err.splitlines()[-1]
            assert last.startswith("error: "), (name, argv)
            assert last.isprintable(), (name, argv)
        codes.append(ended.value.code)
    assert set(codes) >= {0, 2}
