"""Whether two runs computed the same numbers, and where they part."""

import copy
import math

import pytest
from compared_records import changed, imported, make

from harness.comparing import comparison, parity
from harness.comparing.model import Comparison, Limits, Verdict


def verdicts(found: Comparison) -> dict[str, Verdict]:
    return {verdict.area: verdict for verdict in found.verdicts}


def test_where_and_how_far_losses_part() -> None:
    other = make()
    other["steps"][7]["loss"] += 0.25
    other["steps"][5]["loss"] = math.nextafter(other["steps"][5]["loss"], 0)
    other["steps"][6]["grad_norm"] = 2.0
    other["checkpoint"]["digest"] = "e" * 64
    found = comparison.compare([make()], [other])
    assert (found.parity.loss.first_step, found.parity.loss.largest_step) == (5, 7)
    assert found.parity.loss.largest == pytest.approx(0.25)
    assert verdicts(found)["numbers"].words == (
        "different: losses part at step 5, by at most 0.25 (step 7);"
        " gradient norms part at step 6, by at most 0.5 (step 6); different final states"
    )
    assert found.regressed
    allowed = comparison.compare([make()], [other], limits=Limits(loss_difference=0.3))
    assert verdicts(allowed)["numbers"].outcome == "different"
    assert not allowed.regressed


def test_equal_losses_that_end_in_another_state_are_told() -> None:
    found = comparison.compare([make()], [changed("checkpoint.digest", "e" * 64)])
    assert found.regressed
    assert "different final states" in verdicts(found)["numbers"].words


def test_evaluations_are_compared_where_they_are_of_the_same_data() -> None:
    one, other = make(), make()
    for record, loss in ((one, 8.0), (other, 8.25)):
        record["evals"] = [{"step": 9, "loss": loss, "seconds": 1.0}]
        record["case"]["config"] |= {"eval.every": 10, "eval.batches": 2}
    assert (
        "; evaluations bit-equal; " in verdicts(comparison.compare([one], [one]))["numbers"].words
    )
    found = comparison.compare([one], [other])
    assert "evaluations part at step 9, by at most 0.25" in verdicts(found)["numbers"].words
    assert found.regressed
    assert comparison.compare([one], [other], limits=Limits(loss_difference=0.2)).regressed
    assert not comparison.compare([one], [other], limits=Limits(loss_difference=0.3)).regressed
    other["case"]["config"]["eval.batches"] = 3
    assert "evaluations" not in verdicts(comparison.compare([one], [other]))["numbers"].words


def test_steps_that_only_one_run_has_are_told() -> None:
    other = make()
    del other["steps"][30:]
    found = comparison.compare([make()], [other])
    assert found.parity.only_a == (30, 31, 32)
    assert found.parity.states is None
    assert verdicts(found)["numbers"].words == (
        "the same where compared: losses and gradient norms bit-equal over 30 steps;"
        " only A has steps 30 to 32"
    )


def test_a_loss_that_is_not_finite_parts_from_one_that_is() -> None:
    other = make()
    other["steps"][4]["loss"] = None
    found = comparison.compare([make()], [other], limits=Limits(loss_difference=1))
    assert found.regressed
    assert "one is not finite at 4" in verdicts(found)["numbers"].words
    assert comparison.compare([other], [copy.deepcopy(other)]).parity.loss.equal


def test_losses_that_are_finite_on_neither_side_certify_nothing() -> None:
    one = make()
    for entry in one["steps"]:
        entry["loss"] = None
    found = verdicts(comparison.compare([one], [copy.deepcopy(one)]))["numbers"]
    assert (found.outcome, found.words.partition(";")[0]) == (
        "unknown",
        "not known: no step has a loss in both",
    )


def test_a_metric_that_parts_is_a_difference_whatever_the_losses() -> None:
    one, other = make(), make()
    for entry in (*one["steps"], *other["steps"]):
        entry["accuracy"] = 0.5
    one["steps"][0]["hits"] = 3  # what one alone tells is not compared
    assert comparison.compare([one], [other]).parity.equal
    other["steps"][6] |= {"accuracy": 0.75, "step_seconds": 9.0}
    found = comparison.compare([one], [other])
    assert found.regressed
    assert (
        "; values of accuracy part at step 6, by at most 0.25" in verdicts(found)["numbers"].words
    )
    evaluated = {"step": 9, "loss": 8.0, "seconds": 1.0}
    one["evals"], other["evals"] = [evaluated | {"accuracy": 1}], [evaluated | {"accuracy": 0}]
    assert "evaluated accuracy" in comparison.compare([one], [other]).parity.metrics


def test_other_learning_rates_are_blamed_on_the_steps_that_set_them() -> None:
    other = changed("case.config.run.steps", 66)
    for entry in other["steps"][3:]:
        entry |= {"learning_rate": 2e-5, "loss": 1.0}
    found = comparison.compare([make()], [other])
    assert verdicts(found)["numbers"].outcome == "unclear"
    assert "learning rates already differ at step 3" in verdicts(found)["numbers"].words
    assert not found.regressed


def test_a_log_agrees_as_far_as_its_digits_tell() -> None:
    found = comparison.compare([make()], [imported()], across=["case.hash"])
    assert found.comparable
    assert (
        verdicts(found)["numbers"].words
        == "the same where compared: losses equal to the three digits known over 33 steps"
    )
    other = imported()
    other["steps"][4]["loss"] += 0.001
    found = comparison.compare([imported()], [other], across=["case.hash"])
    assert "by at most 0.001 (step 4) (three digits are known)" in verdicts(found)["numbers"].words


def test_a_figure_that_is_printed_more_exactly_is_held_against_the_other_s_digits() -> None:
    """Three digits beside six: half a thousandth is no difference, a whole one is."""
    exact = imported()
    exact["source"] = {"rounding": {"loss": 5e-7, "grad_norm": 5e-7}}
    exact["steps"][4]["loss"] += 0.0004
    assert parity.compare(exact, imported()).loss.equal
    exact["steps"][4]["loss"] += 0.0004
    assert parity.compare(exact, imported()).loss.first_step == 4
    assert parity.compare(exact, imported()).digits == 3
