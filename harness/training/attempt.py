"""One start of a run, from its folder to its record: whatever happens, the record is written."""

import contextlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from harness.cases import families, reading
from harness.cases.settings import Case
from harness.records import environment
from harness.records.cautions import Caution
from harness.records.recorder import Recorder
from harness.records.run_folder import KILLED, RunFolder
from harness.saving.checkpointer import Checkpointer
from harness.saving.faults import CheckpointError
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.training import drawing, going_on, leftover, loop
from harness.training.agreement import termination
from harness.training.options import Options
from harness.training.parallel.mesh import Grid
from harness.training.stepping import Preempted, RunFailed
from harness.training.timing import process_age_seconds
from harness.training.watcher import Watcher

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_PREEMPTED = 1, 2, 42


def run(
    options: Options,
    case: Case,
    recorder: Recorder,
    folder: RunFolder,
    grid: Grid,
    earlier: list[Mapping[str, Any]],
    begun: int | None = None,
) -> int:
    """Trains a case and returns the exit code; earlier: see `going_on.note`, begun: `loop.Plan`."""
    record = recorder.record
    recorder.note("case", reading.described(case, record["size"], record["recipe"]))
    going_on.note(case, earlier, grid, recorder)
    recorder.note("environment", environment.collect([*grid.mesh.devices.flat]))
    recorder.note("environment", mesh=dict(grid.mesh.shape))
    recorder.note("timing", import_seconds=process_age_seconds())
    recorder.set(error=KILLED)  # what stands there if it is
    try:
        folder.write_config(reading.flat_text(case))
        folder.write_record(record)
        with Console(folder.log, quiet=jax.process_index() != 0) as console:
            code = _told(options, case, recorder, folder, grid, begun, console)
    except UserError:  # what cannot be written is told once
        with contextlib.suppress(UserError):
            folder.close()
        raise
    try:
        folder.close()
    except UserError as error:  # what is not kept is not done
        print(f"error: {error}", file=sys.stderr)
        return code or EXIT_FAILED
    return code


def _told(
    options: Options,
    case: Case,
    recorder: Recorder,
    folder: RunFolder,
    grid: Grid,
    begun: int | None,
    console: Console,
) -> int:
    """Trains and says so, from the first line to the summary; returns the exit code."""
    record = recorder.record
    console.line(
        f"{case.shown} {record['impl']}, size {record['size']}, {grid.devices} x {grid.kind}"
    )
    family = families.of(case)
    watcher = Watcher(folder, console, recorder, options.tensorboard, family.unit, family.metrics)
    for line in reading.imposed(options.case, case.twins) if options.case else ():
        recorder.warn(Caution.IMPOSED, what=line)
    if family.matched is not None:
        names = family.matched().names
        folder.write_names(names)
        console.line(f"names: {_counted(names)}, in names.txt")
    if case.twins is not None:  # tests hold the project's own to it
        drawn = drawing.drawn(case, family.get(record["impl"]), grid)
        recorder.note("model", random_keys=drawing.fingerprint(drawn))
        for line in drawing.findings(drawn):
            recorder.warn(Caution.RANDOM, what=line)
    checkpointer = _Checkpointer(
        folder,
        recorder,
        case.checkpoint.directory or folder.home / leftover.CHECKPOINTS,
        case.checkpoint,
        {name: record[name] for name in leftover.ABOUT},
    )
    plan = loop.Plan(
        case=case,
        impl=record["impl"],
        init=record["init"],
        grid=grid,
        restore=options.restore,
        restore_what=options.restore_what,
        begun=begun,
        profile=options.profile,
        profile_directory=str(folder.path / "profile"),
        nnx_state=record["nnx_state"],
    )
    code = _train(plan, recorder, watcher, checkpointer, console)
    _summarise_wall_time(recorder, watcher.step_seconds)
    if record["status"] == "completed":
        recorder.set(files=folder.digests())
    folder.write_record(record)
    folder.write_status(record["status"], watcher.last_step, code)
    watcher.close(with_summary=code != EXIT_BAD_INPUT)
    return code


def _counted(names: Sequence[str]) -> str:
    """How many partners were found in which way."""
    return ", ".join(
        f"{count} by {how}"
        for how in ("value", "order", "hand")
        if (count := sum(name.endswith(f"by {how})") for name in names))
    )


class _Checkpointer(Checkpointer):
    """Saves nothing before the steps that lead there are kept, twice; tells what a save cost."""

    def __init__(self, folder: RunFolder, recorder: Recorder, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folder = folder
        self._recorder = recorder

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        self._folder.write_record(self._recorder.record)
        self._folder.sync()
        super().save(step, state)

    def committed(self, cost: Mapping[str, Any]) -> None:
        self._folder.append_save(self._recorder.save(cost))


def _summarise_wall_time(recorder: Recorder, step_seconds: float) -> None:
    """Goodput: the share of this process's life in which it trained."""
    wall = process_age_seconds()
    recorder.note("timing", wall_seconds=wall)
    if wall is not None:
        recorder.note("timing", goodput_percent=100 * step_seconds / wall)


def _train(
    plan: loop.Plan,
    recorder: Recorder,
    watcher: Watcher,
    checkpointer: Checkpointer,
    console: Console,
) -> int:
    """Trains; whatever comes of it stands in the record. Returns the exit code."""
    try:
        with termination() as stop_asked:
            loop.train(plan, recorder, watcher, checkpointer, stop_asked)
    except Preempted as error:
        recorder.set(status="preempted", error=str(error))
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        recorder.set(error="interrupted")
        return EXIT_FAILED
    except Exception as error:
        console.log_only(traceback.format_exc())
        recorder.set(error=_one_line(error))
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    recorder.set(status="completed", error=None)
    return 0


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, UserError | CheckpointError | RunFailed)
        else f"{type(error).__name__}: {text}"
    )
