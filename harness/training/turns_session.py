"""Two runs that have ended, again and in turns: from their records to what these say of it."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax

from harness.cases import reading
from harness.cases.settings import Case, Checkpoint
from harness.records import record as record_module
from harness.records.cautions import Caution
from harness.records.ownership import Owner
from harness.records.record import Record
from harness.records.recorder import Recorder
from harness.records.run_folder import complete, replace_record
from harness.saving.checkpointer import Checkpointer
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.terminal.text import counted, one_line, percent, size
from harness.training import accounting, checking, devices, going_on, loop, turns
from harness.training.agreement import agreed, termination
from harness.training.options import CPU_TURNS_SECONDS, TURNS_SECONDS, Options
from harness.training.parallel import mesh
from harness.training.pauses import Pauses
from harness.training.stepping import Walk
from harness.training.turns import Limits, Side


def run(options: Options, run_ids: tuple[str, str], percent: float, seconds: float | None) -> int:
    """Measures two complete runs in turns, notes it in the records of both, returns the exit code.

    Of several processes only the first one need know the runs. percent, seconds: the limits of the
    turns; None: what is usual for the devices. Raises UserError for runs that are not there, not
    complete or were on other devices. What fails leaves the records as they were.
    """
    try:
        _measure(options, run_ids, percent, seconds)
    except UserError:
        raise
    except Exception as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _measure(
    options: Options, run_ids: tuple[str, str], percent: float, seconds: float | None
) -> None:
    fewest = going_on.fewest_devices(options.results, run_ids[0])
    run_devices = devices.prepare(options.devices, options.processes, fewest)
    if seconds is None:
        on_cpu = run_devices[0].platform == "cpu"
        seconds = CPU_TURNS_SECONDS if on_cpu else TURNS_SECONDS
    with Owner() as of_a, Owner() as of_b:
        named = [*zip(run_ids, (of_a, of_b), strict=True)]
        a, b = agreed(lambda: [_complete(options.results, *one) for one in named])
        limits = Limits(percent, seconds)
        before = turns.of_records(a, b)
        if before is not None and before.suffice(limits):
            _tell("in turns: measured before")
            return
        recorders = Recorder(a), Recorder(b)
        if _fits(recorders):
            pauses = Pauses()
            with Console(quiet=jax.process_index() != 0) as console:
                console.begin(f"in turns, for at most {seconds:g} s")
                side_a, side_b = (_side(options, one, run_devices, pauses) for one in (a, b))
                console.begin("in turns", seconds, announced=False)
                with termination() as stop_asked, pauses:
                    measured = turns.measure(side_a, side_b, limits, stop_asked)
            for recorder, side, own in zip(recorders, (side_a, side_b), "AB", strict=True):
                partner = (b if own == "A" else a)["run_id"]
                recorder.set(turns=measured.told(own, partner))
                _compare_losses(recorder, side, partner)
            _tell(_summary(measured))
        for owner, recorder in zip((of_a, of_b), recorders, strict=True):
            owner.check()
            if jax.process_index() == 0:
                replace_record(options.results, recorder.record)


def _complete(results: Any, run_id: str, owner: Owner) -> Record:
    record_module.check_run_id(run_id)
    if (results / run_id).exists():
        owner.take(results / run_id)
    return complete("--in-turns", results, run_id)


def _fits(recorders: tuple[Recorder, Recorder]) -> bool:
    """Whether a device holds both states, as far as can be told; a warning in both if not."""
    a, b = (recorder.record for recorder in recorders)
    needed = accounting.both_bytes(a["memory"], b["memory"])
    capacity = agreed(_limit) or a["memory"]["capacity_bytes"]
    if needed is None or capacity is None or needed <= capacity:
        return True
    for recorder, partner in zip(recorders, (b, a), strict=True):
        recorder.warn(
            Caution.TOO_LARGE_FOR_TURNS,
            partner=partner["run_id"],
            needed=size(needed),
            capacity=size(capacity),
        )
    _tell(f"not in turns: both states need {size(needed)} of {size(capacity)} a device")
    return False


def _limit() -> int | None:
    """Bytes that a device's allocator may take, None where it does not say."""
    limit: int | None = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit


def _side(options: Options, record: Record, run_devices: list[jax.Device], pauses: Pauses) -> Side:
    """The run's step, compiled, and the state that it began with."""
    case = _case(record)
    grid = mesh.make(case, run_devices)
    ran_on = record["environment"]["device_count"]
    if ran_on != grid.devices:
        here = "is 1" if grid.devices == 1 else f"are {grid.devices}"
        raise UserError(f"--in-turns {record['run_id']}: ran on {ran_on} devices, here {here}")
    case = going_on.as_begun(case, record["case"], ran_on, grid)
    checking.require(case)
    plan = loop.Plan(
        case=case,
        impl=record["impl"],
        init=record["init"],
        grid=grid,
        restore=options.restore,
        restore_what=options.restore_what,
        nnx_state=record_module.at(record, "nnx_state"),
    )
    saves_nothing = Checkpointer("", Checkpoint(enabled=False), {"case": record["case"]})
    own = Recorder(record_module.blank(record["run_id"], "failed"))  # what is noted is known

    def phase(*names: str) -> AbstractContextManager[None]:
        return nullcontext()

    ready = loop.prepare(plan, own, saves_nothing, phase)
    return Side(Walk(ready.running, ready.state), ready.first_step, paused=pauses.came)


def _case(record: Record) -> Case:
    return reading.from_flat(record["case"]["name"], record["case"]["config"])


def _compare_losses(recorder: Recorder, side: Side, partner: str) -> None:
    """Warns where the steps in turns are not those of the run alone, bit for bit."""
    entry = turns.first_difference(side, recorder.record["steps"])
    if entry is not None:
        step = entry["step"]
        here, there = entry["loss"], side.losses[step]
        recorder.warn(Caution.OTHER_IN_TURNS, partner=partner, step=step, here=here, there=there)
        _tell(f"warning: {recorder.record['warnings'][-1]}")


def _summary(measured: turns.Turns) -> str:
    ratio = measured.ratio(0.0)
    words = f"in turns: {len(measured.a)} blocks of {measured.block_steps} steps each"
    if measured.left_out:
        words += f", {counted(measured.left_out, 'round')} left out as the process was stopped"
    if ratio is None:
        return words
    words += f", step time {percent(ratio.value)}"
    if ratio.low is None or ratio.high is None:
        return f"{words}; too few for an interval, --turns-seconds gives them more time"
    return f"{words} ({percent(ratio.low)} to {percent(ratio.high)})"


def _tell(line: str) -> None:
    if jax.process_index() == 0:
        print(line, flush=True)
