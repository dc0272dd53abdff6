"""Damaged records and journals: each is read, or refused in one line, and no sense is broken."""

import contextlib
import random
from pathlib import Path
from typing import Any

import damage
import pytest
import run_folders
from compared_records import in_turns, make

from harness.comparing import comparison, comparison_text
from harness.records import history, record, sealing, summary
from harness.records.record import RecordError

FEW_RECORDS, MANY_RECORDS = 60, pytest.param(2300, marks=pytest.mark.fuzz)
FEW_JOURNALS, MANY_JOURNALS = 30, pytest.param(300, marks=pytest.mark.fuzz)


def wholes() -> list[dict[str, Any]]:
    """Records of several kinds."""
    return [
        make(run_id="one"),
        *in_turns(1.0, 2, names=("a-run", "b-run")),
        record.blank("two", "failed", impl="nnx") | {"error": "step 3: loss is nan"},
    ]


@pytest.mark.parametrize("count", [FEW_RECORDS, MANY_RECORDS], ids=["few", "many"])
def test_no_record_ends_in_anything_but_a_line(count: int) -> None:
    """What is read can be compared and shown."""
    chance, whole = random.Random(count), wholes()
    good, read = whole[0], 0
    for _ in range(count):
        changed = damage.changed(chance, chance.choice(whole))
        if isinstance(changed, dict) and chance.random() < 0.9:
            with contextlib.suppress(ValueError, UnicodeError):  # what JSON cannot hold
                changed = sealing.sealed(changed)
        try:
            found = record.parse(damage.written(chance, changed))
        except RecordError as error:
            damage.check_line(str(error))
            continue
        read += 1
        record.validate(found)
        comparison_text.terminal(comparison.compare([good], [found]))
        comparison_text.markdown(comparison.compare([found], [good]))
        summary.table([good, found])
    assert 0 < read < count


@pytest.mark.parametrize("count", [FEW_JOURNALS, MANY_JOURNALS], ids=["few", "many"])
def test_no_journal_ends_in_anything_but_lines(count: int, tmp_path: Path) -> None:
    """What is taken from it may stand in a record."""
    chance = random.Random(count)
    expected = run_folders.killed(tmp_path)
    home = tmp_path / run_folders.RUN
    names = (*history.JOURNALS, history.STATUS)
    contents = {name: (home / name).read_bytes() for name in names}
    for _ in range(count):
        name = chance.choice(names)
        lines = [sealing.parse(line) for line in contents[name].splitlines()]
        changed = damage.changed(chance, lines)
        (home / name).write_bytes(b"\n".join(damage.written(chance, line) for line in changed))
        found = record.read(home / "record.json")
        faults, _ = history.complete(found, home)
        for fault in faults:
            damage.check_line(fault)
        record.validate(found)
        trained = [entry for entry in found["steps"] if entry["step"] <= 12]
        assert trained == expected["steps"][:13]
        assert found["evals"][:2] == expected["evals"][:2]
        (home / name).write_bytes(contents[name])
