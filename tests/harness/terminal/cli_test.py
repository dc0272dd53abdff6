"""Commands find the project's own packages, wherever they are started."""

import gzip
import re
import shlex
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from harness.cases import families
from harness.terminal import cli
from harness.terminal.errors import UserError


def started(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        commands.command(*arguments, module=module),
        cwd=folder,
        env=commands.ENVIRONMENT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("name", "module", "argument"),
    [
        ("models/__init__.py", "harness.run", "--list"),
        ("models.py", "harness.preflight", "--help"),
        ("models/linen.py", "harness.report", "--help"),
    ],
)
def test_a_folder_may_hold_models_of_its_own(
    tmp_path: Path, name: str, module: str, argument: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('not the models that were meant')\n")
    ended = started(tmp_path, module, argument)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


def test_a_folder_may_hold_a_harness_of_its_own(tmp_path: Path) -> None:
    """Python finds it first: what it lacks is told by Python, in one line; -P passes it over."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").touch()
    (tmp_path / "harness" / "run.py").write_text("print('theirs')\n")
    assert started(tmp_path, "harness.run").stdout == "theirs\n"
    safe = subprocess.run(
        commands.command("--list"),
        cwd=tmp_path,
        env={**commands.ENVIRONMENT, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert (safe.returncode, safe.stderr) == (0, "")
    assert "03_dropout" in safe.stdout


def test_the_script_is_this_one_and_finds_modules_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "harness.py").write_text("print('theirs')\n")
    (tmp_path / "mine.py").touch()
    code = "from harness.__main__ import script; script()"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, "settings", "--twins", "mine"],
        cwd=tmp_path,
        env=commands.ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: --twins mine: has no ModelConfig")


@pytest.mark.parametrize("twins", ["models.mine", "harness.mine.twins", "models."])
def test_twins_of_a_name_that_is_taken_are_one_line(twins: str) -> None:
    package, _, rest = twins.partition(".")
    told = (
        f"--twins {twins}: {package!r} is the project's own package, which has no {rest!r};"
        " one of yours needs another name"
    )
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        families.load(twins)


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">/dev/full", 2, "error: No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("| head -c 9 >/dev/null", 0, ""),
        ("--case $(printf 'n%.0s' $(seq 300)).yaml --impl nnx", 2, None),
        ("--case $'\\xff\\e[31m' --impl nnx", 2, None),
        ("--results-dir=-- --resume none", 2, None),
    ],
)
def test_odd_streams_and_names_are_a_line_at_most(
    redirected: str, code: int, told: str | None, tmp_path: Path
) -> None:
    listed = shlex.join(commands.command("--list", module="harness.run"))
    if told is None:
        listed = shlex.join(commands.command(module="harness.run"))
    ended = subprocess.run(
        ["bash", "-c", f"{listed} {redirected}"],
        cwd=tmp_path,
        env={**commands.ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
    )
    said = ended.stderr.decode("ascii")
    assert ended.returncode == code, said
    assert said == told if told is not None else said.startswith("error: ")
    assert said.count("\n") <= 1
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("a\x1b[31m\n", "b"), "a?[31m?\nerror: b"),
        (OSError(28, "No space", "a\nb"), "a?b: No space"),
        (OSError(28, "No space"), "No space"),
        (gzip.BadGzipFile("Not a gzipped file"), "BadGzipFile: Not a gzipped file"),
        (UnicodeError("\x00"), "a name that is not text: ?"),
    ],
)
def test_what_a_command_raises_is_told_without_control_characters(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(argv: list[str]) -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.main(fails)
    assert (ended.value.code, capsys.readouterr().err) == (2, f"error: {told}\n")


def test_a_folder_that_is_gone_is_a_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = shlex.join(commands.command("--output", "site", module="harness.report"))
    ended = subprocess.run(
        ["bash", "-c", f"mkdir {gone}; cd {gone}; rmdir {gone}; {command}"],
        env=commands.ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .+\n", ended.stderr)
