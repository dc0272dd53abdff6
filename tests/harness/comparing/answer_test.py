from typing import Any

from compared_records import changed, imported, in_turns, make, other

from harness.comparing import comparison
from harness.comparing.answer import Answer, of_runs
from harness.records.cautions import Caution


def answer(a: Any, b: Any) -> Answer:
    return of_runs(comparison.compare([a], [b]))


def test_the_same_only_where_every_verdict_says_so() -> None:
    found = answer(make(), make(impl="nnx"))
    assert (found.outcome, found.words, found.number) == ("same", "the same", "33 steps")
    unsaved = [make(), make(impl="nnx")]
    for one in unsaved:
        one["checkpoint"]["saves"] = []
    found = answer(*unsaved)
    assert (found.outcome, found.words) == ("unclear", "no difference found; open: checkpoints")


def test_the_same_is_said_of_what_was_compared_alone() -> None:
    b = make(impl="nnx") | {"warnings": [Caution.NOT_COMPARED.told(what="evaluations")]}
    assert answer(make(), b).words == "the same where compared"
    b["warnings"] = [Caution.DIFFERING.told(what="linen and nnx are evaluated otherwise")]
    assert answer(make(), b).words == "not the same numbers"
    assert "33 steps" not in answer(make(), b).number


def test_of_losses_that_part_the_largest_difference_is_the_number() -> None:
    b = make(impl="nnx")
    b["steps"][7]["loss"] += 0.25
    found = answer(make(), b)
    assert (found.outcome, found.number) == ("different", "0.25")
    assert found.words == "not the same numbers"
    assert "step 7" in found.about
    b["steps"][7]["loss"] = None
    assert answer(make(), b).number == "not finite"


def test_equal_losses_are_not_the_number_where_something_else_parts() -> None:
    b = make(impl="nnx")
    b["steps"][3]["grad_norm"] += 0.5
    found = answer(make(), b)
    assert (found.words, found.number) == ("not the same numbers", "0.5")
    assert found.about == "largest difference of a gradient norm, at step 3"
    b = changed("checkpoint.digest", "e" * 64, impl="nnx")
    found = answer(make(), b)
    assert (found.words, found.about) == ("not the same numbers", "the final states differ")


def test_slower_in_turns_is_said_with_its_interval() -> None:
    found = answer(*in_turns(1.2))
    assert found.outcome == "worse"
    assert found.words.startswith("the same numbers; not the same speed")
    assert 18 < float(found.number.removesuffix(" %")) < 22
    assert "with 99 %" in found.about


def test_one_run_a_side_shows_no_speed() -> None:
    found = answer(make(), other(impl="nnx", scale=1.5))
    assert "%" not in found.number
    assert found.words.startswith("the same numbers; not the same program")


def test_other_experiments_are_not_compared_and_unknown_numbers_not_the_same() -> None:
    found = answer(make(), changed("case.config.model.embed", 128, impl="nnx"))
    assert (found.outcome, found.words) == ("unknown", "not comparable")
    a, b = imported(), imported(impl="nnx")
    for one in (*a["steps"], *b["steps"]):
        one["loss"] = None
    found = of_runs(comparison.compare([a], [b], across=("case.hash",)))
    assert found.outcome not in ("same", "better")
