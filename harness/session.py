"""One run from its folder to its record: whatever happens on the way, the record is written."""

import signal
import traceback
from collections.abc import Callable, Iterator
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
from harness.checkpoint_files import CheckpointError
from harness.checkpointing import Checkpointer
from harness.config import Case
from harness.console import Console
from harness.devices import Processes
from harness.errors import UserError
from harness.record import Record
from harness.results import RunFolder
from harness.timing import process_age_seconds

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_PREEMPTED = 1, 2, 42
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
    restore: str | None
    profile: range
    tensorboard: bool


def run(options: Options, impl: str, run_id: str | None) -> int:
    """Trains a case once and returns the exit code."""
    run_devices = devices.prepare(options.devices, options.processes)
    size = options.size
    if size == "auto":
        size = "tiny" if run_devices[0].platform == "cpu" else "full"
    case = config.load(options.case, size, options.overrides)
    run_id = _agreed(run_id or record_module.new_run_id(case.name, impl))
    record = record_module.blank(
        run_id, "failed", impl=impl, size=size, recipe=config.RECIPE, init=options.init
    )
    folder = RunFolder(options.results, run_id, jax.process_index())
    return _run(options, case, record, folder, run_devices, resume=False)


def resume(options: Options, run_id: str) -> int:
    """Goes on with a run where its newest good checkpoint left it; returns the exit code.

    The case, size, implementation and start are the run's own; only `run.steps` and `checkpoint.*`
    may be overridden. Raises UserError for a run that is not there or is complete.
    """
    run_devices = devices.prepare(options.devices, options.processes)
    path = options.results / run_id / "record.json"
    if not path.exists():
        raise UserError(f"--resume {run_id}: {path} is not there")
    before = record_module.read(path)
    if before["status"] == "completed":
        raise UserError(f"--resume {run_id}: the run is complete")
    case = config.from_flat(before["case"]["name"], before["case"]["config"], options.overrides)
    if config.case_hash(case, before["size"], before["recipe"]) != before["case"]["hash"]:
        raise UserError(
            f"--resume {run_id}: --set {' '.join(options.overrides)} makes it another experiment;"
            " only run.steps and checkpoint.* may change"
        )
    names = ("impl", "size", "recipe", "init")
    record = record_module.blank(run_id, "failed", **{name: before[name] for name in names})
    attempt = {name: before[name] for name in ("status", "error")}
    attempt["time"] = before["environment"]["time"]
    attempt["wall_seconds"] = before["timing"]["wall_seconds"]
    record["attempts"] = [*before["attempts"], attempt]
    record["checkpoint"]["saves"] = before["checkpoint"]["saves"]
    folder = RunFolder(options.results, run_id, jax.process_index(), resume=True)
    return _run(options, case, record, folder, run_devices, resume=True)


def _run(
    options: Options,
    case: Case,
    record: Record,
    folder: RunFolder,
    run_devices: list[jax.Device],
    resume: bool,
) -> int:
    implementation = models.get(record["impl"])
    shared = models.get(models.IMPLEMENTATIONS[0])
    record["case"] = {
        "name": case.name,
        "hash": config.case_hash(case, record["size"], record["recipe"]),
        "config": config.flatten(case),
    }
    record["environment"] = environment.collect(run_devices)
    record["timing"]["import_seconds"] = process_age_seconds()
    record["nonfinite_steps"] = 0
    record["error"] = "killed before it could end"  # what stands there if it is
    folder.write_config(config.flat_text(case))
    folder.write_record(record)
    console = Console(folder.log, quiet=jax.process_index() != 0)
    console.line(
        f"{case.name} {record['impl']}, size {record['size']},"
        f" {len(run_devices)} x {run_devices[0].device_kind}"
    )
    watcher = _Watcher(folder, console, record, _scalars(options, folder))
    checkpointer = Checkpointer(
        case.checkpoint.directory or folder.path / "checkpoints",
        case.checkpoint,
        {name: record[name] for name in ("run_id", "impl", "size", "case", "environment")},
    )
    plan = loop.Plan(
        case=case,
        implementation=implementation,
        initial=shared if record["init"] == "shared" else implementation,
        mesh=mesh.make(run_devices),
        restore=options.restore,
        resume=resume,
        profile=options.profile,
        profile_directory=str(folder.path / "profile"),
    )
    code = _train(plan, record, watcher, checkpointer, console)
    _summarise_wall_time(record, watcher.step_seconds)
    folder.write_record(record)
    folder.write_status(record["status"], watcher.last_step, code)
    watcher.close(code)
    return code


def _summarise_wall_time(record: Record, step_seconds: float) -> None:
    """Goodput: the share of this process's life in which it trained."""
    wall = process_age_seconds()
    record["timing"]["wall_seconds"] = wall
    if wall is not None:
        record["timing"]["goodput_percent"] = 100 * step_seconds / wall


def _train(
    plan: loop.Plan,
    record: Record,
    watcher: "_Watcher",
    checkpointer: Checkpointer,
    console: Console,
) -> int:
    """Trains; whatever comes of it stands in the record. Returns the exit code."""
    try:
        with _termination() as stop_asked:
            loop.train(plan, record, watcher, checkpointer, stop_asked)
    except loop.Preempted as error:
        record |= {"status": "preempted", "error": str(error)}
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        record["error"] = "interrupted"
        return EXIT_FAILED
    except Exception as error:
        console.log_only(traceback.format_exc())
        record["error"] = _one_line(error)
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    record |= {"status": "completed", "error": None}
    return 0


class _Watcher:
    """Tells of a run's phases and steps on the terminal, in metrics.jsonl and status.json."""

    def __init__(self, folder: RunFolder, console: Console, record: Record, scalars: Any) -> None:
        self._folder = folder
        self._console = console
        self._record = record
        self._scalars = scalars
        self.last_step: int | None = None
        self.step_seconds = 0.0  # of all steps of this process

    def phase(self, name: str) -> None:
        """Announces a phase."""
        self._console.begin(name)
        self._folder.write_status(name, self.last_step)

    def begin(self, first_step: int) -> None:
        """Takes over the steps of a resumed run that are not run again."""
        earlier = [entry for entry in self._folder.read_metrics() if entry["step"] < first_step]
        self._record["steps"].extend(earlier)

    def step(self, entry: dict[str, Any]) -> None:
        """Writes a step's line wherever one is kept."""
        self._console.end()
        self.last_step = entry["step"]
        self.step_seconds += entry["step_seconds"]
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
    from tensorboardX import SummaryWriter

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
def _termination() -> Iterator[Callable[[int], bool]]:
    """Tells, at each step, whether SIGTERM has come and this step is the one to save and end at."""
    if jax.process_count() > 1:
        # JAX has its own handler then, and agrees with all processes on one step.
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: came
    finally:
        signal.signal(signal.SIGTERM, previous)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, UserError | CheckpointError | loop.RunFailed)
        else f"{type(error).__name__}: {text}"
    )
