"""What `harness checkpoints` does: looks into steps, compares, verifies and renames them."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from harness.cases import families, reading
from harness.saving import digest, files, matching, renaming
from harness.saving.faults import Damaged
from harness.saving.files import StoredStep
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.terminal.text import aligned, counted, safe


def answered(arguments: Namespace, places: Sequence[Sequence[Any]], console: Console) -> int:
    """Does what a verb says of each path's steps, oldest first; returns the exit code.

    Raises Damaged where a step cannot be looked into.
    """
    jax.config.update("jax_platforms", "cpu")  # and leave accelerators to those who train
    if arguments.verb == "verify":
        return _verify(places[0], console)
    newest = [_read(steps[-1]) for steps in places]
    if arguments.verb == "inspect":
        return _inspect(newest[0])
    if arguments.verb == "diff":
        return _diff(newest[0], newest[1], arguments.match, console)
    return _convert(newest[0], arguments, console)


def _read(path: Any) -> StoredStep:
    try:
        return files.read_step(path)
    except Damaged as error:
        raise Damaged(f"{path}: {error}") from error


def _inspect(step: StoredStep) -> int:
    arrays = files.described(step)
    print(_title(step))
    rows = [
        (name, str(array.dtype), str(list(array.shape)), f"{_bytes(array):,}")
        for name, array in sorted(arrays.items())
    ]
    print("\n".join(aligned([("array", "type", "shape", "bytes"), *rows])))
    print(f"{counted(len(arrays), 'array')}, {sum(map(_bytes, arrays.values())):,} bytes")
    if step.metadata is not None:
        print(f"digest: {digest.combined(step.digests)}")
    return 0


def _diff(one: StoredStep, other: StoredStep, match: bool, console: Console) -> int:
    print(f"a: {_title(one)}\nb: {_title(other)}")
    console.begin("compare the arrays", announced=False)
    ours, theirs = files.described(one), files.described(other)
    found = matching.by_value(one, other) if match else matching.by_name(ours, theirs)
    lines = dict.fromkeys(found.only_one, "only in a")
    lines |= dict.fromkeys(found.only_other, "only in b")
    equal = renamed = 0
    console.expect(len(found.pairs))
    for pair in found.pairs:
        difference = _compare(
            files.read_arrays(one, {pair.one: ours[pair.one]})[pair.one],
            files.read_arrays(other, {pair.other: theirs[pair.other]})[pair.other],
        )
        console.done()
        equal += not difference
        if pair.one != pair.other:
            renamed += 1
            more = f", as are {pair.alike} more" if pair.alike else ""
            difference = difference or f"equal bit for bit{more}"
            lines[f"{pair.one} (b: {pair.other})"] = difference
        elif difference:
            lines[pair.one] = difference
    console.end()
    for name, line in sorted(lines.items()):
        print(f"{name}: {line}")
    number = len(found.pairs) + len(found.only_one) + len(found.only_other)
    under = f", {renamed} pairs have other names" if match else ""
    print(f"{equal} of {number} arrays are equal bit for bit{under}")
    return 0 if equal == number else 1


def _compare(one: np.ndarray, other: np.ndarray) -> str:
    """How two arrays differ; empty when not a bit does."""
    if _form(one) != _form(other):
        forms = f"{_form(one)} in a, {_form(other)} in b"
        return forms + (f", {_largest(one, other)}" if one.shape == other.shape else "")
    flipped = _bytes_of(one) ^ _bytes_of(other)  # [elements, bytes of one]
    elements = np.count_nonzero(flipped.any(axis=1))
    if elements == 0:
        return ""
    bits = int(np.bitwise_count(flipped).sum())
    return f"{elements:,} of {one.size:,} elements, {bits:,} bits, {_largest(one, other)}"


def _largest(one: np.ndarray, other: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):
        apart = np.abs(matching.wide(one) - matching.wide(other))
    return f"by at most {apart.max(initial=0):.6g}"


def _bytes_of(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1, 1)
    return flat.view(np.uint8)


def _convert(step: StoredStep, arguments: Namespace, console: Console) -> int:
    console.begin("convert", announced=False)
    renamed = families.load(arguments.twins).renamed
    if renamed is None:
        raise UserError(f"--twins {arguments.twins}: both sides have the same names already")
    if step.metadata is None:
        case = reading.load(reading.PAIR_CASE, arguments.size, twins=arguments.twins)
    else:
        about = step.metadata["case"]
        if about["config"].get("twins") != arguments.twins:
            raise UserError(f"{step.path}: is of another pair, not of --twins {arguments.twins}")
        case = reading.from_flat(about["name"], about["config"])
    arrays, kept = renaming.write(
        step, lambda tree: renamed(case.model, arguments.to, tree), arguments.output
    )
    console.end()
    print(f"{arguments.output}: {counted(arrays, 'array')} as {arguments.to} names them, {kept} as"
          " they were")  # fmt: skip
    return 0


def _verify(paths: Iterable[Any], console: Console) -> int:
    damaged = 0
    for path in paths:
        console.begin(f"verify {path}", announced=False)
        try:
            verdict = _verdict(files.read_step(path), console)
        except Damaged as error:
            damaged += 1
            verdict = f"damaged: {error}"
        console.end()
        print(f"{path}: {verdict}")
    return 1 if damaged else 0


def _verdict(step: StoredStep, console: Console) -> str:
    """What is good of a step; raises Damaged when anything is not."""
    unreadable, changed = [], []
    described = files.described(step)
    console.expect(len(described))
    for name, form in described.items():
        try:
            arrays = files.read_arrays(step, {name: form})
        except Damaged:
            unreadable.append(name)
            continue
        finally:
            console.done()
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
        return (
            f"{counted(len(step.places), 'array')} can be read; another program's, without digests"
        )
    return f"good, all {len(step.places)} arrays are as they were saved"


def _title(step: StoredStep) -> str:
    if step.metadata is None:
        return f"{step.path}: another program's"
    about = step.metadata
    words = [f"step {step.number}", about["case"]["name"], about.get("impl"), about.get("size")]
    return f"{step.path}: {', '.join(safe(word) for word in words if word)}"


def _form(array: np.ndarray) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _bytes(array: jax.ShapeDtypeStruct) -> int:
    return int(array.size * array.dtype.itemsize)
