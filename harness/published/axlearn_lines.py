"""The lines of an AXLearn configuration, `dotted.path: value`, and the groups they make."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.published.document import Document
from harness.terminal.errors import UserError

Value = str | int | float | bool | None
Group = dict[str, "Value | Group"]

UNREAD = "(not taken over)"  # in the place of a value, so that nobody takes it for none

# A path: names parted by dots, each with what stands in brackets behind it, such as
# layer[0], init_by_param_name['.*weight$'] or path_rank_to_partition[(None, 1)].
_BRACKETS = r"""\[(?:[^\[\]'"]|'[^']*'|"[^"]*")*\]"""
_PART = re.compile(rf"[A-Za-z_$][\w$-]*|{_BRACKETS}")
_LINE = re.compile(
    rf"(?P<path>[A-Za-z_][\w$-]*(?:\.[A-Za-z_$][\w$-]*|{_BRACKETS})*): +(?P<value>\S.*)", re.ASCII
)
_LONGEST_PATH = 500

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_FLOAT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{0,400})?(?:e[+-]?[0-9]{1,3})?")
_WORDS = {"True": True, "False": False, "None": None}
_MESH_AXES = re.compile(r"PartitionSpec\([a-zA-Z_0-9', ()]{0,200}\)", re.ASCII)
_MEMBER = re.compile(r"<([A-Za-z_]\w{0,60}\.[A-Za-z_]\w{0,60}): [^<>]{0,60}>", re.ASCII)
_EXPRESSION = re.compile(r"[A-Za-z_][\w.]{0,200}\(.*\)|\(.*\)|\[.*\]|\{.*\}|<.*>|-?inf|nan")
# The settings whose value is a text, and the texts taken: no address, account or path of a user.
_TEXT_NAMES = frozenset((
    "activation", "add_value_rms_norm_summary", "batch_axis_names", "dataset_name", "description",
    "distribution", "fan", "klass", "logits_partition_spec", "mesh_axis_names", "mesh_rules",
    "mode", "model_method", "name", "names_which_can_be_saved", "offload_dst", "offload_src",
    "output_partition_spec", "param_partition_spec", "policy", "replace_newlines_with", "rules",
    "scale_by_path", "sentencepiece_model_name", "seq_axis_names", "split", "structure",
))  # fmt: skip
_TEXT_NAME_ENDS = ("fn", "dtype")
_TEXT = re.compile(r"(?![/~])(?!.*(?://|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]))[\w.*()|\[\]:/<>$-]{0,200}")
_BRACKETS_TAKEN = re.compile(
    rf"""\[(?:['"(]*{_TEXT.pattern}['"), \w]*|{_MEMBER.pattern})\]""", re.ASCII
)


@dataclass(frozen=True)
class Settings:
    """A configuration's settings: flat, as groups within groups, and how many were not taken.

    Of those, a value is null in `flat` and UNREAD in `groups`; a path is not in `flat`.
    """

    flat: Mapping[str, Value]
    groups: Group
    values_left_out: int
    paths_left_out: int


def read(document: Document) -> Settings:
    """Reads every line; raises UserError for one that is no setting, or that contradicts another.

    A text that is not known to be harmless is null; a setting whose path is not is left out.
    """
    flat: dict[str, Value] = {}
    groups: Group = {}
    values_left_out = paths_left_out = 0
    for place, line in enumerate(document.text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{document.name}: line {place:,}"
        match = _LINE.fullmatch(line.rstrip())
        if not match or len(match["path"]) > _LONGEST_PATH:
            raise UserError(f"{where}: must be `dotted.path: value`")
        path = match["path"]
        parts = _PART.findall(path)
        value, taken = _value(parts, match["value"], f"{where}: {path[:100]}")
        _put(groups, parts, value if taken else UNREAD, f"{where}: {path[:100]}")
        if all(_BRACKETS_TAKEN.fullmatch(part) for part in parts if part.startswith("[")):
            flat[path] = value
            values_left_out += not taken
        else:
            paths_left_out += 1
    return Settings(flat, groups, values_left_out, paths_left_out)


def groups_within(group: Group, path: str) -> Iterator[tuple[str, Group]]:
    """Every group within a group, to any depth, after the path it has."""
    for part, inner in group.items():
        if isinstance(inner, dict):
            yield join(path, part), inner
            yield from groups_within(inner, join(path, part))


def join(above: str, part: str) -> str:
    """The path of a part of the group at the path `above`."""
    return above + part if not above or part.startswith("[") else f"{above}.{part}"


def _put(groups: Group, parts: list[str], value: Value, where: str) -> None:
    group = groups
    for part in parts[:-1]:
        inner = group.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"{where}: {part} is given both a value and settings of its own")
        group = inner
    if parts[-1] in group:
        raise UserError(f"{where} is given twice")
    group[parts[-1]] = value


def _value(parts: list[str], text: str, where: str) -> tuple[Value, bool]:
    """The value that a text says, and whether it is taken over."""
    if text in _WORDS:
        return _WORDS[text], True
    if _INTEGER.fullmatch(text):
        return int(text), True
    if _FLOAT.fullmatch(text):
        value = float(text)
        exact = abs(value) < float("inf") and not text.lstrip("-").isdecimal()
        return (value, True) if exact else (None, False)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = text[1:-1]
        name = next(part for part in reversed(parts) if not part.startswith("["))
        known = name in _TEXT_NAMES or name.endswith(_TEXT_NAME_ENDS)
        taken = bool(known and _TEXT.fullmatch(inner))
        return (inner if taken else None), taken
    if _MESH_AXES.fullmatch(text):
        return text, True
    if member := _MEMBER.fullmatch(text):
        return member[1], True
    if _EXPRESSION.fullmatch(text):
        return None, False
    raise UserError(f"{where}: must be a number, True, False, None, a text in quotes or a value "
                    "in brackets, whole")  # fmt: skip
