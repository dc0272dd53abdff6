"""Which run a command trains: a new one, one that goes on, or none, as it is complete."""

from collections.abc import Mapping
from typing import Any

import jax

from harness.cases import reading
from harness.cases.settings import Case
from harness.errors import UserError
from harness.records import record as record_module
from harness.records.ownership import Owner
from harness.records.record import Record
from harness.records.recorder import Recorder
from harness.records.run_folder import RunFolder, earlier_record
from harness.saving import restoring
from harness.training import attempt, checking, devices, going_on
from harness.training.agreement import agreed
from harness.training.attempt import Options as Options
from harness.training.parallel import mesh
from harness.training.parallel.mesh import Grid


def run(options: Options, impl: str, run_id: str | None) -> int:
    """Trains a case once and returns the exit code.

    A run of this name that has not ended goes on, so that whatever restarts a job need not know
    how far it was. One that is complete is left as it is; so is another experiment's: UserError.
    """
    given = (options.overrides, options.recipe, options.twins)
    fewest = reading.load(options.case, "full", *given).parallel.fixed
    run_devices = devices.prepare(options.devices, options.processes, fewest)
    size = options.size
    if size == "auto":
        size = "tiny" if run_devices[0].platform == "cpu" else "full"
    case = reading.load(options.case, size, *given)
    grid = mesh.make(case, run_devices)
    checking.require(case)
    start = {"impl": impl, "size": size, "recipe": options.recipe, "init": options.init}

    with Owner() as owner:

        def find() -> tuple[str, Record | None]:
            if run_id is None:
                name = record_module.new_run_id(case.name, impl)
                owner.take(options.results / name)
                return name, None
            before = _taken(options.results, run_id, owner)
            if before is not None:
                same = start | {"nnx_state": options.nnx_state}
                going_on.check_same(before, case, same, options.results / run_id)
            return run_id, before

        name, before = agreed(find)
        if before is None:
            recorder = Recorder(record_module.blank(name, "failed", **start))
            recorder.set(nnx_state=options.nnx_state)
            case, earlier = _with_checkpoint(options, case, start, grid)
            folder = RunFolder(options.results, name, owner, jax.process_index())
            return attempt.run(options, case, recorder, folder, grid, earlier)
        if before["status"] == "completed":
            if jax.process_index() == 0:
                print(f"{name}: is complete\nrecord: {options.results / name / 'record.json'}")
            return 0
        return _go_on(options, case, before, grid, owner)


def _taken(results: Any, run_id: str, owner: Owner) -> Record | None:
    """What a run of this name has left; it is taken over unless it is complete."""
    before = earlier_record(results, run_id)
    if before is not None and before["status"] == "completed":
        return before
    owner.take(results / run_id)
    return earlier_record(results, run_id)


def resume(options: Options, run_id: str) -> int:
    """Goes on with a run where its newest good checkpoint left it; returns the exit code.

    The case, size, implementation and start are the run's own; only `run.steps` and `checkpoint.*`
    may be overridden. Raises UserError for a run that is not there or is complete.
    """
    path = options.results / run_id / "record.json"
    fewest = going_on.fewest_devices(path)
    run_devices = devices.prepare(options.devices, options.processes, fewest)
    with Owner() as owner:

        def find() -> Record:
            before = _taken(options.results, run_id, owner) if path.exists() else None
            if before is None:
                raise UserError(f"--resume {run_id}: {path} is not there")
            if before["status"] == "completed":
                raise UserError(f"--resume {run_id}: the run is complete")
            return before

        before = agreed(find)
        case = reading.from_flat(
            before["case"]["name"], before["case"]["config"], options.overrides
        )
        if reading.case_hash(case, before["size"], before["recipe"]) != before["case"]["hash"]:
            raise UserError(
                f"--resume {run_id}: --set {' '.join(options.overrides)} makes it another"
                " experiment; only run.steps and checkpoint.* may change"
            )
        return _go_on(options, case, before, mesh.make(case, run_devices), owner)


def _go_on(options: Options, case: Case, before: Record, grid: Grid, owner: Owner) -> int:
    case = going_on.as_begun(case, before["case"], before["environment"]["device_count"], grid)
    names = ("impl", "size", "recipe", "init")
    record = record_module.blank(
        before["run_id"], "failed", **{name: before[name] for name in names}
    )
    attempts = [*before["attempts"], going_on.attempt_of(before)]
    recorder = Recorder(record)
    recorder.set(nnx_state=record_module.at(before, "nnx_state"), attempts=attempts)
    for save in before["checkpoint"]["saves"]:
        recorder.save(save)
    folder = RunFolder(options.results, before["run_id"], owner, jax.process_index(), resume=True)
    return attempt.run(options, case, recorder, folder, grid, attempts, resume=True)


def _with_checkpoint(
    options: Options, case: Case, start: Mapping[str, str], grid: Grid
) -> tuple[Case, list[Mapping[str, Any]]]:
    """The case as the run began whose whole state --restore takes, and what that run was made on.

    As it is where nothing, another case's state or parameters alone are taken.
    """
    if options.restore is None or options.restore_what == "params":
        return case, []
    place = options.restore
    about = agreed(lambda: restoring.about(place))
    own = reading.case_hash(case, start["size"], start["recipe"])
    if about is None or about["case"]["hash"] != own:
        return case, []
    environment = about["environment"]
    devices = {"devices": environment["device_count"], "device_kind": environment["device_kind"]}
    return going_on.as_begun(case, about["case"], devices["devices"], grid), [devices]
