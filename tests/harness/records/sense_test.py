"""Edits by hand that leave a record valid but not true: every reader refuses them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compared_records import Record, in_turns, sensible

from harness.records import finding, record, sealing, sense
from harness.records.record import RecordError


def good() -> Record:
    """A completed run of which all is known."""
    made, _ = in_turns(1.0, 2, names=("a-run", "b-run"))
    made["case"]["config"]["data.sequence_length"] = 2048
    made["case"] |= {"global_batch": 32}
    made["environment"]["mesh"] = {"data": 4, "fsdp": 8}
    made["model"] |= {"parameters_per_device": 34_506_816, "tflop_per_step_per_device": 13.4}
    sizes = {"argument": 600, "output": 500, "temp": 250, "alias": 490, "total": 860}
    made["memory"] |= {f"{name}_bytes": size for name, size in sizes.items()}
    median = made["timing"]["step_seconds"]["median"]
    rate = 13.4 / median
    made["timing"] |= {
        "tokens_per_second_per_device": 2048 / median,
        "tflops_per_device": rate,
        "mfu_percent": 100 * rate / 918,
    }
    return sensible(made)


def at(key: str, value: Any) -> Callable[[Record], None]:
    def edit(made: Record) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            made = made[int(parent)] if isinstance(made, list) else made[parent]
        made[last] = value(made[last]) if callable(value) else value

    return edit


EDITS: dict[str, tuple[Callable[[Record], Any], str]] = {
    "an error": (at("error", "it broke"), "it is completed, and error is 'it broke'"),
    "a failure without a word": (at("status", "failed"), "it is failed, and error is None"),
    "the last steps cut": (
        lambda made: made["steps"].pop(),
        "last step is not that of run.steps=33",
    ),
    "no steps": (lambda made: made["steps"].clear(), "last step is not that of run.steps"),
    "the first step cut": (lambda made: made["steps"].pop(0), "lacks step 0"),
    "a step cut": (lambda made: made["steps"].pop(5), "steps are missing between"),
    "a step twice": (lambda made: made["steps"].insert(5, made["steps"][5]), "not in order"),
    "steps swapped": (lambda made: made["steps"].reverse(), "not in order"),
    "p10 above the median": (at("timing.step_seconds.p10", lambda p: 2 * p), "not in order"),
    "p90 below the median": (at("timing.step_seconds.p90", lambda p: p / 2), "not in order"),
    "p90 of no step": (
        at("timing.step_seconds.p90", 99.0),
        "its median lies outside the times of its steps",
    ),
    "more samples": (at("timing.step_seconds.samples", 34), "more samples than steps"),
    "another median": (
        at("timing.step_seconds.median", lambda m: 1.001 * m),
        "not that of its median",
    ),
    "a better rate": (at("timing.tflops_per_device", lambda r: 1.01 * r), "not that of its median"),
    "more tokens": (at("timing.tokens_per_second_per_device", lambda r: 1.01 * r), "not that of"),
    "a better MFU": (at("timing.mfu_percent", 55.0), "mfu_percent is not that of"),
    "a rate above the peak": (
        lambda made: (
            at("model.tflop_per_step_per_device", lambda t: 100 * t)(made),
            at("timing.tflops_per_device", lambda t: 100 * t)(made),
            at("timing.mfu_percent", lambda t: 100 * t)(made),
        ),
        "above the peak of TPU v6 lite",
    ),
    "a save of no step": (at("checkpoint.saves.1.step", 33), "it saved step 33, which it has not"),
    "a setting": (
        lambda made: made["case"]["config"].update({"model.embed": 65}),
        "are not those of case.hash",
    ),
    "a rate of learning": (
        lambda made: made["case"]["config"].update({"optim.learning_rate": 1.0}),
        "are not those of case.hash",
    ),
    "the size": (at("size", "tiny"), "are not those of case.hash"),
    "the recipe": (at("recipe", "fast"), "are not those of case.hash"),
    "fewer devices": (at("environment.device_count", 8), "environment.mesh has not"),
    "less memory": (at("memory.total_bytes", 800), "memory.total_bytes is not the sum"),
    "fewer bytes on the wire": (at("program.wire_bytes", 1e9), "wire_bytes is not the sum"),
    "more parameters a device": (at("model.parameters_per_device", 2 * 10**9), "more parameters"),
    "a block less": (lambda made: made["turns"]["blocks"].pop(), "not as many blocks"),
    "turns with itself": (at("turns.partner", "a-run"), "took turns with itself"),
    "a loss that was none": (at("nonfinite_steps", 1), "counts 1 steps that are not finite, of 0"),
    "one that is none": (at("steps.5.loss", None), "counts 0 steps that are not finite, of 1"),
    "evaluations swapped": (
        lambda made: made.update(evals=[{"step": s, "loss": 1.0, "seconds": 1.0} for s in (9, 3)]),
        "evaluations are not in order",
    ),
}


def test_a_true_record_is_taken() -> None:
    assert sense.contradiction(good()) is None


def test_a_run_that_lost_its_last_checkpoint_may_be_stopped_before_it_is_there_again() -> None:
    made = good()
    made |= {"status": "preempted", "error": "asked to stop: saved step 5"}
    del made["steps"][6:], made["turns"]
    made["timing"] = record.blank("a-run", "failed")["timing"]
    assert sense.contradiction(made) is not None
    made["attempts"] = [{"status": "failed", "error": "killed"}]
    assert sense.contradiction(made) is None


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_by_hand_is_refused(what: str, tmp_path: Path) -> None:
    edit, told = EDITS[what]
    made = copy.deepcopy(good())
    edit(made)
    record.validate(made)
    path = tmp_path / "record.json"
    record.write(path, made)
    with pytest.raises(RecordError, match="contradicts itself, changed by hand\\?") as refused:
        record.read(path)
    assert told in str(refused.value)
    assert finding.load_all([tmp_path])[0] == []


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_the_file_is_refused_by_its_checksum(what: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record.write(path, good())
    content = json.loads(path.read_text())
    EDITS[what][0](content)
    assert sealing.SEAL in content
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match="has changed since it was written"):
        record.read(path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record.write(path, good())
    text = path.read_text()
    path.write_text(text.replace('"impl":', '"impl": "nnx", "impl":', 1))
    with pytest.raises(RecordError, match="'impl' is given twice"):
        record.read(path)


def test_what_the_program_warned_of_itself_is_no_contradiction() -> None:
    made = good()
    EDITS["a rate above the peak"][0](made)
    made["warnings"].append("1.0 TFLOP/s per device is above the peak of TPU v6 lite (918.0): ...")
    assert sense.contradiction(made) is None
    began_later = good()
    del began_later["steps"][0]
    del began_later["checkpoint"]["saves"][0]
    assert sense.contradiction(began_later) is not None
    began_later["checkpoint"]["restored_from"] = "other/checkpoints/0"
    assert sense.contradiction(began_later) is None
