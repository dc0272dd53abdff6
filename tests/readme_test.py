"""What the pages for readers name is there, and what they have typed is taken."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from harness.cases import reading

ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "configs/README.md", "configs/settings.md"),
    *("results/README.md", "models/examples/own/README.md", "scripts/xpk/README.md"),
    *("scripts/benchmarks/README.md", "results/reference/published/README.md"),
    *("results/reference/pairs/README.md", "results/reference/preflight/README.md"),
]


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text(page), re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text(page)):
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_taken_as_they_stand(page: str) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", text(page), re.M | re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n", "", block).splitlines()]
    for line in [*lines, *re.findall(r"`(harness \w+ [^`]+)`", text(page))]:
        if line.startswith(("harness ", "python scripts/xpk/")):
            by, what, *arguments = shlex.split(line.replace("gs://", ""), comments=True)
            module = f"harness.{what}" if by == "harness" else Path(what).stem
            importlib.import_module(module).parser().parse_args(arguments)
    assert "python -m harness" not in "\n".join(lines)  # the shorter way is the one that is told


def test_every_case_is_in_the_table() -> None:
    assert re.findall(r"^\| (\d\d_\w+) \|", text("configs/README.md"), re.M) == reading.case_names()


def test_the_first_screen_answers() -> None:
    """One sentence, two commands, a verdict, three questions with a command each."""
    first = "\n".join(text("README.md").splitlines()[:60])
    for one in ("make run ", "make test ", "numbers  ", "checkpoints  "):
        assert f"\n{one}" in first
    asked = re.findall(r"^\*\*[^*]+\?\*\*(?:.+\n)+\n```\n(?:pip .+\n)?harness ", first, re.M)
    assert len(asked) == 3
