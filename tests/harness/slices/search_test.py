"""The search, over steps whose figures a formula tells."""

from collections.abc import Callable, Sequence

import pytest

from harness.cases import reading
from harness.cases.settings import Case
from harness.slices.rows import Figures, Row
from harness.slices.search import Found, front, search
from harness.slices.space import Candidate, Space
from harness.terminal.errors import UserError

GIB = 2**30
CHIPS, LENGTH = 32, 2048
CAPACITY = 32 * GIB


def load(recipe: str, overrides: Sequence[str]) -> Case:
    return reading.load("01_baseline", "full", overrides, recipe)


def load_large(recipe: str, overrides: Sequence[str]) -> Case:
    return load(recipe, ["data.per_device_batch=16", "model.remat=none", *overrides])


def figures(case: Case) -> Figures:
    """A chip's arithmetic: compute with the batch, wire without it; what is kept costs memory."""
    parallel = case.parallel
    parts = CHIPS // (parallel.tensor * parallel.stage)
    sequences = case.data.per_device_batch * parts
    share = sequences / CHIPS
    again = {"full": 4 / 3, "weights": 4 / 3, "none": 1}[case.model.remat]
    plain = 2 if case.model.attention == "xla" else 1
    busy = 0.02 * share * again * plain
    wire = {"full": 0.06, "weights": 0.05, "none": 0.04}[case.model.remat] * parallel.data
    kept = {"full": 0.5, "weights": 0.5, "none": 5.0}[case.model.remat] * share * plain
    held = (0 if case.model.remat == "full" else 2) + parallel.data
    return Figures(
        case.data.per_device_batch,
        share * LENGTH,
        busy + wire + 0.001,
        busy,
        0.015 * share,
        int((kept + held) * GIB),
    )


class Machine:
    """Compiles by the formula, a minute for each that it did not compile before."""

    def __init__(
        self,
        figures: Callable[[Case], Figures] = figures,
        load: Callable[[str, Sequence[str]], Case] = load,
    ) -> None:
        self.space = Space(load, ["reference"])
        self.now = 0.0
        self.compiled: dict[Candidate, Row] = {}
        self._figures = figures

    def ask(self, candidate: Candidate) -> Row:
        case = self.space.case(candidate)
        if CHIPS % (case.parallel.data * case.parallel.tensor):
            raise UserError("parallel: must multiply to 32, the number of devices")
        if candidate not in self.compiled:
            self.now += 60
            found = self._figures(case)
            large = found.needed_bytes > CAPACITY
            error = "does not fit: Ran out of memory" if large else None
            self.compiled[candidate] = Row(
                candidate, CAPACITY, None if large else found, error, compile_seconds=60
            )
        return self.compiled[candidate]

    def search(self, minutes: float = 30) -> Found:
        return search(self.space, self.ask, 60 * minutes, lambda: self.now, lambda *_: None)


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine()


@pytest.fixture(scope="module")
def found(machine: Machine) -> Found:
    return machine.search(minutes=40)


def best_of_all(machine: Machine) -> float:
    """By trying everything on the mesh as it is; by the formula, others only add."""
    speeds = []
    for batch in (1, 2, 4, 8, 16, 32, 64):
        for remat in ("full", "weights", "none"):
            settings = {"data.per_device_batch": batch, "model.remat": remat}
            one = figures(load("reference", [f"{key}={new}" for key, new in settings.items()]))
            if one.needed_bytes <= CAPACITY:
                speeds.append(one.tokens_per_second)
    return max(speeds)


def test_the_fastest_that_fits_is_found_without_compiling_all(
    machine: Machine, found: Found
) -> None:
    best = front(found.rows)[0]
    assert best.figures is not None
    assert best.figures.tokens_per_second == pytest.approx(best_of_all(machine))
    assert not found.untried
    assert best in found.rows[:8]
    assert len(found.rows) <= 31
    assert found.rows[0].candidate == machine.space.start


def test_no_row_of_the_front_is_beaten_and_each_other_one_is(found: Found) -> None:
    best = front(found.rows)
    tried = [row.figures for row in found.rows if row.figures is not None]
    for row in found.rows:
        if row.figures is not None:
            beaten = any(other.beats(row.figures) for other in tried)
            assert beaten == (row not in best)
    speeds = [row.figures.tokens_per_second for row in best if row.figures is not None]
    assert speeds == sorted(speeds, reverse=True)


def test_what_is_impossible_or_not_worth_it_is_told_and_not_compiled(found: Found) -> None:
    reasons = [*found.spared.values()]
    for told in ("would need about", "slower than the case as it is", "and needs no less"):
        assert any(told in why for why in reasons)
    assert not {*found.spared} & {row.candidate for row in found.rows}


def test_a_search_ends_in_time_and_goes_on_where_it_ended(found: Found) -> None:
    machine = Machine()
    short = machine.search(minutes=5)
    assert len(short.rows) == 5
    assert short.seconds <= 5 * 60
    assert short.untried
    assert machine.search(minutes=40).rows == found.rows
    assert len(machine.compiled) == len(found.rows)


def test_a_candidate_that_fails_costs_no_other_one() -> None:
    machine = Machine()

    def ask(candidate: Candidate) -> Row:
        if "model.remat=none" in candidate.overrides:
            raise RuntimeError("INTERNAL: a fault\nof many lines")
        return machine.ask(candidate)

    found = search(machine.space, ask, 1800, lambda: machine.now, lambda *_: None)
    assert [*found.refused.values()] == ["RuntimeError: INTERNAL: a fault of many lines"]
    assert front(found.rows)

    def broken(candidate: Candidate) -> Row:
        raise UserError("parallel: must multiply to 32, the number of devices")

    with pytest.raises(UserError, match="must multiply to 32"):
        search(machine.space, broken, 1800, lambda: machine.now, lambda *_: None)


def test_of_a_case_that_does_not_fit_what_fits_is_found(machine: Machine) -> None:
    found = Machine(load=load_large).search()
    assert not found.rows[0].fits
    best = front(found.rows)[0]
    assert best.figures is not None
    assert best.figures.tokens_per_second >= 0.9 * best_of_all(machine)


def test_where_nothing_fits_the_time_is_spent_and_there_is_no_front() -> None:
    found = Machine(lambda case: Figures(1, 2048, 1, 1, 1, CAPACITY + 1)).search(minutes=6)
    assert [row.fits for row in found.rows] == [False] * 6
    assert front(found.rows) == []
