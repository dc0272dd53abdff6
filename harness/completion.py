"""Prints what lets bash complete options, cases and settings: `harness completion`."""

import functools
import importlib
from collections.abc import Iterable

from harness import __main__
from harness.cases import catalogue, reading
from harness.terminal import cli

_FUNCTION = """\
_harness() {
    local typed="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words
    [[ $COMP_CWORD != 1 ]] || before=""
    case "${COMP_WORDS[1]} $before" in
%s
    esac
    COMPREPLY=($(compgen -W "$words" -- "$typed"))
    [[ "${COMPREPLY[0]}" != *= ]] || compopt -o nospace
}
complete -o default -F _harness harness"""


def parser() -> cli.Parser:
    """The command's arguments: none."""
    return cli.Parser(
        prog="harness completion",
        description="Prints a function for bash. For this shell: source <(harness completion); for"
        " all: harness completion > ~/.local/share/bash-completion/completions/harness",
    )


def main(argv: list[str]) -> int:
    """Prints the function; returns the exit code."""
    parser().parse_args(argv)
    branches = [branch for name in __main__.commands() for branch in _branches(name)]
    print(_FUNCTION % "\n".join([*branches, _branch("*", __main__.commands())]))
    return 0


def _branches(command: str) -> list[str]:
    """What may follow each option of a command that takes one of some words, and the options."""
    actions = importlib.import_module(f"harness.{command}").parser()._actions
    options = [option for action in actions for option in action.option_strings]
    verbs = [verb for one in actions if not one.option_strings for verb in one.choices or ()]
    found = [
        _branch(f'"{command} {option}"', words)
        for action in actions
        for option in action.option_strings
        if (words := _words(option, action.choices))
    ]
    return [*found, _branch(f'"{command} "*', [*verbs, *options])]


def _words(option: str, choices: Iterable[str] | None) -> Iterable[str]:
    if option == "--case":
        return reading.case_names()
    return _settings() if option == "--set" else choices or ()


@functools.cache
def _settings() -> dict[str, None]:
    """Every key of a case once, as it is typed: several commands take them."""
    sections = catalogue.catalogue(None)
    return {f"{one.key}=": None for section in sections for one in section.settings}


def _branch(pattern: str, words: Iterable[str]) -> str:
    return f"        {pattern}) words='{' '.join(words)}' ;;"


if __name__ == "__main__":
    cli.main(main)
