"""Trains a case, or two models of your own: `harness run --case 03_dropout --impl nnx`."""

import importlib.util
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from harness.cases import families, reading
from harness.cases.settings import Case
from harness.records import record, run_folder, storage
from harness.saving import folders
from harness.terminal import cli, installing
from harness.terminal.errors import UserError
from harness.training import devices
from harness.training.options import CPU_TURNS_SECONDS, TURNS_SECONDS, Options

_CHANGED = ("set", "recipe", "nnx_state", "init")  # what --against may hold


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness run",
        description="Trains a case, or two models of your own; each run leaves a record.",
    )
    add = arguments.add_argument
    add("--list", action="store_true", help="show the cases and end")
    add("--case", help="a case's name (see --list) or a YAML file")
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both (default: both)")
    add("--twins", metavar="MODULE", help="two models of your own: a module with PAIR = Pair(...)")
    add("--check", action="store_true", help="train nothing: say what the pair lacks or wastes, and"
        " where its sides differ by more than rounding")  # fmt: skip
    add("--size", default="auto", choices=["auto", "tiny", "awkward", "full"],
        help="auto: full, but tiny on a CPU; awkward: tiny, in widths that are no powers of two"
    )  # fmt: skip
    add(
        "--recipe",
        default="reference",
        choices=list(reading.RECIPES),
        help="the step as published, or set up for speed",
    )
    add("--steps", type=int, help="the same as --set run.steps=N")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting (harness settings)",
    )
    add(
        "--align-random",
        action="store_true",
        help="let two models that use random keys of their own draw the same numbers: the n-th key"
        " of the one gives the bits of the other's n-th (--set run.align_random=true)",
    )
    add("--devices", type=int, metavar="N", help="how many: simulated on a CPU (default: what the"
        " sizes of parallel.* need), elsewhere checked")  # fmt: skip
    add(
        "--results-dir",
        type=storage.place,
        default=Path("results"),
        help="where runs are kept (default: results), or gs://BUCKET/...",
    )
    add("--run-id", help="the run's name (default: made up); one that has not ended goes on")
    add("--repeats", type=int, default=1, metavar="N", help="runs per implementation")
    add(
        "--init",
        default="shared",
        choices=["shared", "native"],
        help="one initial state for both, or each its own",
    )
    add("--nnx-state", default="dict", choices=["dict", "state", "jit"],
        help="how the state of --impl nnx crosses jit: as plain trees, as an nnx.State, by nnx.jit"
    )  # fmt: skip
    add("--restore", metavar="PATH", help="start from the newest of a folder of checkpoints, from"
        " one of them, or from an .npz of parameters")  # fmt: skip
    add("--restore-what", choices=["params", "all"], help="take only its parameters, or its whole"
        " state (default: all from the same case, params from another)")  # fmt: skip
    add("--resume", metavar="RUN_ID", help="go on with a run that was stopped or killed")
    add("--profile-steps", metavar="A:B", help="profile steps A to B-1 with JAX's profiler")
    add("--tensorboard", action="store_true", help="write scalars for TensorBoard")
    add("--against", default="", metavar="'--set KEY=VALUE ...'", help="run the one --impl once"
        " more with this change (--set, --recipe, --nnx-state, --init), and compare it with the"
        " case as given")  # fmt: skip
    add("--no-turns", action="store_true", help="leave out the turns, in which two runs are"
        " measured side by side with both states on the devices")  # fmt: skip
    add("--precision", type=float, default=1.0, metavar="PERCENT", help="turns end when the"
        " interval of their ratio is this narrow (default: %(default)g)")  # fmt: skip
    add(
        "--turns-seconds",
        type=float,
        metavar="SECONDS",
        help="turns end after so long at the latest (default:"
        f" {CPU_TURNS_SECONDS:g} on a CPU, {TURNS_SECONDS:g} elsewhere)",
    )
    add("--in-turns", nargs=2, metavar="RUN_ID", help="run two complete runs again, in turns")
    devices.add_options(arguments)
    return arguments


def main(argv: list[str]) -> int:
    """Runs what the arguments say; returns the exit code.

    Imports JAX only once nothing is left to be refused without it.
    """
    arguments = parser().parse_args(argv)
    if arguments.list:
        return _list_cases()
    if arguments.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError(f"--tensorboard: needs tensorboardX: {installing.command('tensorboard')}")
    if arguments.restore_what is not None and arguments.restore is None:
        raise UserError(f"--restore-what {arguments.restore_what}: only with --restore")
    _require_nnx(arguments)
    _require_limits(arguments)
    options = _options(arguments)
    if arguments.in_turns is not None:
        return _turns(options, arguments)
    if arguments.resume is not None:
        return _resume(options, arguments.resume)
    if arguments.check:
        return _check(arguments)
    return _run(options, arguments, argv)


def _turns(options: Options, arguments: Namespace) -> int:
    if _are_alone(options):
        for run_id in arguments.in_turns:
            run_folder.complete("--in-turns", options.results, run_id)
    from harness.training import turns_session

    limits = arguments.precision, arguments.turns_seconds
    return turns_session.run(options, tuple(arguments.in_turns), *limits)


def _resume(options: Options, run_id: str) -> int:
    record.check_run_id(run_id)
    place = options.results / run_id
    with storage.errors_told(place):
        is_empty = not (place.is_dir() and any(place.iterdir()))
    if is_empty and _are_alone(options):
        raise run_folder.not_there("--resume", options.results, run_id)
    from harness.training import session

    return session.resume(options, run_id)


def _are_alone(options: Options) -> bool:
    """Whether what is not found is not there; one of several hosts need not see what others do."""
    return devices.are_alone(options.processes)


def _run(options: Options, arguments: Namespace, argv: Sequence[str]) -> int:
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: must be at least 1")
    if arguments.run_id is not None:
        record.check_run_id(arguments.run_id)
    run_folder.check_writable(options.results)
    variants = _variants(arguments, argv)
    case = _load(arguments)  # refused now, not by each process
    # A run of a name may go on, and then needs nothing of what it began with.
    if options.restore is not None and arguments.run_id is None and _are_alone(options):
        folders.require(options.restore)
    if devices.platform() == "cpu":
        devices.cpu_count(options.devices, options.processes, case.parallel.fixed)
    if len(variants) * arguments.repeats == 1:
        from harness.training import session

        return session.run(options, arguments.impl, arguments.run_id)
    if case.checkpoint.directory is not None:
        raise UserError(
            f"checkpoint.directory={case.checkpoint.directory}: is one run's;"
            " give --impl, and neither --repeats nor --against"
        )
    from harness.training import several
    from harness.training.children import Children

    wanted = several.Wanted(
        variants, arguments.repeats, arguments.run_id, in_turns=not arguments.no_turns
    )
    return several.run(wanted, Children(argv, options.processes))


def _require_nnx(arguments: Namespace) -> None:
    if arguments.nnx_state != "dict" and (
        arguments.impl != "nnx" or arguments.twins is not None or arguments.resume is not None
    ):
        raise UserError(
            f"--nnx-state {arguments.nnx_state}: only with --impl nnx, without --twins or --resume"
        )


def _load(arguments: Namespace, size: str = "full") -> Case:
    options = _options(arguments)
    return reading.load(options.case, size, options.overrides, options.recipe, options.twins)


def _require_limits(arguments: Namespace) -> None:
    for name in ("precision", "turns_seconds"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value}: must be a number above 0")


def _options(arguments: Namespace) -> Options:
    more = [] if arguments.steps is None else [f"run.steps={arguments.steps}"]
    more += ["run.align_random=true"] if arguments.align_random else []
    return Options(
        case=_case(arguments),
        size=arguments.size,
        recipe=arguments.recipe,
        overrides=tuple(arguments.set + more),
        devices=arguments.devices,
        processes=devices.told(arguments),
        results=arguments.results_dir,
        init=arguments.init,
        restore=arguments.restore,
        profile=_profile(arguments.profile_steps),
        tensorboard=arguments.tensorboard,
        twins=arguments.twins,
        nnx_state=arguments.nnx_state,
        restore_what=arguments.restore_what,
    )


def _case(arguments: Namespace) -> str:
    """The case that is run or checked; of runs that go on or take turns, their own."""
    if arguments.resume is not None or arguments.in_turns is not None:
        return ""
    usual = "01_baseline" if arguments.check and arguments.twins is None else None
    return reading.given(arguments.case or usual, arguments.twins)


def _profile(text: str | None) -> range:
    if text is None:
        return range(0)
    start, colon, stop = text.partition(":")
    if not (colon and start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise UserError(f"--profile-steps {text}: must be A:B, two step numbers with A < B")
    return range(int(start), int(stop))


def _list_cases() -> int:
    for name in reading.case_names():
        heading = (reading.CASES / f"{name}.yaml").read_text().splitlines()[0]
        print(heading.removeprefix("# "))
    return 0


def _check(arguments: Namespace) -> int:
    size = "full" if arguments.size == "auto" else arguments.size
    devices.cpu_count(arguments.devices)
    _load(arguments, size)
    from harness.bisecting import examining

    return examining.examine(
        lambda one: _load(arguments, one), _case(arguments), size, arguments.devices
    )


def _variants(arguments: Namespace, argv: Sequence[str]) -> dict[str, list[str]]:
    """What each run of the command is given beyond `argv`, by a name that tells it from the rest.

    Raises UserError for what --against may not change.
    """
    if not arguments.against:
        impls = families.chosen(families.load(arguments.twins), arguments.impl)
        return {impl: ["--impl", impl] for impl in impls}
    where = f"--against {arguments.against!r}"
    if arguments.impl == "both":
        raise UserError(f"{where}: measures a change of one implementation; give --impl")
    try:
        words = shlex.split(arguments.against)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    usual, given = vars(parser().parse_args([])), vars(parser().parse_args(words))
    others = [name for name in given if given[name] != usual[name] and name not in _CHANGED]
    if others:
        allowed = ", ".join(f"--{name.replace('_', '-')}" for name in _CHANGED)
        raise UserError(f"{where}: may hold only {allowed}")
    changed = parser().parse_args([*argv, *words])
    _require_nnx(changed)
    _load(changed)
    return {"A": [], "B": words}


if __name__ == "__main__":
    cli.main(main)
