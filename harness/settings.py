"""Says what a case may set, and how: `harness settings optim`."""

import textwrap
from pathlib import Path

from harness.cases import catalogue, reading
from harness.cases.catalogue import Section
from harness.terminal import cli, outputs
from harness.terminal.errors import UserError

_SHORT = """\
A case file is YAML and holds only what differs from the defaults. This is a whole one, mine.yaml:

    data: {sequence_length: 128}
    model: {dropout_rate: 0.1}

`--case mine.yaml` trains it; `--set optim.learning_rate=1e-4` overrides a setting of any case."""


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness settings",
        description="Says what a case may set: every key, its default, what is allowed, and what"
        " it means.",
    )
    add = arguments.add_argument
    add("part", nargs="?", default="", metavar="PART", help="a section or a key, such as optim or"
        " data.tokens (default: all)")  # fmt: skip
    add("--twins", metavar="MODULE", help="the settings of a pair of your own")
    add("--markdown", type=Path, metavar="FILE", help="write them as a page")
    return arguments


def main(argv: list[str]) -> int:
    """Prints the settings that are asked for, or writes them; returns the exit code."""
    arguments = parser().parse_args(argv)
    sections = _chosen(catalogue.catalogue(arguments.twins), arguments.part)
    if arguments.markdown is None:
        print("\n\n".join([*map(_text, sections), _SHORT]))
        return 0
    outputs.write(arguments.markdown, page(sections))
    return 0


def page(sections: list[Section]) -> str:
    """The sections as a page of Markdown, a table each."""
    lines = ["# What a case may set", "", _SHORT]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.meaning, ""]
        lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
        for one in section.settings:
            cells = [f"`{one.key}`", f"`{one.default}`", one.allowed, one.meaning]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _text(section: Section) -> str:
    lines = [": ".join(filter(None, (section.title, section.meaning)))]
    for one in section.settings:
        lines.append(f"  {one.key} = {one.default}, {one.allowed}".rstrip(", "))
        lines += textwrap.wrap(one.meaning, 96, initial_indent=6 * " ", subsequent_indent=6 * " ")
    return "\n".join(lines)


def _chosen(sections: list[Section], part: str) -> list[Section]:
    """What is under a section's name, or one key; UserError with the nearest one otherwise."""
    chosen = []
    for section in sections:
        under = [
            one for one in section.settings if f"{one.key}.".startswith(f"{part}.") or not part
        ]
        if under:
            chosen.append(section._replace(settings=under))
    if not chosen:
        keys = [one.key for section in sections for one in section.settings]
        raise UserError(f"{part}: no such section or key{reading.choices(part, keys)}")
    return chosen


if __name__ == "__main__":
    cli.main(main)
