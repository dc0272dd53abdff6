"""The loop of steps around a step that is made up."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness.cases import reading
from harness.records import record
from harness.records.recorder import Recorder
from harness.training import stepping
from harness.training.parallel import mesh
from harness.training.stepping import Preempted, RunFailed, Running, Steps, Walk

CASE = reading.load("01_baseline", "tiny", ["run.steps=6"])


def running(losses: list[float], dropped: bool = False, skipped: tuple[int, ...] = ()) -> Running:
    """A step whose state is its number, and whose losses are given; others may be dropped.

    skipped: steps that tell no norm.
    """
    skips = jnp.isin(jnp.arange(len(losses)), jnp.array(skipped, jnp.int32))
    table = jnp.asarray([*losses, *[9.0] * 10], jnp.float32)

    @jax.jit
    def step(state: Any, inputs: Any) -> tuple[Any, Any]:
        number = state["step"]
        metrics = {
            "loss": inputs[number],
            "grad_norm": jnp.float32(1),
            "learning_rate": jnp.float32(0),
            "total_weights": jnp.float32(8),
            **({"dropped": ~jnp.isfinite(inputs[number])} if dropped else {}),
            **(
                {"skipped": skips[number], "grad_norm": jnp.where(skips[number], jnp.inf, 1)}
                if skipped
                else {}
            ),
        }
        return {"step": number + 1}, metrics

    trainer: Any = SimpleNamespace(carrier=None)
    compiled: Any = step
    inputs: Any = table
    return Running(trainer, compiled, inputs)


class Saves:
    """Notes what a checkpointer is asked."""

    def __init__(self, due: set[int], enabled: bool = True) -> None:
        self.enabled, self._due = enabled, due
        self.done: list[Any] = []

    def due(self, step: int, last: int) -> bool:
        return step in self._due

    def save(self, step: int, state: Any) -> None:
        self.done.append((step, int(state["step"])))

    def check(self) -> None:
        pass

    def finish(self) -> None:
        self.done.append("finished")


def evaluation(state: Any) -> tuple[dict[str, float], float]:
    """An evaluation whose loss is the number of steps that the state has seen."""
    return {"loss": float(state["step"]), "total_weights": 1.0}, 0.5


def run(
    losses: list[float], saves: Any, stop_at: int | None = None, **changes: Any
) -> tuple[Recorder, list[Any]]:
    recorder = Recorder(record.blank("a-run", "failed") | {"nonfinite_steps": 0, "steps": []})
    recorder.record["warnings"] = []
    seen: list[Any] = []
    case = reading.load("01_baseline", "tiny", ["run.steps=6", *changes.get("settings", [])])
    observer = SimpleNamespace(step=seen.append, evaluation=seen.append)
    evaluated: Any = evaluation
    steps = Steps(case, range(0), None, recorder, observer, evaluated)
    try:
        made = running(losses, changes.get("dropped", False), changes.get("skipped", ()))
        steps.run(made, {"step": jnp.int32(0)}, 0, saves, lambda step: step == stop_at)
    finally:
        steps.summarise(mesh.make(case, jax.devices()[:1]))
    return recorder, seen


def test_every_step_is_recorded_and_seen_in_order() -> None:
    recorder, seen = run([5, 4, 3, 2, 1, 0], Saves(set()))
    assert [entry["loss"] for entry in recorder.record["steps"]] == [5, 4, 3, 2, 1, 0]
    assert seen == recorder.record["steps"]
    timing = recorder.record["timing"]
    assert timing["step_seconds"]["samples"] == 3
    assert timing["first_step_seconds"] > 0
    assert timing["tokens_per_second_per_device"] == pytest.approx(
        CASE.data.sequence_length / timing["step_seconds"]["median"]
    )
    assert recorder.record["warnings"] == []


def test_a_save_holds_the_state_after_its_step_and_flags_the_next() -> None:
    saves = Saves({1, 5})
    recorder, _ = run([0.0] * 6, saves)
    assert saves.done == [(1, 2), (5, 6)]
    flags = [entry["after_save"] for entry in recorder.record["steps"]]
    assert flags == [False, False, True, False, False, False]
    assert recorder.record["timing"]["step_seconds"]["samples"] == 3


def test_an_evaluation_is_of_the_state_after_its_step_and_flags_the_next() -> None:
    recorder, seen = run([0.0] * 6, Saves({1, 4}), settings=["eval.every=2"])
    told = [(entry["step"], entry["loss"]) for entry in recorder.record["evals"]]
    assert told == [(1, 2.0), (3, 4.0), (5, 6.0)]
    assert seen[2] == recorder.record["evals"][0]  # after steps 0 and 1
    flags = [(entry["after_save"], "after_eval" in entry) for entry in recorder.record["steps"]]
    assert flags == [(False, False)] * 2 + [(True, True), (False, False), (False, True),
                                            (True, False)]  # fmt: skip
    assert recorder.record["timing"]["step_seconds"]["samples"] == 1  # step 3


def test_who_is_asked_to_stop_saves_and_does_not_evaluate() -> None:
    saves = Saves(set())
    recorder = Recorder(record.blank("a-run", "failed") | {"nonfinite_steps": 0, "steps": []})
    case = reading.load("01_baseline", "tiny", ["run.steps=6", "eval.every=1"])
    observer: Any = SimpleNamespace(step=lambda entry: None, evaluation=lambda entry: None)
    evaluated: Any = evaluation
    steps = Steps(case, range(0), None, recorder, observer, evaluated)
    waiting: Any = saves
    with pytest.raises(Preempted):
        steps.run(running([0.0] * 6), {"step": jnp.int32(0)}, 0, waiting, lambda step: step == 2)
    assert [entry["step"] for entry in recorder.record["evals"]] == [0, 1]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_unless_it_may_be(loss: float) -> None:
    with pytest.raises(RunFailed, match=f"^step 2: loss is {loss}$"):
        run([1.0, 1.0, loss, 1.0, 1.0, 1.0], Saves(set()))
    allowed = ["run.allow_nonfinite=true"]
    recorder, seen = run([1.0, loss, 1.0, 1.0, 1.0, 1.0], Saves(set()), settings=allowed)
    assert len(seen) == 6
    assert recorder.record["nonfinite_steps"] == 1


def test_a_run_that_is_asked_to_stop_saves_first() -> None:
    saves = Saves(set())
    with pytest.raises(Preempted, match="asked to stop: saved step 3"):
        run([0.0] * 6, saves, stop_at=3)
    assert saves.done == [(3, 4), "finished"]


def test_the_last_step_is_the_end_whether_asked_to_stop_or_not() -> None:
    saves = Saves(set())
    run([0.0] * 6, saves, stop_at=5)
    assert saves.done == [(5, 6)]


def test_without_checkpoints_stopping_is_a_failure() -> None:
    with pytest.raises(RunFailed, match="asked to stop after step 3; checkpoints are off"):
        run([0.0] * 6, Saves(set(), enabled=False), stop_at=3)


def test_too_few_steps_to_time_are_told() -> None:
    recorder, _ = run([0.0] * 3, Saves(set()), settings=["run.steps=3"])
    assert recorder.record["timing"]["step_seconds"]["samples"] == 0
    assert recorder.record["warnings"][0].endswith("run more than 4 steps")


def test_a_walk_tells_its_state_and_how_long_it_dispatched() -> None:
    walk = Walk(running([3.0]), {"step": jnp.int32(0)})
    assert stepping.fetched(walk.step())["loss"] == 3.0
    assert int(walk.state["step"]) == 1
    assert len(walk.dispatch_seconds) == 1


def test_a_run_that_fails_early_is_not_told_to_run_longer() -> None:
    for losses, told in (([1.0, float("nan")] + [0.0] * 4, False), ([1.0, 0.5], True)):
        recorder = Recorder(record.blank("a-run", "failed") | {"nonfinite_steps": 0, "steps": []})
        recorder.record["warnings"] = []
        case = reading.load("01_baseline", "tiny", [f"run.steps={len(losses)}"])
        steps = Steps(case, range(0), None, recorder, SimpleNamespace(step=lambda entry: None))
        saves: Any = Saves(set())
        with contextlib.suppress(RunFailed):
            steps.run(running(losses), {"step": jnp.int32(0)}, 0, saves, lambda step: False)
        steps.summarise(mesh.make(case, jax.devices()[:1]))
        assert any("run more than" in one for one in recorder.record["warnings"]) is told


def test_a_profile_is_of_its_steps_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda where: told.append(where))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("stop"))
    recorder = Recorder(record.blank("a-run", "failed") | {"nonfinite_steps": 0, "steps": []})
    recorder.record["warnings"] = []
    observer = SimpleNamespace(step=lambda entry: told.append(entry["step"]))
    steps = Steps(CASE, range(3, 5), str(tmp_path), recorder, observer)
    saves: Any = Saves(set())
    steps.run(running([0.0] * 6), {"step": jnp.int32(0)}, 0, saves, lambda step: False)
    assert told == [0, 1, 2, str(tmp_path), 3, 4, "stop", 5]
    steps.summarise(mesh.make(CASE, jax.devices()[:1]))
    assert recorder.record["warnings"][0].startswith("steps 3 to 4 ran under the profiler")


def test_a_dropped_step_ends_no_run_and_is_told_of() -> None:
    recorder, _ = run([5, 4, float("nan"), 2, 1, 0], Saves(set()), dropped=True)
    entries = recorder.record["steps"]
    assert [entry["dropped"] for entry in entries] == [False, False, True, False, False, False]
    assert entries[2]["loss"] is None
    assert any("1 of the steps, the first of them 2" in one for one in recorder.record["warnings"])


def test_a_skipped_step_ends_no_run_and_is_told_of_but_its_loss_must_be_finite() -> None:
    recorder, _ = run([5, 4, 3, 2, 1, 0], Saves(set()), skipped=(1, 3))
    norms = [entry["grad_norm"] for entry in recorder.record["steps"]]
    assert norms == [1, None, 1, None, 1, 1]
    assert recorder.record["nonfinite_steps"] == 0
    assert any("2 of the steps, the first of them 1" in one for one in recorder.record["warnings"])
    with pytest.raises(RunFailed, match=r"^step 1: loss is nan$"):
        run([5, float("nan"), 3, 2, 1, 0], Saves(set()), skipped=(1,))
