"""Token files: what they may hold, and which batch a step takes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from harness.cases import reading
from harness.terminal.errors import UserError
from harness.training import data
from harness.training.parallel import mesh

TOKENS = np.arange(3 * 8 * 17, dtype=np.int64).reshape(3, 8, 17) % 100


def case(path: Path, name: str = "20_honeycrisp", *more: str) -> Any:
    return reading.load(
        name,
        "tiny",
        ["data.sequence_length=16", "data.global_batch=8", f"data.tokens={path}", *more],
    )


def batch_of(loaded: Any, step: int) -> dict[str, np.ndarray]:
    grid = mesh.make(loaded, jax.devices())
    batches = data.make_batch(loaded, grid)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), batches)
    abstract = data.abstract_batch(loaded, grid)
    assert shapes == jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), abstract)
    return jax.device_get(data.picked(batches, step, data.count(loaded)))


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["01_baseline", "20_honeycrisp"])
def test_one_batch_or_several_in_turn(name: str, tmp_path: Path) -> None:
    one, several = tmp_path / "one.npy", tmp_path / "several.npy"
    np.save(one, TOKENS[1])
    np.save(several, TOKENS)
    for step, path, wanted in ((5, one, 1), (4, several, 1), (6, several, 0)):
        found = batch_of(case(path, name), step)
        np.testing.assert_array_equal(found["inputs"], TOKENS[wanted, :, :-1])
        np.testing.assert_array_equal(found["targets"], TOKENS[wanted, :, 1:])


def test_an_archive_holds_targets_and_segments_of_its_own(tmp_path: Path) -> None:
    inputs, targets = TOKENS[..., :-1], TOKENS[..., :-1] - 1  # -1: none
    segments = np.ones_like(inputs)
    path = saved(tmp_path / "t.npz", inputs=inputs, targets=targets, segments=segments)
    found = batch_of(case(path), 2)
    np.testing.assert_array_equal(found["targets"], targets[2])
    np.testing.assert_array_equal(found["segments"], segments[2])
    alone = saved(tmp_path / "one.npz", inputs=inputs[:1], targets=targets[:1])
    assert batch_of(case(alone), 7).keys() == {"inputs", "targets"}


def test_synthetic_sequences_are_packed_evenly() -> None:
    loaded = reading.load("20_honeycrisp", "tiny", ["data.sequence_length=8", "data.segments=3"])
    grid = mesh.make(loaded, jax.devices()[:1])
    assert data.make_batch(loaded, grid)["segments"].tolist() == [[1, 1, 1, 2, 2, 2, 3, 3]]


GOOD = {"inputs": TOKENS[0, :, :-1], "targets": TOKENS[0, :, 1:]}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"inputs": GOOD["inputs"]}, "holds inputs; must hold inputs, targets and, if need be"),
        (GOOD | {"mask": GOOD["inputs"]}, "must hold inputs, targets and, if need be, segments"),
        (GOOD | {"targets": GOOD["targets"][:4]}, "targets: is [4, 16], must be [8, 16]"),
        (GOOD | {"targets": GOOD["targets"][None]}, "targets: is [1, 8, 16], must be [8, 16]"),
        (GOOD | {"inputs": GOOD["inputs"] * 1.0}, "inputs: holds float64 [8, 16], must be integer"),
        (GOOD | {"inputs": GOOD["inputs"] - 1}, "inputs must lie in [0, model.vocab=128)"),
        (GOOD | {"targets": GOOD["targets"] + 99}, "targets must lie in [0, model.vocab=128)"),
        ({name: array[:, 1:] for name, array in GOOD.items()}, "(B, data.sequence_length)"),
    ],
)
def test_a_file_of_another_case_is_refused(arrays: Any, told: str, tmp_path: Path) -> None:
    loaded = case(saved(tmp_path / "t.npz", **arrays))
    with pytest.raises(UserError) as error:
        data.make_batch(loaded, mesh.make(loaded, jax.devices()))
    assert told in str(error.value)


def test_what_is_no_archive_or_no_family_of_packed_sequences_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 nothing more")
    packed = saved(tmp_path / "packed.npz", **GOOD, segments=GOOD["inputs"])
    none = saved(tmp_path / "none.npz", **GOOD | {"targets": GOOD["targets"] - 1})
    for loaded, told in (
        (case(tmp_path / "t.npz"), "not readable as .npy or .npz"),
        (case(packed, "01_baseline"), "segments: decoder takes one document a sequence"),
        (case(none, "01_baseline"), "targets must lie in [0, model.vocab=256)"),
        (
            reading.load("01_baseline", "tiny", ["data.segments=2"]),
            "data.segments=2: decoder takes one document a sequence",
        ),
    ):
        with pytest.raises(UserError) as error:
            data.make_batch(loaded, mesh.make(loaded, jax.devices()))
        assert told in str(error.value)
    with pytest.raises(UserError, match=r"data\.segments=2: not with data.tokens"):
        case(packed, "20_honeycrisp", "data.segments=2")
