"""Several runs of one command, measured in turns where they are two kinds, and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.comparing import comparison, comparison_text, compiled
from harness.records import record, storage, summary
from harness.records.finding import Found
from harness.records.record import Record
from harness.terminal.text import safe
from harness.training.children import Children

_BAD_INPUT = 2
_CHANGES = ("recipe", "init", "nnx_state")  # what two runs of one implementation may differ in


@dataclass(frozen=True)
class Wanted:
    """variants: the arguments of each kind of run, by its name; each is run `repeats` times."""

    variants: Mapping[str, Sequence[str]]
    repeats: int
    run_id: str | None
    in_turns: bool

    def name(self, variant: str, repeat: int) -> list[str]:
        """The option that gives a run its name; none where none is given."""
        if self.run_id is None:
            return []
        parts = [self.run_id, *([variant] if len(self.variants) > 1 else [])]
        return ["--run-id", "-".join([*parts, *([str(repeat)] if self.repeats > 1 else [])])]


def run(wanted: Wanted, children: Children) -> int:
    """Runs all of it, prints what they have in common, and returns the worst exit code."""
    records: dict[str, list[Any]] = {variant: [] for variant in wanted.variants}
    codes: list[int] = []
    warnings: list[str] = []
    for repeat in range(1, wanted.repeats + 1):
        for variant, given in wanted.variants.items():
            if children.stopped or _BAD_INPUT in codes:  # also of a name that another one writes
                continue
            alone = ("--repeats", "1", "--against", "", *wanted.name(variant, repeat))
            ended = children.run(*given, *alone, keeps_warnings=len(records) == 2)
            codes.append(ended.code)
            warnings += ended.warnings
            if ended.record is not None:
                records[variant].append(ended.record)
    if wanted.in_turns and len(records) == 2 and not any(codes) and not children.stopped:
        _in_turns([places[0] if places else None for places in records.values()], children)
    sides = [[_found(place) for place in places] for places in records.values() if places]
    for line in dict.fromkeys(warnings if len(sides) < 2 else ()):
        print(line)
    _compare(sides)  # which tells the warnings of two kinds of runs
    for places in records.values():
        for place in places:
            print(f"record: {place}")
    return max(codes)


def _in_turns(places: Sequence[Any], children: Children) -> None:
    # Where several processes train together only the first one knows the runs: it tells the rest.
    run_ids = ["-" if place is None else place.parent.name for place in places]
    ended = children.run("--in-turns", *run_ids)
    if ended.code:
        print(f"not measured in turns: ended with {ended.code}; the runs are as they were")


def _found(place: Any) -> Found:
    path = storage.local_copy(place)
    return Found(path, record.read(path))


def _compare(sides: Sequence[Sequence[Found]]) -> None:
    """Prints what two kinds of runs have in common, or one's repeats side by side."""
    records = [[found.record for found in side] for side in sides]
    if len(sides) == 2:
        programs, warnings = compiled.read(sides[0][0], sides[1][0])
        across = _changed(records[0][0], records[1][0])
        compared = comparison.compare(records[0], records[1], across, programs=programs)
        told = [f"warning: {safe(warning, 400)}" for warning in warnings]
        print("\n".join(["", *told, comparison_text.terminal(compared)]))
    elif sides and len(sides[0]) > 1:
        print(f"\n{summary.table(records[0])}")


def _changed(a: Record, b: Record) -> list[str]:
    """The keys of what one implementation was run with and without."""
    if a["impl"] != b["impl"]:
        return []
    settings = a["case"]["config"], b["case"]["config"]
    keys = sorted({*settings[0], *settings[1]})
    found = [key for key in _CHANGES if record.at(a, key) != record.at(b, key)]
    differing = [key for key in keys if settings[0].get(key) != settings[1].get(key)]
    return [*found, *(f"case.config.{key}" for key in differing)]
