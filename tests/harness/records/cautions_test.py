import re

import pytest

from harness.records.cautions import Caution


def test_a_warning_says_what_is_particular_and_what_helps() -> None:
    assert Caution.UNTIMED.told(enough=4) == (
        "no step was timed: the first three and those after a save do not count;"
        " run more than 4 steps"
    )
    assert Caution.PROFILED.told(first=3, last=5).startswith("steps 3 to 5 ran under the profiler")


@pytest.mark.parametrize("caution", Caution)
def test_every_warning_is_one_line_once_its_places_are_filled(caution: Caution) -> None:
    words, help_ = caution.value
    places = {re.split("[!:.]", place)[0] for place in re.findall(r"\{([^}]*)\}", words + help_)}
    told = caution.told(**dict.fromkeys(places, 1.0))
    assert told.isprintable()
    assert not set("{}") & set(told)
    assert told.endswith("; " + help_.format(**dict.fromkeys(places, 1.0))) == bool(help_)
    if places:
        with pytest.raises(KeyError):
            caution.told()
