import numpy as np
import pytest

from harness.hlo import values
from harness.hlo.known import Known
from harness.hlo.values import UNKNOWN, Argument, Comparison, Element


@pytest.mark.parametrize(
    ("direction", "first", "step", "limit", "trips"),
    [
        ("LT", 0, 1, 10, 10),
        ("LT", 0, 3, 10, 4),
        ("LE", 0, 3, 9, 4),
        ("GT", 10, -1, 0, 10),
        ("GE", 10, -5, 0, 3),
        ("NE", 0, 2, 10, 5),
        ("NE", 0, 3, 10, None),
        ("LT", 10, 1, 10, 0),
        ("LT", 0, -1, 10, None),
        ("EQ", 0, 1, 0, None),
    ],
)
def test_trips_are_counted_from_a_comparison(
    direction: str, first: int, step: int, limit: int, trips: int | None
) -> None:
    continues = Comparison(direction, Element((0,)), limit)
    after = (Element((0,), step),)
    assert values.trip_count(continues, (first,), after) == trips


def test_a_condition_that_is_no_comparison_of_counters_tells_nothing() -> None:
    assert values.trip_count(UNKNOWN, (0,), (Element((0,), 1),)) is None
    of_data = Comparison("LT", Argument("x"), 3)
    assert values.trip_count(of_data, (0,), (Element((0,), 1),)) is None
    moved = Comparison("LT", Element((0,)), Element((1,)))
    assert values.trip_count(moved, (0, 9), (Element((0,), 1), Element((1,), -1))) == 5


def test_what_a_body_changes_is_unknown() -> None:
    initial = (Argument("w"), 3, Argument("x"))
    after = (Element((0,)), Element((1,), 1), Element((2,), made_of=True))
    assert values.unchanged(after, initial) == (Argument("w"), UNKNOWN, Argument("x"))


def test_a_counter_is_followed_through_all_trips() -> None:
    found = values.at_each_trip((Element((0,), 2), Element((1,))), (4, 7), trips=3, times=1)
    assert isinstance(found, tuple)
    counter, kept = found
    told = values.numbers(counter)
    assert told is not None
    assert told.tolist() == [4, 6, 8]
    assert kept == 7


def test_a_branch_is_given_what_there_is_when_it_is_taken() -> None:
    value = (Known(np.array([1, 2, 3])), 5)
    found = values.where_taken(value, np.array([True, False, True]))
    assert isinstance(found, tuple)
    told = values.numbers(found[0])
    assert told is not None
    assert (told.tolist(), found[1]) == ([1, 3], 5)


def test_an_element_of_a_tuple_is_found_by_its_path() -> None:
    assert values.at((1, (2, 3)), (1, 0)) == 2
    assert values.at(Element((4,)), (1,)) == Element((4, 1))
    assert values.at(Element((4,), offset=1), (1,)) == UNKNOWN
    assert values.of_numbers(np.array([3])) == 3
