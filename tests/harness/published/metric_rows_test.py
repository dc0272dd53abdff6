"""MaxText's file of metrics and TensorBoard's events, as MaxText and Megatron-LM write them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tensorboardX import SummaryWriter

from harness import published
from harness.published.document import Imported, load, parse
from harness.records.record import validate
from harness.terminal.errors import UserError

SECONDS = [40.0, 0.5, 0.4, 0.2, 0.25, 0.2]
LOSSES = [float(np.float32(10.8693 - 0.1 * step)) for step in range(6)]


def metrics(step: int) -> dict[str, float]:
    return {
        "learning/loss": LOSSES[step],
        "learning/grad_norm": 1.0,
        "learning/raw_grad_norm": 5.087409973144531 + step,
        "learning/total_weights": 8192.0,
        "learning/current_learning_rate": 1e-5 * (step + 1),
        "learning/moe_lb_loss": 0.5,
        "perf/step_time_seconds": SECONDS[step],
        "perf/per_device_tflops": 8.0,
        "perf/per_device_tflops_per_sec": 8.0 / SECONDS[step],
        "perf/per_device_tokens": 2048,
        "perf/per_device_tokens_per_sec": 2048 / SECONDS[step],
    }


def line(step: int, **changes: float) -> str:
    entry = {**metrics(step), **changes, "step": float(step), "run_name": "somebody's run"}
    return json.dumps(entry) + "\n"


def read(text: str) -> Imported:
    imported = published.read(parse("metrics.txt", text.encode()))
    for record in imported.records:
        validate(record)
    return imported


EVALUATION = (
    json.dumps({"eval/avg_loss": 8.0, "eval/step_time_seconds": 1.5, "step": 0.0}) + "\n"
    + json.dumps({"eval/avg_loss": 8.25, "eval/step_time_seconds": 1.25, "step": 1.0}) + "\n"
    + json.dumps({"eval/avg_loss": 8.25, "eval/total_loss": 16.5, "step": 3.0}) + "\n"
)  # fmt: skip


def test_a_file_of_metrics_gives_exact_figures() -> None:
    imported = read("".join(map(line, range(6))))
    (record,) = imported.records
    assert imported.kind == "MaxText metrics file"
    assert [step["loss"] for step in record["steps"]] == LOSSES
    assert [step["step_seconds"] for step in record["steps"]] == SECONDS
    assert record["steps"][2]["grad_norm"] == 7.087409973144531
    assert record["steps"][2]["clipped_grad_norm"] == 1.0
    assert record["steps"][2]["moe_lb_loss"] == 0.5
    assert record["timing"]["step_seconds"]["samples"] == 3
    assert record["timing"]["tokens_per_second_per_device"] == 2048 / 0.2
    assert record["timing"]["tflops_per_device"] == 8 / 0.2
    assert record["model"]["tflop_per_step_per_device"] == 8
    assert record["source"]["rounding"] == {"loss": 0, "grad_norm": 0}
    assert "somebody" not in json.dumps(record)


def test_an_evaluation_takes_its_seconds_from_its_steps_and_the_next_sample() -> None:
    text = "".join(map(line, range(4))) + EVALUATION + line(4) + line(5)
    (record,) = read(text).records
    assert record["evals"] == [{"step": 3, "loss": 8.25, "seconds": 2.75}]
    # Steps 3 to 5 are timed; 4 holds the evaluation.
    assert record["timing"]["step_seconds"]["samples"] == 2


def test_a_file_that_was_appended_to_and_cut() -> None:
    text = "".join(map(line, range(4))) + line(2, **{"learning/loss": math.nan}) + line(3)[:40]
    (record,) = read(text).records
    assert [step["step"] for step in record["steps"]] == [0, 1, 2, 3]
    assert record["steps"][2]["loss"] is None
    assert record["nonfinite_steps"] == 1
    warnings = "\n".join(record["warnings"])
    assert "the file ends inside a line" in warnings
    assert "2 attempts" in warnings


def test_only_one_norm_may_be_the_clipped_one() -> None:
    text = "".join(map(line, range(4))).replace("learning/raw_grad_norm", "learning/other")
    (record,) = read(text).records
    assert record["steps"][0]["grad_norm"] == 1.0
    assert "whether gradient norms are those before clipping is not told" in record["warnings"]


def events(folder: Path) -> Path:
    (path,) = folder.glob("events.out.*")
    return path


def test_events_of_maxtext(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_text("num_model_parameters", "1104103424", 0)
        for step in range(6):
            for name, value in metrics(step).items():
                writer.add_scalar(name, np.array(value), step)
        writer.add_scalar("eval/avg_loss", 8.25, 3)
    imported = published.read(load(str(events(tmp_path))))
    (record,) = imported.records
    validate(record)
    assert imported.kind == "TensorBoard events"
    assert record["model"]["parameters"] == 1_104_103_424
    assert [step["loss"] for step in record["steps"]] == LOSSES
    assert record["evals"] == [{"step": 3, "loss": 8.25, "seconds": None}]
    assert record["environment"]["time"] is not None
    assert record["timing"]["step_seconds"]["median"] == pytest.approx(0.2)


def test_events_of_megatron_count_iterations_from_1(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for iteration in range(1, 7):
            for name, value in {
                "learning-rate": 1e-4, "lm loss": 7 - iteration / 8, "grad-norm": 1.25,
                "iteration-time": 0.125, "loss-scale": 4096.0,
            }.items():  # fmt: skip
                writer.add_scalar(name, value, iteration)
                writer.add_scalar(f"{name} vs samples", value, 16 * iteration)
        writer.add_scalar("lm loss validation", 6.5, 5)
    (record,) = published.read(load(str(events(tmp_path)))).records
    validate(record)
    assert [step["step"] for step in record["steps"]] == list(range(6))
    assert record["steps"][4]["loss"] == 7 - 5 / 8
    assert record["steps"][4]["loss_scale"] == 4096
    assert record["evals"] == [{"step": 4, "loss": 6.5, "seconds": None}]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-7], "the file ends inside an event"),
        (lambda content: content[:-20] + b"\x7f" + content[-19:], "the file is damaged at byte"),
    ],
)
def test_events_that_are_cut_or_damaged(damage, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(6):
            writer.add_scalar("learning/loss", LOSSES[step], step)
    content = damage(events(tmp_path).read_bytes())
    (record,) = published.read(parse("events", content)).records
    assert [step["loss"] for step in record["steps"]] == LOSSES[:5]
    assert any(words in warning for warning in record["warnings"])


def test_events_of_another_program_are_refused(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("accuracy", 0.5, 1)
    with pytest.raises(UserError, match="no step of MaxText or Megatron-LM among its metrics"):
        published.read(load(str(events(tmp_path))))
