"""How two sides draw their random numbers, by their records."""

from typing import Any

import pytest
from compared_records import make

from harness.comparing import draws

MISSING = object()  # as in an older record


def side(keys: Any, aligned: bool, twins: str | None = "mine") -> dict[str, Any]:
    made = make()
    made["case"]["config"] |= {"run.align_random": aligned, "twins": twins}
    if keys is not MISSING:
        made["model"]["random_keys"] = keys
    return made


@pytest.mark.parametrize(
    ("a", "b", "aligned", "found"),
    [
        ("a", "b", False, "own"),
        ("a", "a", False, ""),
        ("a", None, False, ""),  # a side that lost its dropout is no matter of keys
        (None, None, False, ""),
        (MISSING, "b", False, ""),
        ("a", "b", True, "aligned"),
        ("a", "a", True, ""),  # nothing was to be aligned
        (None, None, True, ""),
        (MISSING, MISSING, True, "aligned"),
    ],
)
def test_losses_may_part_by_keys_of_ones_own(a: Any, b: Any, aligned: bool, found: str) -> None:
    assert draws.of(side(a, aligned), side(b, aligned)) == found
    assert draws.of(side(a, aligned, None), side(b, aligned, None)) == ""
