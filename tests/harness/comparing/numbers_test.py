"""Whether the numbers of two sides are the same, in words."""

from compared_records import make

from harness.comparing import comparison, numbers
from harness.comparing.model import Comparison, Verdict
from harness.records.cautions import Caution


def verdict(found: Comparison) -> Verdict:
    return numbers.judge(found, 0.0)


def test_other_initial_weights_are_told_and_fail_nothing() -> None:
    a, b = make(), make(impl="nnx")
    a["init"] = b["init"] = "native"
    for entry in b["steps"]:
        entry["loss"] += 0.5
    found = comparison.compare([a], [b])
    assert (verdict(found).outcome, found.regressed) == ("unclear", False)
    assert "the initial weights differ already" in verdict(found).words
    for one in (a, b):
        one["checkpoint"]["restored_from"] = "/shared/checkpoints/9"
    assert comparison.compare([a], [b]).regressed


def test_a_schedule_that_was_kept_is_blamed_for_its_rates() -> None:
    a, b = make(), make()
    a["case"]["schedule_steps"], b["case"]["schedule_steps"] = 33, 20
    for entry in b["steps"][20:]:
        entry |= {"learning_rate": 2e-5, "loss": 1.0}
    found = verdict(comparison.compare([a], [b]))
    assert found.outcome == "unclear"
    assert "learning rates already differ at step 20" in found.words


def test_steps_without_a_loss_say_nothing() -> None:
    a, b = make(), make()
    b["steps"] = [entry | {"step": entry["step"] + 100} for entry in b["steps"]]
    assert verdict(comparison.compare([a], [b])).words == "not known: no step has a loss in both"


def warned(*warnings: str) -> Comparison:
    """Of equal runs, of which the second warns."""
    a, b = make(), make(impl="nnx")
    b["warnings"] = list(warnings)
    return comparison.compare([a], [b])


def test_equal_numbers_of_a_mask_that_repeats_are_no_certificate() -> None:
    compared = warned(
        Caution.RANDOM.told(what="draws the same random numbers in every step, at mine.py:3"),
        Caution.UNSURE.told(what="linen and nnx make other numbers of equal values"),
        Caution.STARTED.told(what="fresh models hold other numbers"),
        Caution.ALONE.told(what="linen: batch_stats/mean"),
    )
    found = verdict(compared)
    assert found.outcome == "unclear"
    assert (compared.doubtful, compared.regressed) == (True, False)
    assert found.why == "fresh models hold other numbers"
    assert found.words.split("; ") == [
        "unclear: fresh models hold other numbers",
        "linen: batch_stats/mean",
        "nnx draws the same random numbers in every step, at mine.py:3",
        "linen and nnx make other numbers of equal values",
        "in training: losses and gradient norms bit-equal over 33 steps",
        "the same final state",
    ]
    assert not compared.warnings  # all of them are in the verdict


def test_models_that_answer_equal_values_otherwise_are_different_however_they_train() -> None:
    compared = warned(Caution.DIFFERING.told(what="linen and nnx are evaluated otherwise"))
    assert verdict(compared).words.startswith("different: linen and nnx are evaluated otherwise; ")
    assert (verdict(compared).outcome, compared.regressed) == ("different", True)


def test_what_may_be_rounding_is_unclear_and_holds_no_gate_up() -> None:
    compared = warned(Caution.UNSURE.told(what="linen and nnx are 3e-7 apart"))
    assert verdict(compared).words.startswith("unclear: linen and nnx are 3e-7 apart; ")
    assert (verdict(compared).outcome, compared.doubtful) == ("unclear", False)


def test_what_was_not_compared_is_said_and_doubts_nothing() -> None:
    compared = warned(Caution.NOT_COMPARED.told(what="how they are evaluated"))
    assert verdict(compared).words.startswith("the same where compared: losses and ")
    assert (verdict(compared).outcome, compared.doubtful) == ("same", False)


def test_a_users_own_two_models_that_part_are_told_how_to_go_on() -> None:
    a, b = make(), make(impl="nnx")
    b["steps"][3]["loss"] += 0.5
    assert "bisect" not in verdict(comparison.compare([a], [b])).words
    for one in (a, b):
        one["case"]["config"]["twins"] = "mine"
    found = verdict(comparison.compare([a], [b]))
    assert found.words.startswith("different: losses part at step 3")
    assert found.words.endswith(
        "; harness bisect --twins mine finds the first operation that differs"
    )


def test_losses_that_part_by_draws_alone_are_unclear_until_these_are_aligned() -> None:
    a, b = make(), make(impl="nnx")
    b["steps"][3]["loss"] += 0.5
    for one, keys in ((a, "a" * 64), (b, "b" * 64)):
        one["case"]["config"]["twins"] = "mine"
        one["model"]["random_keys"] = keys
    compared = comparison.compare([a], [b])
    found = verdict(compared)
    assert (found.outcome, compared.doubtful, compared.regressed) == ("unclear", True, False)
    assert found.words.startswith("unclear: each draws random numbers of its own, and losses part")
    assert "; harness run --twins mine --align-random decides; losses part at step 3" in found.words
    b["warnings"] = [Caution.DIFFERING.told(what="linen and nnx make another gradient")]
    found = verdict(comparison.compare([a], [b]))
    assert found.outcome == "different"
    assert found.words.split("; ")[:2] == [
        "different: linen and nnx make another gradient",
        "harness bisect --twins mine finds the first operation that differs",
    ]
    assert "in training, where each draws random numbers of its own: losses part" in found.words
    b["warnings"] = []
    for one in (a, b):
        one["case"]["config"]["run.align_random"] = True
    compared = comparison.compare([a], [b])
    assert (verdict(compared).outcome, compared.regressed) == ("different", True)
