"""What a run keeps of its start when it goes on with other devices or more steps."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from harness import optimizers
from harness.cases import reading
from harness.cases.settings import Case
from harness.records import record as record_module
from harness.records.cautions import Caution
from harness.records.record import Record, RecordError
from harness.records.recorder import Recorder
from harness.records.run_folder import earlier_record
from harness.terminal.errors import UserError
from harness.training import data
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid


def as_begun(case: Case, begun: Mapping[str, Any], devices: int | None, grid: Grid) -> Case:
    """`case` with the batch and the schedule of the run that it goes on with.

    begun: that run's `case`, as its record or a checkpoint tells it, of the same experiment;
    devices: how many that run had, which tells the batch of an older one. Raises UserError when
    the devices at hand cannot share the batch.
    """
    batch = begun.get("global_batch")
    if batch is None:
        batch = data.global_batch(case, mesh.batch_parts(case, devices or grid.devices))
    if batch % grid.batch_parts:
        raise UserError(
            f"--devices {grid.devices}: the run goes on with the {batch} sequences a step that it"
            f" began with, which {grid.batch_parts} devices cannot share evenly"
        )
    steps = begun.get("schedule_steps") or begun["config"]["run.steps"]
    return replace(case, global_batch=batch, schedule_steps=steps)


def fewest_devices(results: Any, run_id: str) -> int:
    """How many devices the case of a run needs at least; 1 where no record is to tell."""
    record = None
    with contextlib.suppress(RecordError):
        record = earlier_record(results, run_id)
    config = {} if record is None else record["case"]["config"]
    sizes = [size for key, size in config.items() if key.startswith("parallel.")]
    return math.prod(size for size in sizes if size != -1)


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


def note(case: Case, earlier: list[Mapping[str, Any]], grid: Grid, recorder: Recorder) -> None:
    """Keeps batch and schedule in the record; warns where this start would have had others.

    earlier: the starts before this one, with what each ran on, as in the record's `attempts`.
    """
    batch = data.global_batch(case, grid.batch_parts)
    steps = case.schedule_steps or case.run.steps
    recorder.note("case", global_batch=batch, schedule_steps=steps)
    now = _devices(grid.devices, grid.kind)
    told = [_devices(one["devices"], one["device_kind"]) for one in earlier if one.get("devices")]
    others = [one for one in dict.fromkeys(told) if one != now]
    if others:
        recorder.warn(Caution.OTHER_DEVICES, begun=" and ".join(others), now=now, batch=batch)
    if not _same_schedule(case, steps):
        recorder.warn(Caution.KEPT_SCHEDULE, now=case.run.steps, begun=steps)


def attempt_of(before: Record) -> dict[str, Any]:
    """The last start of a run that goes on, as an entry of `attempts`."""
    environment = before["environment"]
    return {
        "status": before["status"],
        "error": before["error"],
        "time": environment["time"],
        "wall_seconds": before["timing"]["wall_seconds"],
        "devices": environment["device_count"],
        "device_kind": environment["device_kind"],
        "warnings": before["warnings"],
    }


def _same_schedule(case: Case, steps: int) -> bool:
    """Whether the learning rates are those of a run of the steps that this one has."""
    make = optimizers.load(case.optimizer).schedule
    numbers = (jax.tree.leaves(make(case.optim, count)) for count in (steps, case.run.steps))
    return all(map(np.array_equal, *numbers))


def _devices(count: int, kind: str | None) -> str:
    return f"{count} x {kind or 'device ?'}"
