"""Where in the source an operation was written, as the program's text tells it."""

import re
from collections.abc import Sequence
from functools import lru_cache

from harness.hlo.parse import Instruction, Program

_FRAME = re.compile(r"stack_frame_id=(\d+)")
_OLDER = re.compile(r'source_file="([^"]*)".*?source_line=(\d+)')  # of each instruction
_TABLE = re.compile(r"(FileNames|FunctionNames|FileLocations|StackFrames)$")
_NAME = re.compile(r'(\d+) "(.*)"$')
_ENTRY = re.compile(r"(\d+) \{(.*)\}$")
_NUMBER = re.compile(r"(\w+)=(\d+)")
_FOLDERS = 3  # a path's last ones: where the code lay on a machine is of no interest
_CALLS = 2  # of a stack


def source(program: Program, instruction: Instruction) -> str:
    """Such as "models/shared/ops.py:66 by models/decoder/linen.py:32"; empty where not told."""
    metadata = instruction.attributes.get("metadata", "")
    older = _OLDER.search(metadata)
    if older:
        return f"{_short(older[1])}:{older[2]}"
    frame = _FRAME.search(metadata)
    return _stacks(program).get(int(frame[1]), "") if frame else ""


@lru_cache(maxsize=4)
def _stacks(program: Program) -> dict[int, str]:
    """Each stack frame of the tables in words: the innermost call, and who made it."""
    names, tables = _tables(program.tables)
    files, locations = names.get("FileNames", {}), tables.get("FileLocations", {})
    frames = tables.get("StackFrames", {})
    # Some versions of XLA count parents from 1 on: the outermost frame then seems its own.
    shift = int(any(entry.get("parent_frame_id") == number for number, entry in frames.items()))
    stacks = {}
    for number in frames:
        calls: list[str] = []
        place: int | None = number
        while place in frames and len(calls) < _CALLS:
            location = locations.get(frames[place].get("file_location_id", 0), {})
            file = files.get(location.get("file_name_id", 0), "?")
            if not _short(file).startswith("<"):  # no file
                calls.append(f"{_short(file)}:{location.get('line', '?')}")
            parent = frames[place].get("parent_frame_id", 0) - shift
            place = parent if parent != place else None
        stacks[number] = " by ".join(calls)
    return stacks


def _tables(
    lines: Sequence[str],
) -> tuple[dict[str, dict[int, str]], dict[str, dict[int, dict[str, int]]]]:
    """The tables of names, and those of numbers, each by its heading and then by number."""
    names: dict[str, dict[int, str]] = {}
    numbers: dict[str, dict[int, dict[str, int]]] = {}
    heading = ""
    for line in lines:
        if found := _TABLE.match(line):
            heading = found[1]
        elif found := _NAME.match(line):
            names.setdefault(heading, {})[int(found[1])] = found[2]
        elif found := _ENTRY.match(line):
            told = {key: int(value) for key, value in _NUMBER.findall(found[2])}
            numbers.setdefault(heading, {})[int(found[1])] = told
    return names, numbers


def _short(path: str) -> str:
    return "/".join(path.split("/")[-_FOLDERS:])
