"""Looks into checkpoints, without a model: `python -m harness.checkpoints inspect PATH`."""

import sys
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from harness import cli
from harness.errors import UserError
from harness.records import storage
from harness.saving import digest, files
from harness.saving.files import CheckpointError, Damaged, StoredStep
from harness.text import aligned

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="python -m harness.checkpoints",
        description="Looks into checkpoints. PATH is one step, or a folder of them.",
        epilog="Exit codes: 0 fine, 1 different or damaged, 2 bad input.",
    )
    verbs = arguments.add_subparsers(dest="verb", required=True, metavar="inspect | diff | verify")
    inspect = verbs.add_parser("inspect", help="the arrays of the newest step, and who wrote them")
    inspect.add_argument("paths", nargs=1, metavar="PATH")
    diff = verbs.add_parser("diff", help="which arrays of two newest steps differ, and by how much")
    diff.add_argument("paths", nargs=2, metavar="PATH")
    verify = verbs.add_parser("verify", help="whether every step still holds what was saved")
    verify.add_argument("paths", nargs=1, metavar="PATH")
    return arguments


def main(argv: list[str]) -> int:
    """Runs what the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    jax.config.update("jax_platforms", "cpu")  # and leave accelerators to those who train
    with storage.errors_told(" ".join(arguments.paths)):
        try:
            if arguments.verb == "inspect":
                return _inspect(_newest(arguments.paths[0]))
            if arguments.verb == "diff":
                return _diff(*map(_newest, arguments.paths))
            return _verify(_paths(arguments.paths[0]))
        except (CheckpointError, Damaged) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def _paths(path: str) -> list[Any]:
    """The step, or all steps of a folder, oldest first."""
    folder = files.folder(path)
    if files.is_step(folder):
        return [folder]
    steps = [folder / str(number) for number in files.step_numbers(folder)]
    if not steps:
        reason = "holds no checkpoint" if folder.exists() else "does not exist"
        raise UserError(f"{path}: {reason}; give a folder of checkpoints, or one step in it")
    return steps


def _newest(path: str) -> StoredStep:
    newest = _paths(path)[-1]
    try:
        return files.read_step(newest)
    except Damaged as error:
        raise Damaged(f"{newest}: {error}") from error


def _inspect(step: StoredStep) -> int:
    arrays = files.described(step)
    print(_title(step))
    rows = [
        (name, str(array.dtype), str(list(array.shape)), f"{_bytes(array):,}")
        for name, array in sorted(arrays.items())
    ]
    print("\n".join(aligned([("array", "type", "shape", "bytes"), *rows])))
    print(f"{len(arrays)} arrays, {sum(map(_bytes, arrays.values())):,} bytes")
    if step.metadata is not None:
        print(f"digest: {digest.combined(step.digests)}")
    return 0


def _diff(one: StoredStep, other: StoredStep) -> int:
    print(f"a: {_title(one)}\nb: {_title(other)}")
    ours, theirs = files.described(one), files.described(other)
    names = sorted({*ours, *theirs})
    different = 0
    for name in names:
        if name not in theirs or name not in ours:
            difference = f"only in {'a' if name in ours else 'b'}"
        elif _form(ours[name]) != _form(theirs[name]):
            difference = f"{_form(ours[name])} in a, {_form(theirs[name])} in b"
        else:
            difference = _compare(
                files.read_arrays(one, {name: ours[name]})[name],
                files.read_arrays(other, {name: theirs[name]})[name],
            )
        if difference:
            different += 1
            print(f"{name}: {difference}")
    print(f"{len(names) - different} of {len(names)} arrays are equal bit for bit")
    return 1 if different else 0


def _compare(one: np.ndarray, other: np.ndarray) -> str:
    """How two arrays of one type and shape differ; empty when not a bit does."""
    unsigned = _UNSIGNED[one.dtype.itemsize]
    flipped = np.ascontiguousarray(one).view(unsigned) ^ np.ascontiguousarray(other).view(unsigned)
    elements = np.count_nonzero(flipped)
    if elements == 0:
        return ""
    bits = int(np.bitwise_count(flipped).sum())
    with np.errstate(invalid="ignore"):
        largest = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
    return f"{elements:,} of {one.size:,} elements, {bits:,} bits, by at most {largest:.6g}"


def _verify(paths: Iterable[Any]) -> int:
    damaged = 0
    for path in paths:
        try:
            print(f"{path}: {_verdict(files.read_step(path))}")
        except Damaged as error:
            damaged += 1
            print(f"{path}: damaged: {error}")
    return 1 if damaged else 0


def _verdict(step: StoredStep) -> str:
    """What is good of a step; raises Damaged when anything is not."""
    unreadable, changed = [], []
    for name, form in files.described(step).items():
        try:
            arrays = files.read_arrays(step, {name: form})
        except Damaged:
            unreadable.append(name)
            continue
        if step.metadata is not None and digest.array_digests(arrays) != {name: step.digests[name]}:
            changed.append(name)
    problems = [
        f"{problem} {', '.join(names)}"
        for problem, names in (("cannot read", unreadable), ("changed since saved:", changed))
        if names
    ]
    if problems:
        raise Damaged("; ".join(problems))
    if step.metadata is None:
        return f"{len(step.keys)} arrays can be read; another program's, without digests"
    return f"good, all {len(step.keys)} arrays are as they were saved"


def _title(step: StoredStep) -> str:
    if step.metadata is None:
        return f"{step.path}: another program's"
    about = step.metadata
    words = [f"step {step.number}", about["case"]["name"], about.get("impl"), about.get("size")]
    return f"{step.path}: {', '.join(word for word in words if word)}"


def _form(array: jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _bytes(array: jax.ShapeDtypeStruct) -> int:
    return int(array.size * array.dtype.itemsize)


if __name__ == "__main__":
    cli.main(main)
