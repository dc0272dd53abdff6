"""Checkpoints of other programs: read where Orbax can, named where not, never called damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from checkpoint_states import CASE, abstract_state, bits, make_state

from harness import checkpoints
from harness.saving import restoring
from harness.terminal.errors import UserError

TREE = {"a": np.arange(8), "b": {"c": np.arange(3.0)}}
TREE_ROWS = ["a int64 [8] 64", "b/c float64 [3] 24"]


def save_directly(path: Path) -> None:
    """As Flax documents it."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, TREE)


def save_in_folders(path: Path) -> None:
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(path, TREE)


def save_in_the_newer_form(path: Path) -> None:
    """With a text, which is no array."""
    handler = ocp.PyTreeCheckpointHandler(use_zarr3=True)
    ocp.Checkpointer(handler).save(path, {**TREE, "text": "words"})


def save_a_step(path: Path) -> None:
    with ocp.CheckpointManager(path) as manager:
        manager.save(3, args=ocp.args.StandardSave(TREE))


def save_named_steps(path: Path) -> None:
    """Of which the tenth is the newest, whatever the alphabet says."""
    options = ocp.CheckpointManagerOptions(step_prefix="step")
    with ocp.CheckpointManager(path, options=options) as manager:
        manager.save(9, args=ocp.args.StandardSave({"old": np.arange(2)}))
        manager.save(10, args=ocp.args.StandardSave(TREE))


def save_with_metadata(path: Path) -> None:
    """Under the very names that a run of ours gives its items."""
    with ocp.CheckpointManager(path, item_names=("state", "metadata")) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(TREE), metadata=ocp.args.JsonSave({"by": "another"})
            ),
        )


def save_with_metadata_in_another_file(path: Path) -> None:
    save_with_metadata(path)
    file = path / "0" / "metadata" / "metadata"
    file.rename(file.with_name("data.json"))


def save_without_metadata(path: Path) -> None:
    with ocp.CheckpointManager(path, item_names=("state",)) as manager:
        manager.save(0, args=ocp.args.Composite(state=ocp.args.StandardSave(TREE)))


def save_without_a_description(path: Path) -> None:
    save_directly(path)
    (path / "_METADATA").unlink()


def save_beside_something_else(path: Path) -> None:
    """An item with a description of no arrays, and one that is no tree at all."""
    save_with_metadata(path)
    (path / "0" / "dummy").mkdir()
    (path / "0" / "dummy" / "_METADATA").touch()
    (path / "0" / "notes").mkdir()
    (path / "0" / "notes" / "notes.txt").write_text("hello")


FORMS = [
    save_directly,
    save_in_folders,
    save_in_the_newer_form,
    save_a_step,
    save_named_steps,
    save_with_metadata,
    save_with_metadata_in_another_file,
    save_without_metadata,
    save_without_a_description,
    save_beside_something_else,
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """The lines that the command prints, with single spaces."""
    assert checkpoints.main([*map(str, arguments)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("save", FORMS, ids=lambda save: save.__name__.removeprefix("save_"))
def test_every_form_is_read(
    save: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "theirs")
    lines = said(capsys, "inspect", tmp_path / "theirs")
    assert lines[0].endswith(": another program's")
    assert lines[2:] == [*TREE_ROWS, "2 arrays, 88 bytes"]
    verdict = said(capsys, "verify", tmp_path / "theirs")[-1]
    assert verdict.endswith(": 2 arrays can be read; another program's, without digests")
    save_directly(tmp_path / "plain")
    same = said(capsys, "diff", tmp_path / "theirs", tmp_path / "plain")[-1]
    assert same == "2 of 2 arrays are equal bit for bit"


def test_several_items_come_under_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ocp.CheckpointManager(tmp_path, item_names=("params", "opt_state")) as manager:
        items = {name: ocp.args.StandardSave({"w": np.ones(4)}) for name in ("params", "opt_state")}
        manager.save(7, args=ocp.args.Composite(**items))
    rows = said(capsys, "inspect", tmp_path)[2:-1]
    assert rows == ["opt_state/w float64 [4] 32", "params/w float64 [4] 32"]


@pytest.mark.parametrize("lost", ["manifest.ocdbt", "d"])
def test_what_cannot_be_read_is_damaged(
    lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_directly(tmp_path / "theirs")
    path = tmp_path / "theirs" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert checkpoints.main(["verify", str(tmp_path / "theirs")]) == 1
    assert "damaged: cannot read a, b/c: " in capsys.readouterr().out


def test_metadata_that_orbax_saved_and_that_is_gone_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_with_metadata(tmp_path)
    shutil.rmtree(tmp_path / "0" / "metadata")
    assert checkpoints.main(["verify", str(tmp_path)]) == 1
    assert "damaged: incomplete: its metadata is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["model-00001-of-00002.safetensors"], "safetensors, as Hugging Face's libraries"),
        (["step_00000010/gda/weight/.zarray"], "checkpoints of AXLearn's own form"),
        (["checkpoint"], "a checkpoint of Flax's or an old Orbax's msgpack form"),
        (["pytorch_model-00001.bin"], "a checkpoint of PyTorch's"),
        (["notes.txt"], "holds no checkpoint; give a folder of checkpoints"),
        (["3/state/notes.txt", "3/metadata/metadata"], None),
    ],
)
def test_what_is_not_read_is_named(files: list[str], words: str | None, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=words or "holds no arrays"):
        checkpoints.main(["verify", str(tmp_path)])


def test_a_file_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        UserError, match=r"model.safetensors: safetensors, .*: not read here, conve"
    ):
        checkpoints.main(["inspect", str(tmp_path / "model.safetensors")])


@pytest.mark.parametrize("description", ["", "[]", '{"tree_metadata": {"a": 1}}'])
def test_a_description_that_is_none_is_one_line(
    description: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_directly(tmp_path / "theirs")
    (tmp_path / "theirs" / "_METADATA").write_text(description)
    assert checkpoints.main(["inspect", str(tmp_path / "theirs")]) == 1
    assert "its _METADATA cannot be read: " in capsys.readouterr().err


def converted(tree: dict[str, Any]) -> dict[str, Any]:
    """What a converter makes of it: other names, one rounded, one changed, one left out."""
    return {
        "head": {"weight": np.asarray(jnp.asarray(tree["logits"], jnp.bfloat16))},
        "blocks": {
            "0": {"w": tree["layer_0"]["kernel"], "g": tree["layer_0"]["scale"]},
            "1": {"w": tree["layer_1"]["kernel"] + np.float32(0.001), "g": np.ones(16, "f4")},
        },
        "step": tree["step"],
    }


def test_diff_pairs_what_a_converter_renamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    tree = {
        "logits": random.normal(size=(16, 8)).astype("f4"),
        "layer_0": {"kernel": random.normal(size=(8, 16)).astype("f4"), "scale": np.ones(16, "f4")},
        "layer_1": {"kernel": random.normal(size=(8, 16)).astype("f4"), "scale": np.ones(16, "f4")},
        "unlike": random.normal(size=(8, 16)).astype("f4"),
        "step": np.arange(1),
    }
    for name, content in (("ours", tree), ("theirs", converted(tree))):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / name, content)
    paths = [str(tmp_path / name) for name in ("ours", "theirs")]
    assert checkpoints.main(["diff", *paths, "--match"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()[2:]
    rows = dict(line.split(": ", 1) for line in (row.replace("(b: ", "(b ") for row in lines))
    assert rows["layer_0/kernel (b blocks/0/w)"] == "equal bit for bit"
    assert rows["layer_0/scale (b blocks/0/g)"] == "equal bit for bit, as are 1 more"
    changed = rows["layer_1/kernel (b blocks/1/w)"]
    assert changed.startswith("128 of 128 elements, ")
    assert float(changed.split()[-1]) == pytest.approx(0.001, rel=1e-3)
    assert rows["logits (b head/weight)"].startswith("float32[16, 8] in a, bfloat16[16, 8] in b, ")
    assert rows["unlike"] == "only in a"
    assert "step" not in rows
    assert last == "4 of 7 arrays are equal bit for bit, 5 pairs have other names"
    assert checkpoints.main(["diff", paths[0], paths[0], "--match"]) == 0
    assert checkpoints.main(["diff", *paths]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 12 arrays are equal bit for bit"


def test_diff_tells_of_a_shape_that_changed_under_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("one", 3), ("other", 4)):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / name, {"w": np.arange(size), "c": np.ones(2) * (1 + 1j)})
    paths = [str(tmp_path / name) for name in ("one", "other")]
    for option in ([], ["--match"]):
        assert checkpoints.main(["diff", *paths, *option]) == 1
        assert capsys.readouterr().out.splitlines()[2] == "w: int64[3] in a, int64[4] in b"


def test_a_run_begins_with_what_flax_documents(tmp_path: Path) -> None:
    params = make_state(3)["params"]
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "theirs", {"params": params})
    restored = restoring.restore(tmp_path / "theirs", abstract_state(), CASE)
    assert (restored.step, list(restored.state)) == (None, ["params"])
    assert bits(restored.state["params"]) == bits(params)


def test_a_run_does_not_begin_without_parameters(tmp_path: Path) -> None:
    save_directly(tmp_path / "theirs")
    with pytest.raises(UserError, match="holds no parameters under params/"):
        restoring.restore(tmp_path / "theirs", abstract_state(), CASE)
