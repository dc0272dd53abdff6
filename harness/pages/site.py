"""The pages of a report, and the folder they are written into."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.pages import (
    case_page,
    history_page,
    overview_page,
    programs_page,
    run_page,
    runs_page,
    slices_page,
)
from harness.pages.gathering import Collection
from harness.records.record import case_name
from harness.terminal.console import Console
from harness.terminal.errors import UserError

MARKER = ".harness-report"  # lists what a report wrote: the rest of its folder is not ours


def pages(collection: Collection) -> dict[str, Callable[[], str]]:
    """Every page: by its path in the report, what makes its HTML."""
    made: dict[str, Callable[[], str]] = {
        path: partial(page, path, collection)
        for path, page in (
            ("index.html", overview_page.page),
            ("history.html", history_page.page),
            ("slices.html", slices_page.page),
            ("runs.html", runs_page.page),
        )
    }
    cases = collection.cases
    for before, case, after in zip([None, *cases], cases, [*cases[1:], None], strict=False):
        made[case.page] = partial(case_page.page, case, before, after)
        if programs := programs_page.path(case):
            made[programs] = partial(programs_page.page, case)
    by_name = {case.name: case for case in cases}
    for run in collection.runs:
        of = by_name.get(case_name(run.record) or "")
        made[run.page] = partial(run_page.page, run, of)
    return made


def check(output: Path) -> None:
    """Raises UserError unless `output` may be written: absent, empty, or a former report whole."""
    try:
        if not output.exists() and not output.is_symlink():
            return
        if not output.is_dir():
            raise UserError(f"{output}: is not a folder")
        held = {
            os.path.relpath(os.path.join(folder, file), output)
            for folder, _, files in os.walk(output)
            for file in files
        }
        if not held and not any(output.iterdir()):
            return
        listed = _listed(output / MARKER)
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}") from None
    if listed is None:
        raise UserError(f"{output}: holds something other than a report; give a folder of its own")
    others = sorted(held - listed - {MARKER})
    if others:
        raise UserError(
            f"{output}: a report that also holds {others[0]!r}, which would be lost; move it away"
        )


def _listed(marker: Path) -> set[str] | None:
    """What a former report wrote; None where there was none."""
    try:
        listed = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return None
    return set(listed)


def _put(new: Path, output: Path, former: Path) -> None:
    """Moves `new` to its place; what lies there goes to `former`, and back if that fails."""
    if not output.exists():
        new.rename(output)
        return
    output.rename(former)
    try:
        new.rename(output)
    except OSError:
        former.rename(output)
        raise


def write(collection: Collection, output: Path, console: Console) -> None:
    """Writes the report beside its place and then puts it there whole, for a former one.

    Raises UserError for a folder that `check` refuses or that cannot be written.
    """
    check(output)
    output = output.resolve()
    made: Path | None = None
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        new = made / "new"
        for folder in (new, new / "cases", new / "programs", new / "runs"):
            folder.mkdir()
        made_by = pages(collection)
        console.expect(len(made_by))
        for path, page in made_by.items():
            (new / path).write_text(page(), encoding="utf-8")
            console.done()
        (new / MARKER).write_text(json.dumps(list(made_by)), encoding="utf-8")
        _put(new, output, made / "former")
    except OSError as error:
        raise UserError(f"{output}: cannot be written: {error.strerror}") from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
