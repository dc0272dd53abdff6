from dataclasses import replace

from compared_records import make

from harness.comparing import comparison
from harness.comparing.comparability import Difference
from harness.comparing.model import Row, Verdict

FOUND = comparison.compare([make()], [make()])


def test_one_severe_difference_makes_runs_not_comparable() -> None:
    mild, severe = Difference("a", 1, 2, "mild"), Difference("b", 1, 2, "severe")
    assert replace(FOUND, differences=(mild,)).comparable
    assert not replace(FOUND, differences=(mild, severe)).comparable


def test_one_regression_is_enough() -> None:
    fine, regression = Verdict("memory", "same", ""), Verdict("speed", "worse", "", True)
    assert not replace(FOUND, verdicts=(fine,)).regressed
    assert replace(FOUND, verdicts=(fine, regression)).regressed


def test_what_no_ratio_tells_is_unlike() -> None:
    found = {
        (a, b): Row("", "", a, b, None, None, None, None).is_unlike
        for a, b in (("0.9", "0.9"), ("0.9", "1.0"), (0.0, 1.0), (0.0, 0.0), (1.0, 2.0))
    }
    assert [*found.values()] == [False, True, True, False, False]
