"""Restoring: damage is named and set aside, what does not fit is refused, others' are read."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_states import CASE, abstract_state, bits, make_state

from harness.cases.settings import Checkpoint
from harness.saving import restoring
from harness.saving.checkpointer import Checkpointer
from harness.saving.faults import CheckpointError
from harness.terminal.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the steps 0 and 5, from eight devices."""
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpointer = Checkpointer(directory, Checkpoint(), {"case": CASE})
    checkpointer.open()
    for step in (0, 5):
        checkpointer.save(step, make_state(step))
    checkpointer.finish()
    return directory


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """The same, for a test to damage."""
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def _data_file(step: Path) -> Path:
    """The file that holds the most of the arrays' bytes."""
    return max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def _flip_in(step: Path, array: jax.Array) -> None:
    """Flips a bit in the middle of an array's largest stored part, found by its bytes."""
    part = np.asarray(array.addressable_shards[0].data).tobytes()
    for file in (step / "state").rglob("d/*"):
        place = file.read_bytes().find(part[512:1024])
        if place >= 0:
            return _flip(file, place + 100)
    raise AssertionError("the array's bytes are in no file")


def test_the_newest_step_of_a_folder(saved: Path) -> None:
    restored = restoring.restore(saved, abstract_state(), CASE)
    assert (restored.step, restored.path, restored.warnings) == (5, str(saved / "5"), ())
    assert bits(restored.state) == bits(make_state(5))


def test_one_step_of_a_folder(saved: Path) -> None:
    restored = restoring.restore(saved / "0", abstract_state(), CASE)
    assert restored.step == 0
    assert bits(restored.state) == bits(make_state(0))


def test_a_flipped_bit_that_storage_does_not_notice_is_found_by_array(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _flip_in(folder / "5", make_state(5)["opt_state"][0].nu["logits"]["kernel"])
    restored = restoring.restore(folder, abstract_state(), CASE)
    assert restored.step == 0
    assert bits(restored.state) == bits(make_state(0))
    (warning,) = restored.warnings
    assert warning == (
        f"checkpoint {folder}/5: changed since it was saved:"
        " opt_state/0/nu/logits/kernel; renamed 5.bad"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["0", "5.bad"]
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_is_told_by_array(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = _data_file(folder / "5")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    restored = restoring.restore(folder, abstract_state(), CASE)
    assert restored.step == 0
    assert "cannot read " in restored.warnings[0]
    assert "/kernel" in restored.warnings[0]
    assert "\n" not in restored.warnings[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lost", ["metadata", "state", "metadata/metadata", "state/manifest.ocdbt"])
def test_an_incomplete_step_is_set_aside(folder: Path, lost: str) -> None:
    path = folder / "5" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert restoring.restore(folder, abstract_state(), CASE).step == 0
    assert (folder / "5.bad").is_dir()


def test_an_earlier_step_set_aside_is_not_overwritten(folder: Path) -> None:
    (folder / "5.bad").mkdir()
    (folder / "5" / "metadata" / "metadata").unlink()
    restoring.restore(folder, abstract_state(), CASE)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "5.bad", "5.bad2"]


def test_a_step_under_another_number_is_damaged(folder: Path) -> None:
    (folder / "5").rename(folder / "7")
    restored = restoring.restore(folder, abstract_state(), CASE)
    assert restored.step == 0
    assert "it is step 5, renamed" in restored.warnings[0]


def test_a_changed_word_in_the_metadata_is_damage(folder: Path) -> None:
    file = folder / "5" / "metadata" / "metadata"
    file.write_text(file.read_text().replace("03_dropout", "04_dropout"))
    restored = restoring.restore(folder, abstract_state(), CASE)
    assert restored.step == 0
    assert "metadata has changed" in restored.warnings[0]


def test_metadata_of_endless_depth_is_damage(folder: Path) -> None:
    (folder / "5" / "metadata" / "metadata").write_text("[" * 100_000)
    restored = restoring.restore(folder, abstract_state(), CASE)
    assert restored.step == 0
    assert "its metadata cannot be read" in restored.warnings[0]


def test_when_none_is_good_no_run_begins_anew_by_mistake(folder: Path) -> None:
    for step in ("0", "5"):
        _data_file(folder / step).unlink()
    with pytest.raises(
        CheckpointError, match=r"no checkpoint is good: .*5: cannot read.*0: cannot"
    ):
        restoring.restore(folder, abstract_state(), CASE)
    with pytest.raises(CheckpointError, match=r"no checkpoint is good, only 0.bad, 5.bad are left"):
        restoring.restore_newest(folder, abstract_state(), CASE)


def test_a_damaged_step_that_was_asked_for_is_not_replaced(folder: Path) -> None:
    _data_file(folder / "5").unlink()
    with pytest.raises(CheckpointError, match="5: cannot read"):
        restoring.restore(folder / "5", abstract_state(), CASE)
    assert (folder / "5").is_dir()


def test_what_is_denied_is_not_taken_for_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path, *_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(PermissionError):
        restoring.restore(folder, abstract_state(), CASE)
    assert (folder / "5").is_dir()


OTHER = CASE | {"hash": "b" * 64, "config": {"model.dropout_rate": 0.0}}


def test_a_run_does_not_go_on_in_another_case(saved: Path) -> None:
    with pytest.raises(UserError, match=r"of another case, 03_dropout \(model.dropout_rate=0.1 th"):
        restoring.restore_newest(saved, abstract_state(), OTHER)
    assert (saved / "5").is_dir()


@pytest.mark.parametrize(
    ("case", "what", "taken"),
    [
        (CASE, None, "all"),
        (CASE, "all", "all"),
        (CASE, "params", "params"),
        (OTHER, None, "params"),
        (OTHER, "params", "params"),
        (OTHER, "all", "all"),
    ],
)
@pytest.mark.parametrize("place", ["", "5"])
def test_what_is_taken_of_a_checkpoint_is_told(
    saved: Path, case: Any, what: Any, taken: str, place: str
) -> None:
    restored = restoring.restore(saved / place, abstract_state(), case, what)
    whole = make_state(5)
    expected = whole if taken == "all" else {"params": whole["params"]}
    assert bits(restored.state) == bits(expected)
    assert restored.step == (5 if taken == "all" else None)
    told = " ".join(restored.warnings)
    if case is CASE and taken == "all":
        assert told == ""
    else:
        assert ("of the same case" if case is CASE else "of another case, 03_dropout (") in told
        assert ("its whole state" if taken == "all" else "only its parameters") in told


def test_damage_among_the_parameters_alone_is_found(folder: Path) -> None:
    _flip_in(folder / "5", make_state(5)["params"]["logits"]["kernel"])
    restored = restoring.restore(folder, abstract_state(), OTHER)
    assert bits(restored.state) == bits({"params": make_state(0)["params"]})
    assert "changed since it was saved: params/logits/kernel" in restored.warnings[0]
    assert "checkpoints/0: of another case" in restored.warnings[1]


def test_about_reads_the_newest_that_can_be_read(folder: Path) -> None:
    (folder / "5" / "metadata" / "metadata").unlink()
    found = restoring.about(folder)
    assert found is not None
    assert (found["step"], found["case"]) == (0, CASE)
    assert restoring.about(folder / "nowhere") is None


def test_a_checkpoint_of_other_shapes_tells_the_array(saved: Path) -> None:
    state = abstract_state()
    scale = state["params"]["decoder"]["scale"]
    state["params"]["decoder"]["scale"] = jax.ShapeDtypeStruct(
        (32,), jnp.bfloat16, sharding=scale.sharding
    )
    message = r"params/decoder/scale is float32\[16\], this run needs bfloat16\[32\]"
    with pytest.raises(UserError, match=message):
        restoring.restore(saved, state, CASE)


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_a_folder_without_checkpoints(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"{missing}: (does not exist|holds no checkpoint); give"):
        restoring.restore(tmp_path / missing, abstract_state(), CASE)
    assert restoring.restore_newest(tmp_path / missing, abstract_state(), CASE) is None


def _save_as_maxtext(directory: Path, form: str) -> dict[str, bytes]:
    """Saves a state as MaxText does; returns the bits of its parameters."""
    state = make_state(3, devices=1)
    adam, empty, count = state["opt_state"]
    tree = {
        "step": state["step"],
        "params": {"params": state["params"]},
        "opt_state": (
            adam._replace(mu={"params": adam.mu}, nu={"params": adam.nu}),
            empty,
            count,
        ),
    }
    if form == "nnx":
        tree["nnx_aux"] = {"rngs": {"dropout": {"key": jnp.zeros(4, jnp.uint32)}}}
    with ocp.CheckpointManager(directory, item_names=("items",)) as manager:
        manager.save(3, args=ocp.args.Composite(items=ocp.args.PyTreeSave(tree)))
    return bits(state["params"])


@pytest.mark.parametrize("form", ["linen", "nnx"])
@pytest.mark.parametrize("place", ["", "3"])
def test_maxtext_gives_initial_parameters(tmp_path: Path, form: str, place: str) -> None:
    expected = _save_as_maxtext(tmp_path, form)
    restored = restoring.restore(tmp_path / place, abstract_state(), CASE)
    assert restored.step is None
    assert list(restored.state) == ["params"]
    assert bits(restored.state["params"]) == expected
    assert "another program's checkpoint, without digests" in restored.warnings[0]


def test_maxtext_of_other_shapes(tmp_path: Path) -> None:
    _save_as_maxtext(tmp_path, "linen")
    state = abstract_state()
    kernel = state["params"]["logits"]["kernel"]
    state["params"]["logits"]["kernel"] = jax.ShapeDtypeStruct(
        (64, 128), kernel.dtype, sharding=kernel.sharding
    )
    with pytest.raises(UserError, match=r"params/logits/kernel is float32.64, 64., this run needs"):
        restoring.restore(tmp_path, state, CASE)


def test_a_damaged_checkpoint_of_another_program_is_left_alone(tmp_path: Path) -> None:
    _save_as_maxtext(tmp_path, "linen")
    for file in tmp_path.rglob("manifest.ocdbt"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*; left as it is"):
        restoring.restore(tmp_path, abstract_state(), CASE)
    assert (tmp_path / "3").is_dir()
