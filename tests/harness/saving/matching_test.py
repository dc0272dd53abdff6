from pathlib import Path

import jax
import numpy as np
import pytest

from harness.saving import files, matching
from harness.saving.files import StoredStep
from harness.saving.matching import Pair

Arrays = dict[str, np.ndarray]
DRAWN = np.random.default_rng(0).normal(size=(3, 4, 5))
A, B, C = DRAWN


def matched(monkeypatch: pytest.MonkeyPatch, one: Arrays, other: Arrays) -> matching.Matching:
    """The pairs of two checkpoints that hold these arrays."""
    steps = [StoredStep(Path(name), 0, {}, None) for name in ("one", "other")]
    held = dict(zip(map(id, steps), (one, other), strict=True))

    def described(step: StoredStep) -> dict[str, jax.ShapeDtypeStruct]:
        arrays = held[id(step)]
        return {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}

    monkeypatch.setattr(files, "described", described)
    monkeypatch.setattr(
        files, "read_arrays", lambda step, wanted: {name: held[id(step)][name] for name in wanted}
    )
    return matching.by_value(*steps)


def test_equal_names_are_pairs() -> None:
    found = matching.by_name(["a", "c", "b"], ["b", "d", "a"])
    assert found.pairs == [Pair("a", "a"), Pair("b", "b")]
    assert (found.only_one, found.only_other) == (["c"], ["d"])


def test_equal_bits_are_pairs_whatever_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched(monkeypatch, {"a": A, "b": B, "c": C}, {"x": C, "y": A, "b": B})
    assert found.pairs == [Pair("a", "y"), Pair("b", "b"), Pair("c", "x")]
    assert found.only_one == found.only_other == []


def test_among_equal_bits_equal_names_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched(monkeypatch, {"a": A, "b": A}, {"b": A, "c": A, "d": A})
    assert found.pairs == [Pair("a", "c", 1), Pair("b", "b", 1)]
    assert found.only_other == ["d"]


def test_a_name_counts_more_than_near_values(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched(monkeypatch, {"a": A, "b": B}, {"a": B * 1.001, "x": A * 1.001})
    assert found.pairs == [Pair("a", "a")]
    assert (found.only_one, found.only_other) == (["b"], ["x"])


def test_near_values_of_one_shape_are_pairs_the_nearest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = {"a": A, "b": A * 1.02, "c": C}
    found = matched(monkeypatch, one, {"x": A * 1.021, "y": A * 1.004, "z": 2 * C})
    assert found.pairs == [Pair("a", "y"), Pair("b", "x")]
    assert (found.only_one, found.only_other) == (["c"], ["z"])


def test_a_shape_that_changed_under_its_name_is_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched(monkeypatch, {"a": A}, {"a": A[:2]})
    assert found.pairs == [Pair("a", "a")]


def test_what_is_not_finite_is_near_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = matched(monkeypatch, {"a": A}, {"x": np.where(A > 0, np.nan, A)})
    assert (found.pairs, found.only_one, found.only_other) == ([], ["a"], ["x"])
