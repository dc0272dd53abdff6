from dataclasses import replace
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
    found = answer(make(), b)
    assert (found.words, found.rest) == ("the same where compared", ("not compared: evaluations",))
    b["warnings"] = [Caution.DIFFERING.told(what="linen and nnx are evaluated otherwise")]
    assert answer(make(), b).words == "not the same numbers"
    told = ("", "linen and nnx are evaluated otherwise")
    assert (answer(make(), b).number, answer(make(), b).about) == told
    b["steps"][3]["loss"] += 0.5  # as draws alone may make it
    assert (answer(make(), b).number, answer(make(), b).about) == told


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
    assert "; 99 % interval +" in found.about


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


def test_numbers_that_are_unclear_come_before_all_that_is_equal() -> None:
    b = make(impl="nnx") | {"warnings": [Caution.STARTED.told(what="fresh models are not alike")]}
    found = answer(make(), b)
    assert (found.outcome, found.words, found.number) == ("unclear", "numbers unclear", "")
    assert found.about == "fresh models are not alike"
    b["checkpoint"]["bytes"] += 4
    assert answer(make(), b).words == "numbers unclear; not the same checkpoints"


def aligned(a: Any, b: Any) -> tuple[Any, Any]:
    """Two of a user's pair that drew by keys of their own, aligned."""
    for one, keys in ((a, "a" * 64), (b, "b" * 64)):
        one["case"]["config"] |= {"twins": "mine", "run.align_random": True}
        one["model"]["random_keys"] = keys
    b["checkpoint"]["own"] = {"random/drop/rngs/count": 4, "random/drop/rngs/key": 8}
    return a, b


def test_of_a_right_pair_with_aligned_draws_the_answer_is_the_same_where_compared() -> None:
    a, b = in_turns(1.2)
    a, b = aligned(a, b)
    compared = comparison.compare([a], [b])
    kinds = (("random numbers", 2), ("state carried in and out", 1))
    other = replace(compared.programs, same=False, kinds=kinds)
    told = [replace(one, outcome="different") if one.area == "program" else one
            for one in compared.verdicts]  # fmt: skip
    found = of_runs(replace(compared, programs=other, verdicts=tuple(told)))
    assert (found.outcome, found.words) == ("same", "the same where compared")
    assert (found.number, found.about) == ("33 steps", "with equal losses")
    assert found.notes == (
        "random draws aligned",
        "programs differ in random numbers, state carried in and out alone",
    )
    assert found.uncompared == ("how fast they are",)
    speed, checkpoints = (
        next(one for one in compared.verdicts if one.area == area)
        for area in ("speed", "checkpoints")
    )
    assert (speed.outcome, compared.regressed) == ("unknown", False)
    assert speed.words.startswith("timed with aligned draws (harness run --twins mine times ")
    assert "the same 39 arrays" in checkpoints.words
    assert "not compared: nnx's random state, 12 bytes" in checkpoints.words
    mathematics = replace(other, kinds=(("mathematics", 1), *kinds))
    found = of_runs(replace(compared, programs=mathematics, verdicts=tuple(told)))
    assert found.words == "the same numbers where compared; not the same program"


def test_state_that_one_side_alone_saves_makes_other_checkpoints() -> None:
    b = make(impl="nnx")
    b["checkpoint"]["own"] = {"state/norm/mean": 32}
    assert answer(make(), b).words == "the same numbers; not the same checkpoints"
