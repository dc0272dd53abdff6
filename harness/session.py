"""One run from its folder to its record: whatever happens on the way, the record is written."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

import models
from harness import config, devices, environment, loop, mesh, summary
from harness import record as record_module
from harness.checkpointing import Checkpointer
from harness.console import Console
from harness.devices import Processes
from harness.errors import UserError
from harness.record import Record
from harness.results import RunFolder
from harness.timing import process_age_seconds

RECIPE = "reference"
EXIT_CODES = {"completed": 0, "failed": 1, "preempted": 42}
EXIT_BAD_INPUT = 2
_RUN_ID_BYTES = 128


@dataclass(frozen=True)
class Options:
    """What the command line says of a run, checked as far as it can be without devices."""

    case: str
    size: str
    overrides: tuple[str, ...]
    devices: int | None
    processes: Processes | None
    results: Path
    init: str
    profile: range
    tensorboard: bool


def run(options: Options, impl: str, run_id: str | None) -> int:
    """Trains once and returns the exit code; the last line printed says where the record lies."""
    implementation = models.get(impl)
    initial = implementation if options.init == "native" else models.get(models.IMPLEMENTATIONS[0])
    import_seconds = process_age_seconds()
    run_devices = devices.prepare(options.devices, options.processes)
    size = options.size
    if size == "auto":
        size = "tiny" if run_devices[0].platform == "cpu" else "full"
    case = config.load(options.case, size, options.overrides)
    case_hash = config.case_hash(case, size, RECIPE)
    process = jax.process_index()
    run_id = _agreed(run_id or record_module.new_run_id(case.name, impl))
    folder = RunFolder(options.results, run_id, process)
    console = Console(folder.log, quiet=process != 0)
    record = record_module.blank(
        run_id, "failed", impl=impl, size=size, recipe=RECIPE, init=options.init
    )
    record["case"] = {"name": case.name, "hash": case_hash, "config": config.flatten(case)}
    record["environment"] = environment.collect(run_devices)
    record["timing"]["import_seconds"] = import_seconds
    record["nonfinite_steps"] = 0
    folder.write_config(config.flat_text(case))
    console.line(
        f"{case.name} {impl}, size {size}, {len(run_devices)} x {run_devices[0].device_kind}"
    )
    watcher = _Watcher(folder, console, record, _scalars(options, folder))
    code = EXIT_CODES["failed"]
    try:
        with _termination_flag() as stop_asked:
            plan = loop.Plan(
                case=case,
                implementation=implementation,
                initial=initial,
                mesh=mesh.make(run_devices),
                profile=options.profile,
                profile_directory=str(folder.path / "profile"),
            )
            checkpointer = Checkpointer(folder.path / "checkpoints", case.checkpoint)
            loop.train(plan, record, watcher, checkpointer, stop_asked)
        record["status"] = "completed"
    except loop.Preempted as error:
        record |= {"status": "preempted", "error": str(error)}
    except KeyboardInterrupt:
        record["error"] = "interrupted"
    except Exception as error:
        record["error"] = _one_line(error)
        console.log_only(traceback.format_exc())
        if isinstance(error, UserError):
            code = EXIT_BAD_INPUT
    else:
        code = 0
    if code == EXIT_CODES["failed"]:
        code = EXIT_CODES[record["status"]]
    record["timing"]["wall_seconds"] = process_age_seconds()
    folder.write_record(record)
    folder.write_status(record["status"], watcher.last_step, code)
    watcher.close(code)
    return code


class _Watcher:
    """Tells of a run's phases and steps on the terminal, in metrics.jsonl and status.json."""

    def __init__(self, folder: RunFolder, console: Console, record: Record, scalars: Any) -> None:
        self._folder = folder
        self._console = console
        self._record = record
        self._scalars = scalars
        self.last_step: int | None = None

    def phase(self, name: str) -> None:
        """Announces a phase."""
        self._console.begin(name)
        self._folder.write_status(name, self.last_step)

    def step(self, entry: dict[str, Any]) -> None:
        """Writes a step's line wherever one is kept."""
        self._console.end()
        self.last_step = entry["step"]
        self._folder.append_metrics(entry)
        self._folder.write_status("running", self.last_step)
        rates = self._rates(entry)
        loss = "nan" if entry["loss"] is None else f"{entry['loss']:.3f}"
        self._console.line(
            f"completed step: {entry['step']}, seconds: {entry['step_seconds']:.3f},"
            f" TFLOP/s/device: {rates['tflops']:.3f}, Tokens/s/device: {rates['tokens']:.3f},"
            f" total_weights: {entry['total_weights']:.0f}, loss: {loss}"
        )
        if self._scalars is not None:
            self._write_scalars(entry, rates)

    def close(self, code: int) -> None:
        """Says how the run ended."""
        record = self._record
        if record["error"] is not None:
            self._console.line(f"error: {record['error']}")
        for warning in record["warnings"]:
            self._console.line(f"warning: {warning}")
        if code != EXIT_BAD_INPUT:
            self._console.line(summary.table([record]))
        self._console.line(f"record: {self._folder.record_path}")
        self._console.close()
        self._folder.close()
        if self._scalars is not None:
            self._scalars.close()

    def _rates(self, entry: dict[str, Any]) -> dict[str, float]:
        seconds, devices = entry["step_seconds"], self._record["environment"]["device_count"]
        return {
            "tflops": self._record["model"]["tflop_per_step_per_device"] / seconds,
            "tokens": entry["total_weights"] / devices / seconds,
        }

    def _write_scalars(self, entry: dict[str, Any], rates: dict[str, float]) -> None:
        scalars = {
            "learning/loss": entry["loss"],
            "learning/grad_norm": entry["grad_norm"],
            "learning/current_learning_rate": entry["learning_rate"],
            "learning/total_weights": entry["total_weights"],
            "perf/step_time_seconds": entry["step_seconds"],
            "perf/per_device_tflops_per_sec": rates["tflops"],
            "perf/per_device_tokens_per_sec": rates["tokens"],
        }
        for name, value in scalars.items():
            if value is not None:
                self._scalars.add_scalar(name, value, entry["step"])


def _scalars(options: Options, folder: RunFolder) -> Any:
    """A writer of TensorBoard files, None when none was asked for or another process has it."""
    if not options.tensorboard or jax.process_index() != 0:
        return None
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard: tensorboardX is missing; install the extra: pip install '.[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder.path / "tensorboard"))


def _agreed(run_id: str) -> str:
    """Process 0's run id, in every process."""
    if jax.process_count() == 1:
        return run_id
    from jax.experimental import multihost_utils

    padded = run_id.encode().ljust(_RUN_ID_BYTES)
    agreed = multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8))
    return bytes(np.asarray(agreed)).decode().rstrip()


@contextmanager
def _termination_flag() -> Iterator[Any]:
    """Whether SIGTERM has come: asked between steps, so that the step under way can be saved."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, previous)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, UserError | loop.RunFailed) else f"{type(error).__name__}: {text}"
    )
