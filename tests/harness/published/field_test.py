"""Logs as people have them, each with the values that its record must hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from documents import DATA

from harness import ingest, published
from harness.comparing import parity, verdicts
from harness.published.document import Imported, load, parse
from harness.records.record import Record, validate

FIELD = DATA / "field"
NAMES = sorted(
    path.name.removesuffix(".expected.json")
    for pattern in ("maxtext_*", "megatron_*")
    for path in FIELD.glob(f"{pattern}.expected.json")
)


def imported(name: str) -> Imported:
    return published.read(load(str(FIELD / f"{name}.txt")))


def held(record: Record, name: str) -> Any:
    """What a record holds of a value, by its name in the files of expected values."""
    of_steps = {
        "steps": "step",
        "losses": "loss",
        "step_seconds": "step_seconds",
        "grad_norms": "grad_norm",
        "learning_rates": "learning_rate",
        "total_weights": "total_weights",
    }
    if name in of_steps:
        values = [step[of_steps[name]] for step in record["steps"]]
        return None if name == "total_weights" and set(values) == {None} else values
    timing, model = record["timing"], record["model"]
    if name == "eval":
        return {str(entry["step"]): entry["loss"] for entry in record["evals"]}
    return {
        "median_step_seconds": timing["step_seconds"]["median"],
        "samples": timing["step_seconds"]["samples"],
        "tokens_per_second_per_device": timing["tokens_per_second_per_device"],
        "tflops_per_device": timing["tflops_per_device"],
        "parameters": model["parameters"],
        "tflop_per_step_per_device": model["tflop_per_step_per_device"],
        "nonfinite_steps": record["nonfinite_steps"],
        "skipped_iterations": record["source"].get("skipped_iterations"),
        "memory": record["memory"],
        "settings": record["case"]["config"],
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_record_holds_what_the_log_tells(name: str) -> None:
    expected = json.loads((FIELD / f"{name}.expected.json").read_text())
    read = imported(name)
    (record,) = read.records
    validate(record)
    assert read.kind == expected.pop("kind")
    warnings = "\n".join(record["warnings"])
    for words in expected.pop("not_in_warnings", ()):
        assert words not in warnings
    if expected.pop("must_warn_or_refuse", False):
        assert "attempts" in warnings
    below = expected.pop("p90_below", None)
    assert below is None or record["timing"]["step_seconds"]["p90"] < below
    for key, value in expected.items():
        found = held(record, key)
        if key in ("memory", "settings"):
            found = {name: found[name] for name in value}
        assert found == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), key


def test_two_runs_of_one_model_lie_beside_each_other(tmp_path: Path) -> None:
    for name in ("megatron_throughput", "megatron_same_size"):
        assert ingest.main([str(FIELD / f"{name}.txt"), "--results-dir", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("published-megatron-0.00B-*/record.json"))) == 2


def test_attempts_that_were_told_other_things_are_named() -> None:
    (record,) = imported("megatron_restart").records
    warnings = "\n".join(record["warnings"])
    assert "2 attempts; those after the first begin at step 5" in warnings
    assert "the attempts differ in global_batch_size (16, then 32)" in warnings
    assert record["case"]["config"]["global_batch_size"] == 32
    # Of the second attempt, after its warm-up: steps 8 and 9.
    assert record["timing"]["step_seconds"]["samples"] == 2


def test_a_line_that_is_a_mean_says_so() -> None:
    (record,) = imported("megatron_log_interval").records
    assert record["source"]["log_interval"] == 10
    # Of ten lines the first holds the warm-up.
    assert record["timing"]["step_seconds"]["samples"] == 9
    assert any("a mean over 10 iterations" in warning for warning in record["warnings"])
    assert any("40 of 100 iterations skipped" in warning for warning in record["warnings"])


def test_what_a_line_tells_beside_the_usual_is_kept_under_its_name() -> None:
    (record,) = imported("maxtext_2026_memory_line").records
    assert {step["perplexity"] for step in record["steps"]} == {900.0}
    assert [step["lm_loss"] for step in record["steps"]] == [
        step["loss"] for step in record["steps"]
    ]
    (record,) = imported("megatron_throughput").records
    assert {step["global_batch_size"] for step in record["steps"]} == {16}


def test_a_step_that_was_cut_inside_a_number_is_named() -> None:
    (record,) = imported("maxtext_cut_in_number").records
    assert "the text ends inside the line of step 9: that step is left out" in record["warnings"]
    whole = (FIELD / "maxtext_cut_in_number.txt").read_bytes() + b".750"
    assert len(published.read(parse("log.txt", whole)).records[0]["steps"]) == 10


def test_losses_of_two_logs_part_where_their_own_digits_do() -> None:
    a, b = (imported(name).records[0] for name in ("megatron_throughput", "megatron_losses_differ"))
    found = parity.compare(a, b)
    assert found.loss.first_step == 4
    assert found.loss.largest == pytest.approx(0.0004)
    assert "(six digits are known)" in verdicts.numbers_in_words(found)
    assert parity.compare(a, a).equal
