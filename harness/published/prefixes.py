"""Takes away what launchers and viewers put before each line, and tells machines apart by it."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from harness.published.arrival import Line

_MOST_NESTED = 4
_LINES_PER_NAME = 5  # fewer are no marks of machines, but keys of a list
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"


class _Mark(NamedTuple):
    """A form of prefix, and the share of lines that must have it to be one."""

    pattern: re.Pattern[str]
    share: float = 0.0


def _mark(pattern: str, share: float = 0.0) -> _Mark:
    return _Mark(re.compile(pattern), share)


_MARKS = (
    # kubectl logs --prefix
    _mark(r"\[pod/(?P<host>[\w.-]{1,253})/[\w.-]{1,253}\] ?"),
    # kubectl logs --timestamps, containerd's files, docker logs -t
    _mark(_TIME.replace("[T ]", "T") + r"(?:Z|[+-][0-9]{2}:?[0-9]{2}) ?(?:std(?:out|err) [FP] )?"),
    # torchrun
    _mark(r"\[(?P<host>(?:default|rank)[0-9]{1,6})\]: ?"),
    # mpirun --tag-output
    _mark(r"\[[0-9]{1,6},(?P<host>[0-9]{1,6})\]<std(?:out|err)>: ?"),
    # Primus
    _mark(
        r"\[[0-9]{8} [0-9:]{8}\](?:\[node-[0-9]{1,6}/[0-9]{1,6}\])?"
        r"\[(?P<host>rank-[0-9]{1,6})/[0-9]{1,6}\](?:\[node-[0-9]{1,6}/[0-9]{1,6}\])?"
        r"\[[A-Z]{1,9} {0,9}\] {0,9}\[[\w.-]{1,80}:[0-9]{1,6} {0,9}\] {0,9}: ?"
    ),
    # the columns of a log viewer, with the time zone in letters
    _mark(_TIME + r" [A-Z]{3,4}[ \t]", 0.5),
    # srun --label
    _mark(r" {0,5}(?P<host>[0-9]{1,5}): ?", 0.8),
    # pdsh, docker compose, stern
    _mark(r"(?P<host>[A-Za-z0-9][\w.-]{0,62}): ", 0.9),
    _mark(r"(?P<host>[A-Za-z0-9][\w.-]{0,62}) {1,40}\| ?", 0.9),
    _mark(r"(?P<host>[a-z0-9]{1,63}(?:-[a-z0-9]{1,63}){2,9}) [a-z0-9-]{1,63} ", 0.9),
)


def strip(lines: Sequence[Line]) -> list[Line]:
    """The lines without such prefixes, each with the machine that its prefixes name."""
    found = list(lines)
    for _ in range(_MOST_NESTED):
        before = found
        for mark in _MARKS:
            found = _stripped(found, mark)
        if found == before:
            break
    return found


def of_one_host(lines: Sequence[Line], sign: re.Pattern[str]) -> tuple[str, int]:
    """The text of one machine of several that all print what `sign` finds; and how many do.

    A machine that speaks only after it, as after a restart, and lines without a name belong to it.
    """
    speaking: dict[str, tuple[int, int]] = {}
    for place, line in enumerate(lines):
        if line.host and sign.search(line.text):
            speaking[line.host] = (speaking.get(line.host, (place, 0))[0], place)
    chosen = {""}
    end, others = -1, 0
    for host, (first, last) in speaking.items():
        if first > end:
            chosen.add(host)
            end = last
        else:
            others += 1
    # What such a machine says before and after counts; what silent ones say does, too.
    dropped = speaking.keys() - chosen
    text = "\n".join(line.text for line in lines if line.host not in dropped)
    return text, 1 + others


def _stripped(lines: list[Line], mark: _Mark) -> list[Line]:
    matches = [mark.pattern.match(line.text) for line in lines]
    matched = [match for match in matches if match]
    if not matched:
        return lines
    if mark.share:
        written = sum(bool(line.text.strip()) for line in lines)
        names = Counter(match[0] for match in matched)
        has_names = "host" in mark.pattern.groupindex
        if len(matched) < mark.share * written:
            return lines
        if has_names and len(names) * _LINES_PER_NAME > len(matched):
            return lines
    return [
        line if match is None else Line(line.text[match.end() :], _host(line, match))
        for line, match in zip(lines, matches, strict=True)
    ]


def _host(line: Line, match: re.Match[str]) -> str:
    """A machine and a process on it are named by two prefixes."""
    name = match.groupdict().get("host") or ""
    return f"{line.host}/{name}" if line.host and name else line.host or name
