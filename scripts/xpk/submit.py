"""Submits cases to TPU slices through XPK: `python scripts/xpk/submit.py --help` shows how."""

import json
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import workload
from workload import Workload

from harness.cases import families, reading
from harness.records import atomic, environment
from harness.slices import topology
from harness.terminal import cli
from harness.terminal.errors import UserError

FORMAT = 1  # of the submission file
_CHECKOUT = Path(__file__).resolve().parents[2]
_XPK_VERSION = "1.16"
_FAILED = 1

# The program carries its own compiler options; these reach only the process. Without a TPU that
# can be used the run fails, where it would else go on with tiny sizes on the host's CPU.
_ENVIRONMENT = {"JAX_PLATFORMS": "tpu,cpu"}


def parser() -> cli.Parser:
    """The command's arguments; those about the cluster are XPK's own."""
    arguments = cli.Parser(
        prog="python scripts/xpk/submit.py",
        description="Submits one XPK workload per case, implementation and repeat.",
    )
    add = arguments.add_argument
    add("--case", help="cases' names, separated by commas, or all; needed without --twins")
    add("--impl", default="both", metavar="NAME", help="linen, nnx or both")
    add("--twins", metavar="MODULE", help="a pair of your own, which the image must hold too")
    add("--repeats", type=int, default=1, metavar="N", help="runs per implementation")
    add("--recipe", default="reference", choices=list(reading.RECIPES), help="the step as"
        " published, or set up for speed")  # fmt: skip
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    add("--output", required=True, help="where runs are kept: gs://BUCKET/FOLDER or a mounted one")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="such as LIBTPU_INIT_ARGS")
    add("--prefix", default="mt", help="what the workloads' names begin with")
    add("--tpu-type", required=True, help="such as v6e-32")
    add("--num-slices", type=int, default=1, metavar="N", help="parallel.data is a multiple of it")
    add("--cluster", required=True)
    add("--project", required=True)
    add("--zone", required=True)
    image = arguments.add_mutually_exclusive_group(required=True)
    image.add_argument("--docker-image", help="holds the project: see the Dockerfile beside this")
    image.add_argument(
        "--base-docker-image", help="XPK adds this checkout to it, for each workload"
    )
    add("--priority", choices=["very-low", "low", "medium", "high", "very-high"])
    add("--max-restarts", type=int, default=5, metavar="N", help="after preemptions and crashes")
    add("--storage", help="a storage of XPK, to be mounted")
    capacity = arguments.add_mutually_exclusive_group()
    capacity.add_argument("--reservation", help="of autoprovisioning, as the next three are")
    for option in ("--on-demand", "--spot", "--flex"):
        capacity.add_argument(option, action="store_true")
    add("--manifest-dir", type=Path, metavar="D", help="keep each workload's manifest there")
    add(
        "--dry-run", action="store_true", help="submit nothing; with --manifest-dir, manifests only"
    )
    add("--submission", type=Path, metavar="FILE", help="what to write for collect.py")
    return arguments


def main(argv: list[str]) -> int:
    """Submits what the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    options = xpk_options(arguments)
    workloads = plan(arguments)
    xpk = _find_xpk()
    if arguments.manifest_dir is not None:
        arguments.manifest_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.submission or _new_path()
    submitted: list[Workload] = []
    for one in workloads:
        code = _call(xpk, one, options, arguments)
        if code != 0:
            print(f"error: {one.name}: xpk ended with {code}; submitted: {len(submitted)}")
            break
        submitted.append(one)
        if not arguments.dry_run:
            _write(path, _submission(arguments, submitted))
    if submitted and not arguments.dry_run:
        _tell(path, submitted, arguments)
    return 0 if len(submitted) == len(workloads) else _FAILED


def xpk_options(arguments: Namespace) -> dict[str, str | int | bool | None]:
    """XPK's options that all workloads share; UserError for a value that would break something."""
    for option in ("cluster", "project", "zone", "docker-image", "base-docker-image"):
        workload.check_word(f"--{option}", getattr(arguments, option.replace("-", "_")))
    for option in ("reservation", "storage", "output"):
        workload.check_word(f"--{option}", getattr(arguments, option))
    for option, least in (("repeats", 1), ("num_slices", 1), ("max_restarts", 0)):
        if getattr(arguments, option) < least:
            raise UserError(f"--{option.replace('_', '-')}: must be at least {least}")
    return {
        "--cluster": arguments.cluster,
        "--project": arguments.project,
        "--zone": arguments.zone,
        "--tpu-type": _tpu_type(arguments.tpu_type),
        "--num-slices": arguments.num_slices if arguments.num_slices > 1 else None,
        "--docker-image": arguments.docker_image,
        "--base-docker-image": arguments.base_docker_image,
        "--script-dir": str(_CHECKOUT) if arguments.base_docker_image else None,
        "--priority": arguments.priority,
        "--max-restarts": arguments.max_restarts,
        "--storage": arguments.storage,
        "--reservation": arguments.reservation,
        "--on-demand": arguments.on_demand,
        "--spot": arguments.spot,
        "--flex": arguments.flex,
        "--dry-run": arguments.dry_run,
    }


def plan(arguments: Namespace) -> list[Workload]:
    """All workloads, the implementations in turn, so that both see the same hours."""
    known, twins = reading.case_names(), arguments.twins
    given = reading.given(arguments.case, twins)
    cases = known if given == "all" else given.split(",")
    for case in cases:
        if case not in (*known, reading.PAIR_CASE):
            raise UserError(f"--case {case}: no such case in the image; {', '.join(known)}, or all")
        loaded = reading.load(case, "full", tuple(arguments.set), arguments.recipe, twins)
        if loaded.parallel.data % arguments.num_slices:
            raise UserError(
                f"--num-slices {arguments.num_slices}: {case} has parallel.data="
                f"{loaded.parallel.data}; the slices divide it: --set parallel.data="
                f"{arguments.num_slices}"
            )
    impls = families.chosen(families.load(twins), arguments.impl)
    options = ["--recipe", arguments.recipe, *([] if twins is None else ["--twins", twins])]
    options += [word for setting in arguments.set for word in ("--set", setting)]
    variables = _environment(arguments)
    return [
        workload.make(
            arguments.prefix,
            case,
            impl,
            repeat,
            arguments.output,
            options,
            variables,
        )
        for case in cases
        for repeat in range(1, arguments.repeats + 1)
        for impl in impls
    ]


def _environment(arguments: Namespace) -> dict[str, str]:
    variables = dict(_ENVIRONMENT)
    if arguments.base_docker_image:  # this checkout is what will run; an image knows its own
        git = environment.collect(())
        if git["git_commit"]:
            dirty = "-dirty" if git["git_dirty"] else ""
            variables["HARNESS_GIT_COMMIT"] = git["git_commit"] + dirty
    for setting in arguments.env:
        name, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--env {setting}: must be NAME=VALUE")
        variables[name] = value
    return variables


def _tpu_type(text: str) -> str:
    """The type as XPK names it."""
    try:
        family = topology.find(text).family.name
    except UserError as error:
        raise UserError(str(error).replace("--topology", "--tpu-type", 1)) from None
    return f"{family}-{text.partition('-')[2]}"


def _find_xpk() -> str:
    own = _CHECKOUT / ".venv" / "xpk" / "bin" / "xpk"
    found = shutil.which("xpk") or (str(own) if own.exists() else None)
    if found is None:
        raise UserError(
            f"xpk is not installed; it needs an environment of its own:"
            f" pipx install 'xpk=={_XPK_VERSION}.*'"
        )
    return found


def _call(
    xpk: str, one: Workload, options: dict[str, str | int | bool | None], arguments: Namespace
) -> int:
    """Calls XPK once. Of a dry run only manifests are of interest, and what went wrong."""
    folder = arguments.manifest_dir
    manifest = None if folder is None else str(folder.absolute() / f"{one.name}.yaml")
    command = [xpk, *workload.arguments(one, options, manifest)]
    print(one.name if arguments.dry_run else f"\n{one.name}: {shlex.join(command)}", flush=True)
    quiet = arguments.dry_run and folder is not None
    ended = subprocess.run(command, capture_output=quiet, text=True, check=False)
    if quiet and ended.returncode != 0:
        print(ended.stdout + ended.stderr)
    return ended.returncode


def _submission(arguments: Namespace, workloads: list[Workload]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "output": arguments.output,
        "tpu_type": arguments.tpu_type,
        "chips": topology.find(arguments.tpu_type).chips * arguments.num_slices,
        "cluster": arguments.cluster,
        "project": arguments.project,
        "zone": arguments.zone,
        "workloads": [one.as_json() for one in workloads],
    }


def _new_path() -> Path:
    return Path("results") / f"submission-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"


def _write(path: Path, submission: dict[str, Any]) -> None:
    """Writes the file whole, after each workload: what was submitted is never forgotten."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, json.dumps(submission, indent=2) + "\n")


def _tell(path: Path, workloads: list[Workload], arguments: Namespace) -> None:
    where = f"--cluster {arguments.cluster} --project {arguments.project} --zone {arguments.zone}"
    label = f"xpk.google.com/workload={workloads[0].name}"
    print(f"\n{len(workloads)} submitted. To watch:")
    print(f"  xpk workload list {where} --filter-by-job '^{arguments.prefix}-'")
    print(f"  kubectl logs --follow --container jax-tpu --prefix --selector {label}")
    print("To bring back what they leave, now or later, again and again:")
    print(f"  python scripts/xpk/collect.py {path}")


if __name__ == "__main__":
    sys.path.insert(0, "")  # where a pair of a user's own lies, as `python -m` has it
    cli.main(main)
