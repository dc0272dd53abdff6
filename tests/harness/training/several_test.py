"""Several runs of one command: which are made, and what ends them."""

from collections.abc import Sequence

import pytest

from harness.training import several
from harness.training.children import Children, Ended


class Told(Children):
    """Children that are not started: they end with the codes given, the last one stopped."""

    def __init__(self, codes: Sequence[int], stopped_after: int = 99) -> None:
        super().__init__([], None)
        self.codes, self.stopped_after = iter(codes), stopped_after
        self.calls: list[tuple[str, ...]] = []

    def run(self, *last: str, keeps_warnings: bool = False) -> Ended:
        self.calls.append(last)
        self.stopped = len(self.calls) >= self.stopped_after
        kept = ("warning: a run's",) if keeps_warnings else ()
        return Ended(next(self.codes), None, kept)


def wanted(repeats: int = 1, in_turns: bool = True) -> several.Wanted:
    return several.Wanted({"A": [], "B": ["--recipe", "fast"]}, repeats, "name", in_turns)


def test_all_variants_are_run_and_then_two_in_turns() -> None:
    told = Told([0] * 5)
    assert several.run(wanted(repeats=2), told) == 0
    names = [call[-1] for call in told.calls[:4]]
    assert names == ["name-A-1", "name-B-1", "name-A-2", "name-B-2"]
    assert told.calls[1][:2] == ("--recipe", "fast")
    assert told.calls[4] == ("--in-turns", "-", "-")


def test_nothing_is_run_in_turns_where_that_is_not_wanted_or_a_run_failed() -> None:
    told = Told([0, 0])
    assert several.run(wanted(in_turns=False), told) == 0
    assert len(told.calls) == 2
    told = Told([1, 0])
    assert several.run(wanted(), told) == 1
    assert len(told.calls) == 2


def test_turns_that_fail_leave_the_runs_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert several.run(wanted(), Told([0, 0, 137])) == 0
    said = capsys.readouterr().out
    assert "not measured in turns: ended with 137" in said
    assert said.count("warning: a run's\n") == 1  # as nothing is compared, which would tell it


def test_once_asked_to_stop_nothing_more_is_run() -> None:
    told = Told([42], stopped_after=1)
    assert several.run(wanted(repeats=2), told) == 42
    assert len(told.calls) == 1


def test_after_bad_input_nothing_more_is_run() -> None:
    told = Told([2])
    assert several.run(wanted(repeats=2), told) == 2
    assert len(told.calls) == 1
