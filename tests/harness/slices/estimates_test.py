"""What is expected of a candidate before it is compiled."""

from dataclasses import replace

import pytest

from harness.cases.reading import RECIPES
from harness.slices.estimates import estimate
from harness.slices.rows import Figures
from harness.slices.space import RECIPE, REMAT, Candidate, Change
from tests.harness.slices.space_test import space

START = Candidate("reference")
ALONE = Figures(1, 2048, step_seconds=0.1, busy_seconds=0.04, least_seconds=0.015, needed_bytes=100)
BATCH = "data.per_device_batch"


def batch(size: int, *settings: tuple[str, str | int]) -> Candidate:
    return Candidate("reference", tuple(sorted([(BATCH, size), *settings])))


def test_of_one_batch_the_computation_grows_and_nothing_else() -> None:
    expected = estimate(space(), {START: ALONE}, START, Change(BATCH, 1, 2))
    assert expected == replace(expected, batch=2, tokens=4096, busy_seconds=0.08, needed_bytes=100)
    assert expected.step_seconds == pytest.approx(0.14)
    assert expected.least_seconds == pytest.approx(0.03)


def test_more_than_twice_the_batch_is_taken_to_need_more() -> None:
    expected = estimate(space(), {START: ALONE}, START, Change(BATCH, 1, 4))
    assert (expected.step_seconds, expected.needed_bytes) == (pytest.approx(0.22), 200)


def test_two_batches_make_a_line() -> None:
    two = Figures(2, 4096, 0.13, 0.08, 0.03, 150)
    known = {START: ALONE, batch(2): two}
    expected = estimate(space(), known, batch(2), Change(BATCH, 2, 8))
    assert (expected.batch, expected.tokens) == (8, 16384)
    assert expected.step_seconds == pytest.approx(0.1 + 7 * 0.03)
    assert expected.needed_bytes == 100 + 7 * 50


def test_what_was_never_tried_is_hoped_for_as_the_roofline_says_or_does_nothing() -> None:
    def hoped(change: Change, alone: Figures = ALONE) -> Figures:
        return estimate(space(by=list(RECIPES)), {START: alone}, START, change)

    assert hoped(Change("model.attention", "auto", "xla")) == ALONE
    recipe = hoped(Change(RECIPE, "reference", "fast"))
    assert (recipe.step_seconds, recipe.needed_bytes) == (0.015, 0)
    unknown = replace(ALONE, least_seconds=0.0)
    assert hoped(Change(RECIPE, "reference", "fast"), unknown).tokens_per_second > 1e9
    kept = hoped(Change(REMAT, "full", "none"))
    assert (kept.step_seconds, kept.needed_bytes) == (pytest.approx(0.1 - 0.04 + 0.015), 0)
    again = hoped(Change(REMAT, "none", "full"))
    assert (again.step_seconds, again.needed_bytes) == (ALONE.step_seconds, 0)


def test_a_change_does_what_it_did_elsewhere() -> None:
    none = Candidate("reference", ((REMAT, "none"),))
    four = Figures(4, 8192, 0.2, 0.16, 0.06, 300)
    known = {
        START: ALONE,
        none: replace(ALONE, step_seconds=0.05, needed_bytes=400),
        batch(4): four,
    }
    expected = estimate(space(), known, batch(4), Change(REMAT, "full", "none"))
    # The same settings with another batch tell more.
    assert expected.step_seconds == pytest.approx(0.05 + 3 * 0.04)
    known[(plain := Candidate("reference", (("model.attention", "xla"),)))] = four
    expected = estimate(space(), known, plain, Change(REMAT, "full", "none"))
    assert (expected.step_seconds, expected.needed_bytes) == (pytest.approx(0.1), 1200)
