"""Bash completes what the commands take."""

import subprocess

import pytest

from harness import completion
from harness.cases import reading

_ASK = """
COMP_WORDS=({words} "{typed}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
compopt() {{ :; }}
_harness; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def function() -> str:
    """What the command prints."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", printed.append)
        assert completion.main([]) == 0
    return "\n".join(printed)


@pytest.mark.parametrize(
    ("words", "typed", "expected"),
    [
        ("harness", "comp", ["compare", "completion"]),
        ("harness checkpoints", "in", ["inspect"]),
        ("harness run", "--pre", ["--precision"]),
        ("harness run --case", "03", ["03_dropout"]),
        ("harness preflight --recipe", "", [*reading.RECIPES]),
        ("harness run --case 03_dropout --set", "eval.b", ["eval.batches="]),
        ("harness run --restore", "", None),
    ],
)
def test_words_that_fit_are_offered(
    function: str, words: str, typed: str, expected: list[str] | None
) -> None:
    ended = subprocess.run(
        ["bash", "-c", function + _ASK.format(words=words, typed=typed)],
        capture_output=True,
        text=True,
        check=True,
    )
    offered = ended.stdout.split()
    assert offered == expected if expected is not None else "--profile-steps" in offered
