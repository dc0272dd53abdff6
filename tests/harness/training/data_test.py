from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from harness.cases import reading
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from harness.training import data
from harness.training.parallel import mesh


def case(*overrides: str) -> Case:
    return reading.load("01_baseline", "tiny", ["data.sequence_length=7", *overrides])


@pytest.fixture(scope="module")
def grid() -> mesh.Grid:
    return mesh.make(case(), jax.devices())


def test_the_batch_is_given_or_a_share_of_each_device() -> None:
    assert data.global_batch(case("data.per_device_batch=3"), 8) == 24
    assert data.global_batch(case("data.global_batch=16"), 8) == 16
    with pytest.raises(UserError, match=r"^data.global_batch=12: must be a multiple of the 8"):
        data.global_batch(case("data.global_batch=12"), 8)


def test_targets_are_the_inputs_one_position_on_and_every_device_has_its_share(
    grid: mesh.Grid,
) -> None:
    made, told = data.make_batch(case(), grid), data.abstract_batch(case(), grid)
    inputs, targets = (np.asarray(made[name]) for name in ("inputs", "targets"))
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    assert (inputs.min(), inputs.max() < 256) == (inputs.min(), True)
    assert len(np.unique(inputs)) > 20
    for name, array in made.items():
        assert (array.shape, array.dtype) == ((8, 7), np.int32)
        assert array.addressable_shards[0].data.shape == (1, 7)
        assert (told[name].shape, told[name].dtype) == (array.shape, array.dtype)
        assert told[name].sharding == array.sharding


def test_microbatches_are_parts_of_the_batch_in_its_order_and_divided_alike(
    grid: mesh.Grid, tmp_path: Path
) -> None:
    divided = case("data.global_batch=16", "data.microbatches=2")
    whole = np.asarray(data.make_batch(case("data.global_batch=16"), grid)["inputs"])
    made, told = data.make_batch(divided, grid), data.abstract_batch(divided, grid)
    np.testing.assert_array_equal(made["inputs"], whole.reshape(2, 8, 7))
    assert made["inputs"].addressable_shards[0].data.shape == (2, 1, 7)
    assert told["inputs"].shape == (2, 8, 7)
    assert told["inputs"].sharding == made["inputs"].sharding
    tokens = np.arange(3 * 16 * 8).reshape(3, 16, 8) % 256
    np.save(tmp_path / "tokens.npy", tokens)
    given = data.make_batch(
        case(
            "data.microbatches=2", f"data.tokens={tmp_path / 'tokens.npy'}", "data.global_batch=16"
        ),
        grid,
    )
    second = data.picked(given, 4, 3)["targets"]
    np.testing.assert_array_equal(second, tokens[1, :, 1:].reshape(2, 8, 7))


def test_microbatches_that_the_devices_cannot_share_are_one_line() -> None:
    told = r"^data.microbatches=4: must divide the 16 sequences of a step into parts that 8 devices"
    with pytest.raises(UserError, match=told):
        data.global_batch(case("data.global_batch=16", "data.microbatches=4"), 8)


def test_the_seed_alone_tells_the_tokens(grid: mesh.Grid) -> None:
    first, same, other = (
        np.asarray(data.make_batch(one, grid)["inputs"])
        for one in (case(), case(), case("run.seed=1"))
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.9


def test_given_tokens_are_those_of_the_file(grid: mesh.Grid, tmp_path: Path) -> None:
    tokens = np.arange(64, dtype=np.int64).reshape(8, 8)
    np.save(tmp_path / "tokens.npy", tokens)
    made = data.make_batch(case(f"data.tokens={tmp_path / 'tokens.npy'}"), grid)
    np.testing.assert_array_equal(made["inputs"], tokens[:, :-1])
    np.testing.assert_array_equal(made["targets"], tokens[:, 1:])


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (np.zeros((8, 7), np.int32), r"holds int32 \[8, 7\], must be integers \[B, 8\] \(B, "),
        (np.zeros((8, 8), np.float32), "holds float32"),
        (np.full((8, 8), 256), r"inputs must lie in \[0, model.vocab=256\)"),
        (np.full((8, 8), -1), r"inputs must lie in \[0, model.vocab=256\)"),
        (b"no array", "not readable as .npy"),
        (None, "not readable as .npy"),
    ],
)
def test_tokens_that_cannot_be_trained_on_are_one_line(
    grid: mesh.Grid, tmp_path: Path, tokens: Any, told: str
) -> None:
    path = tmp_path / "tokens.npy"
    if isinstance(tokens, bytes):
        path.write_bytes(tokens)
    elif tokens is not None:
        np.save(path, tokens)
    with pytest.raises(UserError, match=f"^data.tokens=.*{told}"):
        data.make_batch(case(f"data.tokens={path}"), grid)


def test_a_family_makes_its_own_batch(grid: mesh.Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cases import families

    def batch(model: Any, generator: np.random.Generator, count: int, length: int) -> Any:
        return {"images": generator.normal(size=(count, length, 2)).astype(np.float32)}

    family = replace(families.load(None), batch=batch)
    monkeypatch.setattr(families, "of", lambda case: family)
    made, told = data.make_batch(case(), grid), data.abstract_batch(case(), grid)
    assert {name: array.shape for name, array in made.items()} == {"images": (8, 7, 2)}
    assert told["images"].shape == (8, 7, 2)
