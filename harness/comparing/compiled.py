"""The compiled programs of two runs: read where their folders hold them, and compared."""

import gzip
import zlib
from collections import Counter
from pathlib import Path

from harness import hlo
from harness.comparing.model import Programs
from harness.records import figures
from harness.records.finding import Found
from harness.records.record import Record
from harness.terminal.errors import UserError

Read = tuple[hlo.Program | None, hlo.Program | None]
UNREAD: Read = (None, None)

_LONGEST_PROGRAM = 2**25  # characters, ten times what the largest case here compiles to


def read(a: Found, b: Found) -> tuple[Read, list[str]]:
    """The optimised programs of two runs that differ in them, where their folders hold these.

    Also a warning for each that is damaged.
    """
    hashes = [found.record["program"]["optimized_sha256"] for found in (a, b)]
    if None in hashes or hashes[0] == hashes[1]:
        return UNREAD, []
    programs: list[hlo.Program | None] = []
    warnings = []
    for found in (a, b):
        path = found.path.with_name("program.txt.gz")
        program = None
        if path.is_file():
            try:
                program = _program(path, found.record["program"]["optimized_sha256"])
            except UserError as error:
                warnings.append(f"{path}: not used: {error}")
        programs.append(program)
    return (programs[0], programs[1]), warnings


def _program(path: Path, fingerprint: str) -> hlo.Program:
    """Reads a program; raises UserError unless it is, instruction for instruction, the one."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            text = file.read(_LONGEST_PROGRAM + 1)
        if len(text) > _LONGEST_PROGRAM:
            raise UserError(
                f"holds more than {_LONGEST_PROGRAM:,} letters: too long to be compared"
            )
        program = hlo.parse(text)
        found = hlo.fingerprint(program)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot be unpacked: {error}") from None
    except (LookupError, ValueError):  # names of what is not there, digits that make no number
        raise UserError("the text of the XLA program is damaged") from None
    if found != fingerprint:
        raise UserError("it is another program than the record's, by its fingerprint")
    return program


def compare(a: Record, b: Record, programs: Read) -> Programs:
    """What the records tell of the programs of two runs, and the programs that could be read."""
    first, second = a["program"], b["program"]
    same, same_lowered = (
        None if None in (first[key], second[key]) else first[key] == second[key]
        for key in ("optimized_sha256", "stablehlo_sha256")
    )
    operations = kinds = None
    if same is False and programs[0] is not None and programs[1] is not None:
        found = hlo.diff(programs[0], programs[1])
        operations = tuple(found)
        counts = Counter(one.kind for one in found)
        kinds = tuple((kind, counts[kind]) for kind in hlo.KINDS if counts[kind])
    fingerprint = first["optimized_sha256"]
    return Programs(same, same_lowered, fingerprint, _changes(a, b), operations, kinds)


def _changes(a: Record, b: Record) -> tuple[tuple[str, float, float], ...]:
    """What the records tell of two programs, where it differs."""
    told = [
        ("bytes on the wire", a["program"]["wire_bytes"], b["program"]["wire_bytes"]),
        ("cycles", a["program"]["fusion_cycles"], b["program"]["fusion_cycles"]),
    ]
    kinds_a, kinds_b = a["program"]["collectives"], b["program"]["collectives"]
    if kinds_a is not None and kinds_b is not None:
        none = {"count": 0, "bytes": 0}
        for kind in sorted(kinds_a.keys() | kinds_b.keys()):
            one, other = kinds_a.get(kind, none), kinds_b.get(kind, none)
            told += [(f"{kind} {what}", one[what], other[what]) for what in none]
    numbers = [(name, figures.number(one), figures.number(other)) for name, one, other in told]
    return tuple(
        (name, one, other)
        for name, one, other in numbers
        if one is not None and other is not None and one != other
    )
