"""Numbers of documents are equal as far as their digits tell, and no further."""

import pytest
from compared_records import Record, imported, make

from harness.comparing import digits, parity


def log(losses: list[float], kind: str = "Megatron-LM log") -> Record:
    made = imported() | {"source": {"kind": kind}}
    made["steps"] = made["steps"][: len(losses)]
    for entry, loss in zip(made["steps"], losses, strict=True):
        entry["loss"] = loss
    return made


def test_two_logs_that_part_in_the_fourth_digit_are_not_equal() -> None:
    a = log([6.89, 6.88, 6.87, 6.86, 6.85])
    b = log([6.89, 6.88, 6.87, 6.86, 6.8504])
    found = parity.compare(a, b)
    assert (found.loss.first_step, found.loss.largest) == (4, pytest.approx(0.0004))
    assert found.digits == 4
    assert parity.compare(a, a).loss.equal


@pytest.mark.parametrize(
    ("exact", "told", "equal"),
    [
        (10.88949, [10.889, 0.512], True),  # three digits after the point
        (10.88951, [10.889, 0.512], False),
        (10.851234, [10.85123, 6.850412], True),  # seven significant ones
        (10.851236, [10.85123, 6.850412], False),
        (10.889, [10.889, 0.512], True),
    ],
)
def test_a_document_and_a_run(exact: float, told: list[float], equal: bool) -> None:
    run = make()
    run["steps"] = run["steps"][:2]
    for entry, loss in zip(run["steps"], [exact, told[1]], strict=True):
        entry["loss"] = loss
    for sides in ((run, log(told)), (log(told), run)):
        assert parity.compare(*sides).loss.equal is equal


def test_documents_of_two_kinds_agree_to_the_coarser() -> None:
    fine, coarse = log([6.850412, 6.840399]), log([6.850, 6.84, 6.123][:2], "MaxText log")
    assert digits.told(fine, coarse, "loss") == 2
    assert parity.compare(fine, coarse).loss.equal
    assert not parity.compare(fine, log([6.86, 6.84], "MaxText log")).loss.equal


def test_what_is_exact_has_no_room() -> None:
    assert digits.of(make(), "loss") is None
    assert digits.told(make(), make(), "loss") is None
    assert digits.allowed(make(), make(), "loss")(1.0, 1.0) == 0
    assert digits.of(imported(), "grad_norm") is None
