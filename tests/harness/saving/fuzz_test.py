"""Metadata of checkpoints that are not what was saved: shown, or refused in lines."""

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import damage
import pytest
from checkpoint_states import CASE, make_state

from harness import checkpoints
from harness.cases.settings import Checkpoint
from harness.records import sealing
from harness.saving import restoring
from harness.saving.checkpointer import Checkpointer
from harness.saving.faults import CheckpointError, Damaged
from harness.terminal.errors import UserError

FEW, MANY = 15, pytest.param(500, marks=pytest.mark.fuzz)


def resealed(chance: random.Random, value: Any) -> Any:
    """Most often with a seal that fits, so that what stands behind it is read too."""
    if isinstance(value, dict) and chance.random() < 0.8:
        value.pop(sealing.SEAL, None)
        with contextlib.suppress(ValueError, UnicodeError):
            return sealing.sealed(value)
    return value


@pytest.mark.parametrize("count", [FEW, MANY], ids=["few", "many"])
def test_no_metadata_ends_in_anything_but_lines(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, state = random.Random(count), make_state(0)
    about = {"case": CASE, "impl": "linen", "size": "tiny", "run_id": "one"}
    checkpointer = Checkpointer(tmp_path / "c", Checkpoint(async_=False), about)
    checkpointer.open()
    checkpointer.save(0, state)
    # Orbax's own word of the arrays, and ours of the step
    places = [tmp_path / "c" / "0" / name for name in ("metadata/metadata", "state/_METADATA")]
    contents = {path: path.read_bytes() for path in places if path.is_file()}
    assert len(contents) == 2
    shown = 0
    for _ in range(count):
        path = chance.choice([places[0], places[0], places[1]])
        value = resealed(chance, damage.changed(chance, json.loads(contents[path])))
        path.write_bytes(damage.written(chance, value))
        for command in (["inspect"], ["verify"], ["diff", str(tmp_path / "c")]):
            try:
                code = checkpoints.main([*command, str(tmp_path / "c")])
                assert code in (0, 1)
                shown += code == 0
            except (UserError, CheckpointError, Damaged) as error:
                damage.check_line(str(error))
        with contextlib.suppress(UserError, CheckpointError, Damaged):
            restoring.about(tmp_path / "c")
        told = capsys.readouterr()
        assert all(line.isprintable() for line in (told.out + told.err).splitlines())
        path.write_bytes(contents[path])
    assert 0 < shown < 3 * count
    assert checkpoints.main(["verify", str(tmp_path / "c")]) == 0
