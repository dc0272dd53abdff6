from typing import Any

import pytest
from compared_records import changed, imported, in_turns, make, other

from harness.comparing import comparison
from harness.pages import answers
from harness.pages.gathering import Pair
from harness.pages.sources import Run


def answer(a: Any, b: Any) -> answers.Answer:
    return answers.of_runs(comparison.compare([a], [b]))


def test_the_same_only_where_every_verdict_says_so() -> None:
    found = answer(make(), make(impl="nnx"))
    assert (found.outcome, found.words, found.number) == ("same", "the same", "33 steps")
    unsaved = [make(), make(impl="nnx")]
    for one in unsaved:
        one["checkpoint"]["saves"] = []
    found = answer(*unsaved)
    assert (found.outcome, found.words) == ("unclear", "no difference found; open: checkpoints")


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
    found = answers.of_runs(comparison.compare([a], [b], across=("case.hash",)))
    assert found.outcome not in ("same", "better")


def compiled(impl: str, fingerprint: str | None, error: str | None = None) -> Run:
    made = make(impl=impl) | {"status": "preflight", "steps": [], "error": error}
    made["program"]["optimized_sha256"] = fingerprint
    return Run(made, "", None)


@pytest.mark.parametrize(
    ("prints", "outcome", "words", "number"),
    [
        (("a", "a"), "same", "one program", "1 of 1"),
        (("a", "b"), "different", "different programs", "1 of 1"),
        (("a", None), "unknown", "not known", ""),
    ],
)
def test_programs_that_never_ran(
    prints: tuple[str | None, str | None], outcome: str, words: str, number: str
) -> None:
    a, b = (
        compiled(impl, known and known * 64, "does not fit")
        for impl, known in zip(("linen", "nnx"), prints, strict=True)
    )
    pair = Pair(comparison.compare([a.record], [b.record]), (a,), (b,))
    found = answers.of_programs({"v6e-8": pair}, {"v6e-8": {"linen": a, "nnx": b}})
    assert found is not None
    assert (found.outcome, found.words, found.number) == (outcome, words, number)
    assert "does not fit: v6e-8" in found.about
    assert answers.of_programs({}, {}) is None


def test_a_slice_compiled_for_one_side_alone_leaves_it_open() -> None:
    a, b = compiled("linen", "a" * 64), compiled("nnx", "a" * 64)
    pair = Pair(comparison.compare([a.record], [b.record]), (a,), (b,))
    slices = {"v6e-8": {"linen": a, "nnx": b}, "v6e-32": {"linen": a}}
    found = answers.of_programs({"v6e-8": pair}, slices)
    assert found is not None
    assert (found.outcome, found.number) == ("unclear", "1 of 2")
