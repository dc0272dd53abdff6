"""Which run a command trains: a new one, one that goes on, or none, as it is complete."""

from collections.abc import Mapping
from typing import Any

import jax

from harness.cases import reading
from harness.cases.settings import Case
from harness.records import record as record_module
from harness.records import storage
from harness.records.cautions import Caution
from harness.records.ownership import Owner
from harness.records.record import Record
from harness.records.recorder import Recorder
from harness.records.run_folder import RunFolder, not_there
from harness.saving import restoring
from harness.terminal.errors import UserError
from harness.terminal.text import safe
from harness.training import attempt, checking, devices, going_on, joining, leftover
from harness.training.agreement import agreed
from harness.training.leftover import Left
from harness.training.options import Options
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

        def find() -> tuple[str, Left | None]:
            if run_id is None:
                name = record_module.new_run_id(case.shown, impl)
                owner.take(options.results / name)
                return name, None
            left = leftover.find(options.results, run_id, owner)
            if left is not None:
                same = start | {"nnx_state": options.nnx_state}
                going_on.check_same(left.record, case, same, options.results / run_id)
            return run_id, left

        name, found = agreed(find)
        if found is not None:
            left = Left(*found)
            if left.record["status"] != "completed":
                return _go_on(options, case, left, grid, owner)
            return _complete(options, name)
        recorder = Recorder(record_module.blank(name, "failed", **start))
        recorder.set(nnx_state=options.nnx_state, nonfinite_steps=0)
        case, earlier = _with_checkpoint(options, case, start, grid)
        _require_shared(options, case, name)
        folder = RunFolder(options.results, name, owner, jax.process_index())
        return attempt.run(options, case, recorder, folder, grid, earlier)


def resume(options: Options, run_id: str) -> int:
    """Goes on with a run where its newest good checkpoint left it; returns the exit code.

    The case, size, implementation and start are the run's own; only `run.steps` and `checkpoint.*`
    may be overridden. A run that is complete is left as it is. Raises UserError for a run that is
    not there, and for more steps than a complete one has had.
    """
    fewest = going_on.fewest_devices(options.results, run_id)
    run_devices = devices.prepare(options.devices, options.processes, fewest)
    with Owner() as owner:

        def find() -> Left:
            there = (options.results / run_id).is_dir()
            left = leftover.find(options.results, run_id, owner) if there else None
            if left is None:
                raise not_there("--resume", options.results, run_id)
            return left

        left = Left(*agreed(find))
        case = _case_of(left.record, options.overrides)
        if left.record["status"] == "completed":
            done = left.record["case"]["config"]["run.steps"]
            if case.run.steps != done:
                raise UserError(
                    f"--resume {run_id}: the run is complete with run.steps={done}; to train on,"
                    f" give a run of its own --restore {options.results / run_id / 'checkpoints'}"
                )
            return _complete(options, run_id)
        return _go_on(options, case, left, mesh.make(case, run_devices), owner)


def _complete(options: Options, run_id: str) -> int:
    """Says that nothing is left to be done; returns the exit code."""
    if jax.process_index() == 0:
        print(f"{run_id}: is complete\nrecord: {options.results / run_id / 'record.json'}")
    return 0


def _case_of(record: Record, overrides: tuple[str, ...]) -> Case:
    """The case of a run that goes on, with overrides; UserError for another experiment."""
    run_id, begun = record["run_id"], record["case"]
    case = reading.from_flat(begun["name"], begun["config"], overrides)
    if reading.case_hash(case, record["size"], record["recipe"]) == begun["hash"]:
        return case
    if not overrides:
        raise UserError(f"--resume {run_id}: the record's case.config does not match its hash")
    raise UserError(
        f"--resume {run_id}: --set {' '.join(overrides)} makes it another experiment;"
        " only run.steps and checkpoint.* may change"
    )


def _go_on(options: Options, case: Case, left: Left, grid: Grid, owner: Owner) -> int:
    before = left.record
    _require_steps(options, case, before)
    case = going_on.as_begun(case, before["case"], before["environment"]["device_count"], grid)
    names = ("impl", "size", "recipe", "init")
    record = record_module.blank(
        before["run_id"], "failed", **{name: before[name] for name in names}
    )
    attempts = [*before["attempts"], going_on.attempt_of(before)]
    recorder = Recorder(record)
    recorder.set(nnx_state=record_module.at(before, "nnx_state"), attempts=attempts)
    recorder.earlier(before["steps"], before.get("evals", ()))
    for save in before["checkpoint"]["saves"]:
        recorder.save(save)
    for fault in left.faults:
        recorder.warn(Caution.DAMAGED, what=safe(fault, 300))
    run_id, index = before["run_id"], jax.process_index()
    _require_shared(options, case, run_id)
    folder = RunFolder(options.results, run_id, owner, index, resume=True)
    return attempt.run(options, case, recorder, folder, grid, attempts, left.begun)


def _require_steps(options: Options, case: Case, before: Record) -> None:
    """Raises UserError for fewer steps than the run's newest checkpoint has had."""
    if case.run.steps >= before["case"]["config"]["run.steps"]:
        return
    place = case.checkpoint.directory or options.results / before["run_id"] / leftover.CHECKPOINTS
    about = agreed(lambda: restoring.about(place))
    if about is not None and about["step"] >= case.run.steps:
        raise UserError(
            f"run.steps={case.run.steps}: {place} has a checkpoint of step {about['step']} already;"
            f" the run can go on to run.steps={about['step'] + 1} or more"
        )


def _require_shared(options: Options, case: Case, name: str) -> None:
    """Raises UserError unless all hosts have one place for the checkpoints, where there are any."""
    if case.checkpoint.enabled:
        given = case.checkpoint.directory
        joining.require_shared(options.results / name if given is None else storage.place(given))


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
