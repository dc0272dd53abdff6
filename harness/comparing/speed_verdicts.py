"""Speed in words: better or worse only by turns or by repeats, never by one run a side."""

from harness.comparing.model import Outcome, Speed, Verdict
from harness.comparing.statistics import Ratio
from harness.terminal.text import counted, percent

_MANY = 5000  # blocks or runs that nobody would call few


def judge(
    area: str, what: str, speed: Speed, names: tuple[str, str], margin_percent: float
) -> Verdict:
    """The verdict of one area; `what` was timed, such as "step time"."""
    measured = None if speed.ratio is None else _measured(what, speed, speed.ratio)
    if speed.one_program:
        worth = "one run a side says little" if speed.by == "one run" else "measured"
        remark = "" if measured is None else f"; {worth}: {measured}"
        return Verdict(area, "same", f"the same: one program{remark}")
    if speed.ratio is None or measured is None:
        return Verdict(area, "unknown", f"not enough to say: no {what} on both sides")
    if speed.by == "one run":
        advice = f": {speed.advice}" if speed.advice else ""
        return Verdict(area, "unclear", f"one run a side does not show it{advice}; {measured}")
    direction = speed.ratio.direction
    if direction == "unclear":
        only = "as they vary so much, only " if (speed.ratio.needed or 0) > _MANY else ""
        would = f"; {only}{speed.advice}" if speed.advice else ""
        return Verdict(area, "unclear", f"not enough to say: {measured}{would}")
    if direction == "alike":
        return Verdict(area, "same", f"alike within {margin_percent:g} %: {measured}")
    slower = direction == "higher"
    words = f"{names[1]} is {'slower' if slower else 'faster'} than {names[0]}: {measured}"
    outcome: Outcome = "worse" if slower else "better"
    return Verdict(area, outcome, words, regression=slower and area == "speed")


def _measured(what: str, speed: Speed, ratio: Ratio) -> str:
    """Such as "step time +5.1 % (+4.2 % to +6.0 %; 24 blocks each, in turns)"."""
    counts = (
        counted(ratio.samples_a, speed.unit) + " each"
        if ratio.samples_a == ratio.samples_b
        else f"{ratio.samples_a} and {counted(ratio.samples_b, speed.unit)}"
    )
    about = [counts + (", in turns" if speed.by == "turns" else "")]
    if ratio.low is not None and ratio.high is not None and speed.by != "one run":
        about.insert(0, f"{percent(ratio.low)} to {percent(ratio.high)}")
    return f"{what} {percent(ratio.value)} ({'; '.join(about)})"
