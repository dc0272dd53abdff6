"""Saving: what is due, what it costs, what is kept, and how failures are told."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import pytest
from checkpoint_states import CASE, abstract_state, bits, make_state

from harness.cases.settings import Checkpoint
from harness.saving import checkpointer
from harness.saving.checkpointer import Checkpointer, CheckpointError
from harness.terminal.errors import UserError

ABOUT = {"case": CASE, "impl": "linen", "size": "tiny"}


def _open(directory: Path, **settings: Any) -> Checkpointer:
    checkpointer = Checkpointer(directory, Checkpoint(**settings), ABOUT, timeout_seconds=60)
    checkpointer.open()
    return checkpointer


def _steps(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 9]),
        ({"period": 5}, [0, 5, 9]),
        ({"period": 3}, [0, 3, 6, 9]),
        ({"first": False}, [9]),
        ({"first": False, "period": 5}, [4, 9]),
        ({"first": False, "period": 4}, [3, 7, 9]),
        ({"first": False, "period": 1}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"enabled": False, "period": 1}, []),
    ],
)
def test_which_of_ten_steps_are_due(settings: dict[str, Any], expected: list[int]) -> None:
    checkpointer = Checkpointer("unused", Checkpoint(**settings), ABOUT)
    assert [step for step in range(10) if checkpointer.due(step, 9)] == expected


@pytest.mark.parametrize("async_", [True, False])
def test_a_saved_state_comes_back_though_its_memory_was_reused(
    tmp_path: Path, async_: bool
) -> None:
    checkpointer = _open(tmp_path, async_=async_)
    state = make_state(step=4)
    expected = bits(state)
    advance = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    checkpointer.save(4, state)
    for _ in range(3):
        state = advance(state)
    checkpointer.finish()
    restored = checkpointer.resume(abstract_state())
    assert restored is not None
    assert (restored.step, restored.warnings) == (4, ())
    assert bits(restored.state) == expected
    assert len({jax.tree.structure(tree) for tree in (restored.state, state)}) == 1


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_save_on_eight_devices_restores_on_fewer(tmp_path: Path, devices: int) -> None:
    checkpointer = _open(tmp_path)
    checkpointer.save(0, make_state(step=0))
    checkpointer.finish()
    restored = checkpointer.resume(abstract_state(devices))
    assert restored is not None
    assert bits(restored.state) == bits(make_state(step=0))
    wanted = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(devices))
    assert jax.tree.map(lambda leaf: leaf.sharding, restored.state) == wanted


def test_each_save_tells_what_it_cost(tmp_path: Path) -> None:
    checkpointer = _open(tmp_path)
    for step in range(3):
        checkpointer.save(step, make_state(step))
    checkpointer.finish()
    assert [save.step for save in checkpointer.saves] == [0, 1, 2]
    for save in checkpointer.saves:
        assert save.bytes == sum(map(len, bits(make_state(0)).values()))
        assert 0 <= save.waited_for_previous_seconds <= save.blocking_seconds
        assert save.background_seconds is not None
        assert save.background_seconds > 0
    assert checkpointer.saves[1].waited_for_previous_seconds > 0


def test_a_save_in_the_foreground_leaves_nothing_to_the_background(tmp_path: Path) -> None:
    checkpointer = _open(tmp_path, async_=False)
    checkpointer.save(0, make_state(0))
    assert checkpointer.saves[0].background_seconds == 0
    assert _steps(tmp_path) == ["0"]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {0, 1, 2, 3, 4, 5, 6}),
        ({"keep_last": 2}, {5, 6}),
        ({"keep_last": 1, "keep_every": 3}, {0, 3, 6}),
        ({"keep_last": 2, "keep_every": 4}, {0, 4, 5, 6}),
        # As AXLearn's: after 2, 4 and 6 steps, each at least 3 after the last that stays.
        ({"keep_last": 1, "keep_every": 3, "first": False, "period": 2}, {1, 5, 6}),
    ],
)
def test_what_is_kept(tmp_path: Path, settings: dict[str, int], kept: set[int]) -> None:
    checkpointer = _open(tmp_path, async_=False, **{"period": 1, **settings})
    for step in range(7):
        if checkpointer.due(step, 6):
            checkpointer.save(step, make_state(step))
    assert set(map(int, _steps(tmp_path))) == kept


def test_the_metadata_tells_the_writer_and_the_place_in_the_data(tmp_path: Path) -> None:
    checkpointer = _open(tmp_path, async_=False)
    checkpointer.save(4, make_state(4))
    metadata = json.loads((tmp_path / "4" / "metadata" / "metadata").read_text())
    assert metadata["step"] == 4
    assert metadata["data"] == {"next_batch": 5}
    assert {key: metadata[key] for key in ABOUT} == ABOUT
    assert len(metadata["digests"]) == len(jax.tree.leaves(make_state(4)))


def test_only_what_was_never_committed_is_deleted(tmp_path: Path) -> None:
    others = ["0.orbax-checkpoint-tmp", "3.bad", "5.bad2", "notes"]
    for name in others:
        (tmp_path / name).mkdir()
    checkpointer = _open(tmp_path)
    checkpointer.save(0, make_state(0))
    checkpointer.finish()
    assert _steps(tmp_path) == ["0", "3.bad", "5.bad2", "notes"]


def test_a_state_of_another_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not that after step 7"):
        _open(tmp_path).save(7, make_state(4))


def test_a_failure_in_the_background_is_raised_at_the_next_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = _open(tmp_path)
    checkpointer.save(0, make_state(0))
    checkpointer.finish()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise OSError("tensorstore: No space left on device [spec=...]")

    monkeypatch.setattr(checkpointer._manager, "wait_until_finished", fail)
    monkeypatch.setattr(checkpointer._manager, "save", lambda *_, **__: None)
    checkpointer.save(1, make_state(1))
    assert failed.wait(10)
    with pytest.raises(CheckpointError, match=r"1: not committed: No space left on device$"):
        _check_until_done(checkpointer)
    checkpointer.finish()  # told once


def _check_until_done(checkpointer: Checkpointer) -> None:
    for _ in range(1000):
        checkpointer.check()
        threading.Event().wait(0.01)


def test_a_wait_is_bounded_and_says_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = _open(tmp_path)
    checkpointer.save(0, make_state(0))
    checkpointer.finish()
    never = threading.Event()
    monkeypatch.setattr(checkpointer._manager, "wait_until_finished", never.wait)
    monkeypatch.setattr(checkpointer._manager, "save", lambda *_, **__: None)
    checkpointer.save(1, make_state(1))
    checkpointer._timeout_seconds = 0.05
    with pytest.raises(CheckpointError, match=r"/1: not committed: .*waited 0.05 seconds"):
        checkpointer.finish()
    never.set()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/checkpoints: .* cannot be written there: Not a dir"):
        _open(tmp_path / "file" / "checkpoints")


def test_a_folder_that_another_run_uses(tmp_path: Path) -> None:
    first = _open(tmp_path, async_=False)
    first.save(0, make_state(0))
    with pytest.raises(UserError, match="already holds checkpoints of 03_dropout; resume"):
        _open(tmp_path)
    again = Checkpointer(tmp_path, Checkpoint(), ABOUT)
    again.open(resume=True)


def test_nothing_is_touched_when_checkpoints_are_off(tmp_path: Path) -> None:
    checkpointer = _open(tmp_path / "new", enabled=False)
    assert not checkpointer.enabled
    assert not (tmp_path / "new").exists()


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, harness.saving.checkpointer;"
        "print([name for name in ('orbax', 'tensorstore', 'flax') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_preloading_leaves_the_first_save_nothing_to_import() -> None:
    checkpointer.preload()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    assert "orbax.checkpoint" in sys.modules
