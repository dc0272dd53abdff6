"""Speed in words: what each kind of evidence lets a verdict say."""

from typing import Any

import pytest

from harness.comparing import speed_verdicts
from harness.comparing.model import Speed, Verdict
from harness.comparing.statistics import Ratio

SLOWER = Ratio(1.05, 1.04, 1.06, 0.001, 24, 24, "higher", None)
OPEN = Ratio(1.01, 0.99, 1.03, 0.2, 24, 24, "unclear", 9000)


def judged(ratio: Ratio | None, by: Any, area: str = "speed", same: bool = False) -> Verdict:
    speed = Speed(ratio, by, "block", same, "about 9000 blocks would do")
    return speed_verdicts.judge(area, "step time", speed, ("linen", "nnx"), 1.0)


@pytest.mark.parametrize("by", ["turns", "runs"])
def test_turns_and_repeats_decide(by: str) -> None:
    found = judged(SLOWER, by)
    assert (found.outcome, found.regression) == ("worse", True)
    assert found.words.startswith("nnx is slower than linen: step time +5.0 % (+4.0 % to +6.0 %")
    assert judged(OPEN, by).words.endswith(
        "; as they vary so much, only about 9000 blocks would do"
    )


def test_one_run_a_side_and_one_program_decide_nothing_against_anyone() -> None:
    alone = judged(SLOWER, "one run")
    assert (alone.outcome, alone.regression) == ("unclear", False)
    assert "+4.0 %" not in alone.words  # an interval of steps is none of runs
    proved = judged(SLOWER, "turns", same=True)
    assert (proved.outcome, proved.regression) == ("same", False)
    assert proved.words.startswith("the same: one program; measured: step time +5.0 %")
    assert judged(None, "one run", same=True).words == "the same: one program"


def test_calls_that_cost_more_fail_no_gate() -> None:
    found = judged(SLOWER, "runs", area="host dispatch")
    assert (found.outcome, found.regression) == ("worse", False)


def test_nothing_measured_is_not_known() -> None:
    assert judged(None, "runs").outcome == "unknown"
