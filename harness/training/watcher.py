"""Tells of a run while it goes on: on the terminal, in its files and to TensorBoard."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

from harness.records import storage, summary
from harness.records.recorder import Recorder
from harness.records.run_folder import RunFolder
from harness.terminal.console import Console
from harness.training.phases import Phases

# What every step tells.
_USUAL = {"step", "loss", "grad_norm", "learning_rate", "step_seconds", "total_weights"}
_USUAL |= {"after_save", "after_eval", "stopped"}


class Watcher:
    """Tells of a run's phases and steps on the terminal, in metrics.jsonl and status.json."""

    def __init__(
        self,
        folder: RunFolder,
        console: Console,
        recorder: Recorder,
        tensorboard: bool,
        unit: str,
        metrics: Collection[str] = (),
    ) -> None:
        """Unit: what a step's total_weights count. metrics: the names of the model's own."""
        self._unit = unit
        self._metrics = metrics
        self._folder = folder
        self._console = console
        environment = recorder.record["environment"]
        self._phases = Phases(
            console,
            f"{recorder.record['case']['name']}, {recorder.record['size']},"
            f" {recorder.record['recipe']}, {environment['device_count']} x"
            f" {environment['device_kind']}",
        )
        self._recorder = recorder
        self._record = recorder.record
        self._scalars: Any = _scalars(folder) if tensorboard else None
        self.last_step: int | None = None
        self.step_seconds = 0.0  # of all steps of this process

    def phase(self, name: str) -> None:
        """Announces a phase."""
        self._phases.begin(name)
        self._folder.write_status(name, self.last_step)

    def step(self, entry: dict[str, Any]) -> None:
        """Writes a step's line wherever one is kept."""
        self._phases.end()
        self.last_step = entry["step"]
        self.step_seconds += 0.0 if entry.get("stopped") else entry["step_seconds"]
        self._folder.append_metrics(entry)
        self._folder.write_status("running", self.last_step)
        rates = self._rates(entry)
        loss = "nan" if entry["loss"] is None else f"{entry['loss']:.3f}"
        tflops = "unknown" if rates["tflops"] is None else f"{rates['tflops']:.3f}"
        self._console.line(
            f"completed step: {entry['step']}, seconds: {entry['step_seconds']:.3f},"
            f" TFLOP/s/device: {tflops}, {self._unit.title()}s/s/device: {rates['counted']:.3f},"
            f" total_weights: {entry['total_weights']:.0f}, loss: {loss}{_others(entry)}"
        )
        if self._scalars is not None:
            self._write_scalars(entry, rates)

    def evaluation(self, entry: dict[str, Any]) -> None:
        """Writes an evaluation's line wherever one is kept, on the terminal as MaxText does."""
        self._console.end()
        self._folder.append_evaluation(entry)
        told = {name: entry[name] for name in entry if name not in ("step", "seconds")}
        words = [f"{name}={'nan' if one is None else f'{one:.6g}'}" for name, one in told.items()]
        self._console.line(
            f"eval metrics after step: {entry['step']}, {', '.join(words)},"
            f" seconds={entry['seconds']:.3f}"
        )
        if self._scalars is not None:
            names = {"loss": "avg_loss"}  # as MaxText's
            scalars = {f"eval/{names.get(name, name)}": one for name, one in told.items()}
            self._add_scalars(scalars, entry["step"])

    def program(self, text: str) -> None:
        """Keeps the step's optimised program."""
        self._folder.write_program(text)

    def close(self, with_summary: bool) -> None:
        """Says how the run ended."""
        record = self._record
        if record["error"] is not None:
            self._console.line(f"error: {record['error']}")
        for warning in record["warnings"]:
            self._console.line(f"warning: {warning}")
        if with_summary:
            self._console.line(summary.table([record]))
        self._console.line(f"record: {self._folder.record_path}")
        if self._scalars is not None:
            self._scalars.close()

    def _rates(self, entry: dict[str, Any]) -> dict[str, float | None]:
        seconds, devices = entry["step_seconds"], self._record["environment"]["device_count"]
        tflop = self._record["model"]["tflop_per_step_per_device"]
        return {
            "tflops": None if tflop is None else tflop / seconds,
            "counted": entry["total_weights"] / devices / seconds,
        }

    def _write_scalars(self, entry: dict[str, Any], rates: dict[str, float | None]) -> None:
        scalars = {
            **{
                f"{'model' if name in self._metrics else 'learning'}/{name}": entry[name]
                for name in entry.keys() - _USUAL
            },
            "learning/loss": entry["loss"],
            "learning/grad_norm": entry["grad_norm"],
            "learning/current_learning_rate": entry["learning_rate"],
            "learning/total_weights": entry["total_weights"],
            "perf/step_time_seconds": entry["step_seconds"],
            "perf/per_device_tflops_per_sec": rates["tflops"],
            f"perf/per_device_{self._unit}s_per_sec": rates["counted"],
        }
        self._add_scalars(scalars, entry["step"])

    def _add_scalars(self, scalars: Mapping[str, float | None], step: int) -> None:
        for name, value in scalars.items():
            if value is not None:
                self._scalars.add_scalar(name, value, step)


def _others(entry: dict[str, Any]) -> str:
    """The metrics that the family declares."""
    return "".join(
        f", {name}: {'nan' if entry[name] is None else format(entry[name], '.4g')}"
        for name in entry
        if name not in _USUAL
    )


def _scalars(folder: RunFolder) -> Any:
    """A writer of TensorBoard files, None in all processes but the first."""
    if jax.process_index() != 0:
        return None
    from tensorboardX import SummaryWriter

    place = folder.path / "tensorboard"
    with storage.errors_told(place):
        return SummaryWriter(str(place))
