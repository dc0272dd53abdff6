"""Logs as people have them, each with the values that its record must hold."""

import json
from pathlib import Path
from typing import Any

import pytest
from documents import DATA

from harness import ingest, published
from harness.comparing import numbers, parity
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
    assert "(six digits are known)" in numbers.in_words(found)
    assert parity.compare(a, a).equal


def changed(name: str, *changes: tuple[str, str]) -> Record:
    text = (FIELD / f"{name}.txt").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (record,) = published.read(parse("log.txt", text.encode())).records
    validate(record)
    return record


@pytest.mark.parametrize(
    "line",
    [
        "eval metrics after step: 4, loss=8.250, total_weights=75264.0",
        "average loss after step=4: eval_step_count=10, eval_loss=8.250, total_weights=75264.0",
        "Completed eval after train step 4, loss=8.250, perplexity=3.0, total_weights=1.0",
    ],
)
def test_evaluations_of_older_versions(line: str) -> None:
    record = changed(
        "maxtext_real_data_weights", ("completed step: 5,", f"{line}\ncompleted step: 5,")
    )
    assert record["evals"] == [{"step": 4, "loss": 8.25, "seconds": None}]


def test_an_evaluation_lasts_as_long_as_its_steps() -> None:
    record = changed("maxtext_eval")
    assert [entry["seconds"] for entry in record["evals"]] == [3.1, 3.1]
    after = [entry["step"] + 1 for entry in record["evals"]]
    flagged = [entry["step"] for entry in record["steps"] if entry.get("after_eval")]
    assert flagged == [step for step in after if step <= record["steps"][-1]["step"]]


def test_a_tpu7x_is_known() -> None:
    record = changed("maxtext_elastic", ("TFRT TPU v6 lite", "TFRT TPU7x"))
    assert record["environment"]["device_kind"] == "TPU7x"
    assert record["memory"]["capacity_bytes"] == 96 * 2**30


def test_shapes_that_are_not_all_the_parameters_are_no_count() -> None:
    record = changed("maxtext_moe_shapes", ("parameters: 0.000", "parameters: 0.100"))
    assert record["model"]["parameters"] is None
    assert any("its own shapes give" in warning for warning in record["warnings"])


def test_microbatches_are_told() -> None:
    warnings = changed("maxtext_gradient_accumulation")["warnings"]
    assert any("4 microbatches of 8192 sequences" in warning for warning in warnings)


def test_times_in_seconds_and_what_descendants_print() -> None:
    record = changed(
        "megatron_throughput",
        ("elapsed time per iteration (ms): 120.5", "elapsed time per iteration (s): 15.23"),
        ("| throughput per GPU (TFLOP/s/GPU): 12.3 ", ""),
        ("lm loss", "lm-loss"),
        ("number of nan iterations:   0 |", "number of nan iterations:   0 | TFLOPs: 8.04 |"),
    )
    assert record["timing"]["step_seconds"]["median"] == 15.23
    assert record["timing"]["tflops_per_device"] == 8.04
    assert record["steps"][9]["loss"] == 6.8
    assert record["timing"]["tokens_per_second_per_device"] == 16 * 256 / 15.23


def test_running_means_beside_a_figure_are_not_the_figure() -> None:
    record = changed(
        "megatron_throughput",
        ("(ms): 120.5", "(ms): 120.5/130.7"),
        (
            "(TFLOP/s/GPU): 12.3",
            "(TFLOP/s/GPU): 12.3/11.9  | tokens per GPU (tokens/s/GPU): 99.5/98.1",
        ),
    )
    assert record["timing"]["step_seconds"]["median"] == 0.1205
    assert record["timing"]["tflops_per_device"] == 12.3
    assert record["timing"]["tokens_per_second_per_device"] == 99.5


def test_a_validation_and_a_save_are_no_samples() -> None:
    record = changed(
        "megatron_validation",
        (" validation loss", "    evaluate .....: (3274.73, 3274.75)\n validation loss"),
        (" [2026-01-05 10:00:08]", "saving checkpoint at iteration       7 to x\n"
         "    save-checkpoint ....: (1500.00, 1600.00)\n [2026-01-05 10:00:08]"),
    )  # fmt: skip
    assert record["evals"] == [{"step": 4, "loss": 6.5, "seconds": 3.27475}]
    (save,) = record["checkpoint"]["saves"]
    assert (save["step"], save["blocking_seconds"]) == (6, 1.6)
    assert [step["step"] for step in record["steps"] if step["after_save"]] == [7]
    # Of steps 3 to 9, 5 holds the validation and 7 the save.
    assert record["timing"]["step_seconds"]["samples"] == 5


def test_where_formula_and_log_disagree_the_log_s_number_is_kept() -> None:
    record = changed("megatron_throughput", ("rank (0, 0): 1246336", "rank (0, 0): 1246400"))
    assert record["model"]["parameters"] == 1_246_400
    assert "parameters of rank 0: different: counted 1,246,336" in record["warnings"]
    split = (
        "tensor_model_parallel_size ...................... 1",
        "tensor_model_parallel_size . 2",
    )
    record = changed("megatron_throughput", split)
    assert record["model"]["parameters"] is None


@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        # A scale of 32 for queries and one for keys in each of 4 layers.
        (("qk_layernorm .................................... False", "qk_layernorm . True"),
         1_246_336 + 4 * 2 * 32),
        # Positions of 256 by 128.
        (("position_embedding_type ......................... rope\n", ""), 1_246_336 + 256 * 128),
        (("num_experts ..................................... None", "num_experts . 8"), None),
        (("num_experts ..................................... None", "num_experts . [1]"),
         1_246_336),
        (("num_experts ..................................... None", "num_experts . [4, 4]"), None),
        (("qk_layernorm .................................... False", "mtp_num_layers . 1"), None),
        (("normalization ................................... RMSNorm", "normalization . Odd"),
         None),
    ],
)  # fmt: skip
def test_parameters_of_other_arguments(change: tuple[str, str], parameters: int | None) -> None:
    told = " > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 1246336\n"
    assert changed("megatron_throughput", change, (told, ""))["model"]["parameters"] == parameters


def test_a_rank_of_three_dimensions() -> None:
    record = changed(
        "megatron_throughput",
        ("(tensor, pipeline) model parallel rank (0, 0)",
         "(tensor, gtp_weight_remat, pipeline) model parallel rank (0, 0, 0)"),
    )  # fmt: skip
    assert [rank["parameters"] for rank in record["source"]["ranks"]] == [1_246_336]
