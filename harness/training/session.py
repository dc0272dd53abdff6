"""One run from its folder to its record: whatever happens on the way, the record is written."""

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

import jax
import numpy as np

from harness.cases import checking, families, reading
from harness.cases.settings import Case
from harness.errors import UserError
from harness.records import environment
from harness.records import record as record_module
from harness.records.record import Record, RecordError
from harness.records.run_folder import KILLED, RunFolder, earlier_record
from harness.saving.checkpointer import Checkpointer
from harness.saving.faults import CheckpointError
from harness.training import devices, loop
from harness.training.console import Console
from harness.training.devices import Processes
from harness.training.parallel import mesh
from harness.training.timing import process_age_seconds
from harness.training.train_step import NnxState
from harness.training.watcher import Watcher

T = TypeVar("T")

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_PREEMPTED = 1, 2, 42


@dataclass(frozen=True)
class Options:
    """What the command line says of a run, checked as far as it can be without devices."""

    case: str
    size: str
    recipe: str
    overrides: tuple[str, ...]
    devices: int | None
    processes: Processes | None
    results: Any  # a place, see storage
    init: str
    restore: str | None
    profile: range
    tensorboard: bool
    twins: str | None = None
    nnx_state: NnxState = "dict"


def run(options: Options, impl: str, run_id: str | None) -> int:
    """Trains a case once and returns the exit code.

    A run of this name that has not ended goes on, so that whatever restarts a job need not know
    how far it was. One that is complete is left as it is; so is another experiment's: UserError.
    """
    run_devices = devices.prepare(options.devices, options.processes)
    size = options.size
    if size == "auto":
        size = "tiny" if run_devices[0].platform == "cpu" else "full"
    case = reading.load(options.case, size, options.overrides, options.recipe, options.twins)
    checking.require(case)
    start = {"impl": impl, "size": size, "recipe": options.recipe, "init": options.init}

    def find() -> tuple[str, Record | None]:
        if run_id is None:
            return record_module.new_run_id(case.name, impl), None
        before = earlier_record(options.results, run_id)
        if before is not None:
            same = start | {"nnx_state": options.nnx_state}
            check_same(before, case, same, options.results / run_id)
        return run_id, before

    name, before = _agreed(find)
    if before is None:
        record = record_module.blank(name, "failed", **start)
        record["nnx_state"] = options.nnx_state
        folder = RunFolder(options.results, name, jax.process_index())
        return _run(options, case, record, folder, run_devices, resume=False)
    if before["status"] == "completed":
        if jax.process_index() == 0:
            print(f"{name}: is complete\nrecord: {options.results / name / 'record.json'}")
        return 0
    return _go_on(options, case, before, run_devices)


def resume(options: Options, run_id: str) -> int:
    """Goes on with a run where its newest good checkpoint left it; returns the exit code.

    The case, size, implementation and start are the run's own; only `run.steps` and `checkpoint.*`
    may be overridden. Raises UserError for a run that is not there or is complete.
    """
    run_devices = devices.prepare(options.devices, options.processes)
    before = _agreed(lambda: earlier_record(options.results, run_id))
    if before is None:
        path = options.results / run_id / "record.json"
        raise UserError(f"--resume {run_id}: {path} is not there")
    if before["status"] == "completed":
        raise UserError(f"--resume {run_id}: the run is complete")
    case = reading.from_flat(before["case"]["name"], before["case"]["config"], options.overrides)
    if reading.case_hash(case, before["size"], before["recipe"]) != before["case"]["hash"]:
        raise UserError(
            f"--resume {run_id}: --set {' '.join(options.overrides)} makes it another experiment;"
            " only run.steps and checkpoint.* may change"
        )
    return _go_on(options, case, before, run_devices)


def check_same(before: Record, case: Case, start: Mapping[str, str], where: Any) -> None:
    """Raises UserError unless the run that lies at `where` can go on as this one.

    One that is complete must have had as many steps: the rest would never be run.
    """
    wanted: dict[str, Any] = {
        **start,
        "case": reading.case_hash(case, start["size"], start["recipe"]),
    }
    found = {name: record_module.at(before, name) for name in start}
    found["case"] = before["case"]["hash"]
    if before["status"] == "completed":
        wanted["run.steps"] = case.run.steps
        found["run.steps"] = before["case"]["config"]["run.steps"]
    differing = [name for name in wanted if wanted[name] != found[name]]
    if differing:
        raise UserError(
            f"--run-id {before['run_id']}: {where} already holds a run that differs in"
            f" {', '.join(differing)}"
        )


def _go_on(options: Options, case: Case, before: Record, run_devices: list[jax.Device]) -> int:
    names = ("impl", "size", "recipe", "init")
    record = record_module.blank(
        before["run_id"], "failed", **{name: before[name] for name in names}
    )
    record["nnx_state"] = record_module.at(before, "nnx_state")
    attempt = {name: before[name] for name in ("status", "error")}
    attempt["time"] = before["environment"]["time"]
    attempt["wall_seconds"] = before["timing"]["wall_seconds"]
    record["attempts"] = [*before["attempts"], attempt]
    record["checkpoint"]["saves"] = before["checkpoint"]["saves"]
    folder = RunFolder(options.results, before["run_id"], jax.process_index(), resume=True)
    return _run(options, case, record, folder, run_devices, resume=True)


def _run(
    options: Options,
    case: Case,
    record: Record,
    folder: RunFolder,
    run_devices: list[jax.Device],
    resume: bool,
) -> int:
    pair = families.load(case.twins)
    implementation, shared = pair.get(record["impl"]), pair.get(pair.names[0])
    record["case"] = {
        "name": case.name,
        "hash": reading.case_hash(case, record["size"], record["recipe"]),
        "config": reading.flatten(case),
    }
    record["environment"] = environment.collect(run_devices)
    record["timing"]["import_seconds"] = process_age_seconds()
    record["nonfinite_steps"] = 0
    record["error"] = KILLED  # what stands there if it is
    folder.write_config(reading.flat_text(case))
    folder.write_record(record)
    console = Console(folder.log, quiet=jax.process_index() != 0)
    console.line(
        f"{case.name} {record['impl']}, size {record['size']},"
        f" {len(run_devices)} x {run_devices[0].device_kind}"
    )
    watcher = Watcher(folder, console, record, options.tensorboard)
    checkpointer = _Checkpointer(
        folder,
        case.checkpoint.directory or folder.home / "checkpoints",
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
        nnx_state=record["nnx_state"],
    )
    code = _train(plan, record, watcher, checkpointer, console)
    _summarise_wall_time(record, watcher.step_seconds)
    folder.write_record(record)
    folder.write_status(record["status"], watcher.last_step, code)
    watcher.close(with_summary=code != EXIT_BAD_INPUT)
    try:
        folder.close()
    except UserError as error:  # what is not kept is not done
        print(f"error: {error}", file=sys.stderr)
        return code or EXIT_FAILED
    return code


class _Checkpointer(Checkpointer):
    """Saves nothing before the steps that lead there are kept: a resumed run reads them again."""

    def __init__(self, folder: RunFolder, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folder = folder

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        self._folder.sync()
        super().save(step, state)


def _summarise_wall_time(record: Record, step_seconds: float) -> None:
    """Goodput: the share of this process's life in which it trained."""
    wall = process_age_seconds()
    record["timing"]["wall_seconds"] = wall
    if wall is not None:
        record["timing"]["goodput_percent"] = 100 * step_seconds / wall


def _train(
    plan: loop.Plan,
    record: Record,
    watcher: Watcher,
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


def _agreed(find: Callable[[], T]) -> T:
    """What process 0 finds, in every process: also its UserError. It must fit into JSON."""
    if jax.process_count() == 1:
        return find()
    from jax.experimental import multihost_utils

    found: dict[str, Any] = {}
    if jax.process_index() == 0:
        try:
            found = {"found": find()}
        except (UserError, RecordError) as error:
            found = {"error": str(error)}
    text = json.dumps(found).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.frombuffer(text[:length].ljust(length), np.uint8)
    found = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))
    if "error" in found:
        raise UserError(found["error"])
    result: T = found["found"]
    return result


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
