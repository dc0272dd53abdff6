"""Trains one case: `python -m harness.run --case 03_dropout --impl nnx`."""

import importlib.util
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness import cli
from harness.cases import families, reading
from harness.cases.settings import Case
from harness.comparing import comparison, comparison_text, compiled
from harness.errors import UserError
from harness.records import record, storage, summary
from harness.records.finding import Found
from harness.records.run_folder import check_writable
from harness.text import safe
from harness.training import checking, describing, devices, session
from harness.training.devices import Processes
from harness.training.parallel import mesh

_CHECKED_ON = 8  # CPU devices: a batch that does not stay split shows on any number of them


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="python -m harness.run", description="Trains one case and leaves a record."
    )
    add = arguments.add_argument
    add("--list", action="store_true", help="show the cases and end")
    add("--case", help="a case's name (see --list) or a YAML file")
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both")
    add("--twins", metavar="MODULE", help="train a pair of your own, see models/seam.py")
    add("--check", action="store_true", help="say what the pair lacks or wastes, and end")
    add("--size", default="auto", choices=["auto", "tiny", "full"], help="auto: tiny on a CPU")
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="how it is set up")
    add("--steps", type=int, help="the same as --set run.steps=N")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add("--devices", type=int, metavar="N", help="forced on a CPU, checked elsewhere")
    add("--results-dir", type=storage.place, default=Path("results"), help="or gs://BUCKET/...")
    add("--run-id", help="the run's name (default: made up); one that has not ended goes on")
    add("--repeats", type=int, default=1, metavar="N", help="runs per implementation")
    add("--init", default="shared", choices=["shared", "native"], help="whose initial parameters")
    add("--nnx-state", default="dict", choices=["dict", "state", "jit"],
        help="how the state of --impl nnx crosses jit: plain, nnx.State, nnx.jit")  # fmt: skip
    add("--restore", metavar="PATH", help="start from checkpoints, one of them, or an .npz")
    add("--resume", metavar="RUN_ID", help="go on with a run that was stopped or killed")
    add("--profile-steps", metavar="A:B", help="profile steps A to B-1 with JAX's profiler")
    add("--tensorboard", action="store_true", help="write scalars for TensorBoard")
    add("--coordinator", metavar="HOST:PORT", help="of process 0, for several processes")
    add("--processes", type=int, metavar="N", help="how many processes train together")
    add("--process-id", type=int, metavar="I", help="which of them this is, from 0")
    return arguments


def main(argv: list[str]) -> int:
    """Runs what the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.list:
        return _list_cases()
    if arguments.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            "--tensorboard: needs tensorboardX; install the extra: pip install '.[tensorboard]'"
        )
    if arguments.nnx_state != "dict" and (
        arguments.impl != "nnx" or arguments.twins is not None or arguments.resume is not None
    ):
        raise UserError(
            f"--nnx-state {arguments.nnx_state}: only with --impl nnx, without --twins or --resume"
        )
    if arguments.resume is not None:
        record.check_run_id(arguments.resume)
        return session.resume(_options(arguments), arguments.resume)
    if arguments.check:
        return _check(arguments)
    impls = families.chosen(families.load(arguments.twins), arguments.impl)
    if arguments.case is None:
        raise UserError(f"--case is missing; known are {', '.join(reading.case_names())}")
    if arguments.repeats < 1:
        raise UserError(f"--repeats {arguments.repeats}: must be at least 1")
    if arguments.run_id is not None:
        record.check_run_id(arguments.run_id)
    options = _options(arguments)
    check_writable(options.results)
    # Refused now, not by each process.
    case = reading.load(options.case, "full", options.overrides, options.recipe, options.twins)
    if arguments.impl != "both" and arguments.repeats == 1:
        return session.run(options, arguments.impl, arguments.run_id)
    if case.checkpoint.directory is not None:
        raise UserError(
            f"checkpoint.directory={case.checkpoint.directory}: is one run's;"
            " give --impl and no --repeats"
        )
    return _run_each(argv, arguments, impls)


def _options(arguments: Namespace) -> session.Options:
    steps = [] if arguments.steps is None else [f"run.steps={arguments.steps}"]
    return session.Options(
        case=arguments.case,
        size=arguments.size,
        recipe=arguments.recipe,
        overrides=tuple(arguments.set + steps),
        devices=arguments.devices,
        processes=_processes(arguments),
        results=arguments.results_dir,
        init=arguments.init,
        restore=arguments.restore,
        profile=_profile(arguments.profile_steps),
        tensorboard=arguments.tensorboard,
        twins=arguments.twins,
        nnx_state=arguments.nnx_state,
    )


def _processes(arguments: Namespace) -> Processes | None:
    given = (arguments.coordinator, arguments.processes, arguments.process_id)
    if given == (None, None, None):
        return None
    if None in given:
        raise UserError("--coordinator, --processes and --process-id go together")
    if not 0 <= arguments.process_id < arguments.processes:
        raise UserError(
            f"--process-id {arguments.process_id}: must lie in [0, {arguments.processes})"
        )
    return Processes(*given)


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
    """Says what a pair lacks to be trained, and what its tiny step would compute in vain."""
    cpus = devices.prepare_cpus(arguments.devices or _CHECKED_ON)
    size = "full" if arguments.size == "auto" else arguments.size
    case = _checked(arguments, size)
    pair, found = families.of(case), checking.faults(case)
    for fault in found:
        print(fault)
    if found:
        return 1
    names = " and ".join(pair.names)
    print(f"{pair.name}: {names} hold one tree of parameters and can be trained")
    tiny = _checked(arguments, "tiny")
    try:
        warnings = describing.wasted_steps(tiny, mesh.make(tiny, cpus))
    except UserError as error:  # what is tiny may be too small to be split
        warnings = [f"not compiled for {len(cpus)} devices: {error}"]
    for warning in warnings:
        print(f"warning: {warning}")
    return 0


def _checked(arguments: Namespace, size: str) -> Case:
    options = _options(arguments)
    case = options.case or "01_baseline"
    return reading.load(case, size, options.overrides, options.recipe, options.twins)


def _run_each(argv: list[str], arguments: Namespace, impls: Sequence[str]) -> int:
    """One process per run, so that no run sees another's memory, programs or failures."""
    runs: dict[str, list[Found]] = {impl: [] for impl in impls}
    codes = []
    for repeat in range(1, arguments.repeats + 1):
        for impl in impls:
            run_id = None
            if arguments.run_id is not None:
                parts = [arguments.run_id, *([impl] if len(impls) > 1 else [])]
                run_id = "-".join([*parts, *([str(repeat)] if arguments.repeats > 1 else [])])
            code, path = _child(argv, impl, run_id)
            codes.append(code)
            if path is not None:
                runs[impl].append(Found(path, record.read(path)))
    _compare([side for side in runs.values() if side])
    for side in runs.values():
        for found in side:
            print(f"record: {arguments.results_dir / found.record['run_id'] / 'record.json'}")
    return max(codes)


def _compare(sides: Sequence[Sequence[Found]]) -> None:
    """Prints what two implementations have in common, or one's repeats side by side."""
    records = [[found.record for found in side] for side in sides]
    if len(sides) == 2:
        programs, warnings = compiled.read(sides[0][0], sides[1][0])
        compared = comparison.compare(records[0], records[1], programs=programs)
        told = [f"warning: {safe(warning, 400)}" for warning in warnings]
        print("\n".join(["", *told, comparison_text.terminal(compared)]))
    elif sides and len(sides[0]) > 1:
        print(f"\n{summary.table(records[0])}")


def _child(argv: list[str], impl: str, run_id: str | None) -> tuple[int, Path | None]:
    """Runs one implementation once; returns its exit code and where its record lies."""
    last = ["--impl", impl, "--repeats", "1", *(["--run-id", run_id] if run_id else [])]
    command = [sys.executable, "-m", "harness.run", *argv, *last]
    path = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:

        def pass_on(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        previous = signal.signal(signal.SIGTERM, pass_on)
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", flush=True)
            if line.startswith("record: "):
                path = storage.local_copy(storage.place(line.removeprefix("record: ").rstrip("\n")))
        signal.signal(signal.SIGTERM, previous)
    return child.returncode, path


if __name__ == "__main__":
    cli.main(main)
