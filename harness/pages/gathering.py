"""The records of a report, in the order in which its pages show them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cases import reading
from harness.cases.settings import Case as Settings
from harness.comparing import comparison, compiled, statistics
from harness.comparing.model import Comparison
from harness.pages import headers, sources, words
from harness.pages.headers import Header
from harness.pages.sources import Run
from harness.records.finding import Found
from harness.records.record import Record, at, case_name, twins
from models.seam import USUAL_NAMES

_MOST_REPEATS = 10  # of a side: the newest


@dataclass(frozen=True)
class Pair:
    """A comparison and the runs of its two sides."""

    found: Comparison
    a: tuple[Run, ...]
    b: tuple[Run, ...]


@dataclass
class Group:
    """Runs of one experiment on one kind of devices, oldest first; repeats are of one group."""

    label: str
    names: tuple[str, str]  # of the implementations that are compared
    runs: list[Run]
    pair: Pair | None = None  # of the newest that belong together


@dataclass
class Case:
    """What is known of one case; orders: documents, of whatever case, that log a pipeline's."""

    name: str
    header: Header
    page: str
    groups: list[Group] = field(default_factory=list)
    published: list[Run] = field(default_factory=list)
    published_pairs: list[Pair] = field(default_factory=list)
    # By what was compiled for, as `compiled_for` says, then by implementation.
    preflights: dict[str, dict[str, Run]] = field(default_factory=dict)
    preflight_pairs: dict[str, Pair] = field(default_factory=dict)
    orders: list[Run] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        """Of the two implementations that the newest of its runs have."""
        if self.groups:
            return self.groups[0].names
        compiled = [run for sides in self.preflights.values() for run in sides.values()]
        return _pair_names([*compiled, *self.published])


@dataclass(frozen=True)
class Collection:
    """Everything a report shows. others: runs of no case."""

    cases: list[Case]
    runs: list[Run]
    others: list[Run]
    warnings: list[str]


def gather(paths: Iterable[Path]) -> Collection:
    """Reads all records at or below the paths, each file once, and compares what belongs together.

    Raises UserError for a path that is not there.
    """
    runs, warnings = sources.load(list(paths))
    runs.sort(key=lambda run: (run.record["environment"]["time"] or "", run.record["run_id"]))
    by_case: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        name = case_name(run.record)
        if name is not None:
            by_case[name].append(run)
    names = sorted({*by_case, *reading.case_names()})
    cases = [_case(name, by_case[name], warnings) for name in names]
    orders = [run for run in runs if run.source["schedule"]]
    for case in cases:
        case.orders.extend(orders)
    others = [run for run in runs if run.record["case"]["name"] is None]
    return Collection(cases, runs, others, warnings)


def _case(name: str, runs: Sequence[Run], warnings: list[str]) -> Case:
    case = Case(name, headers.header(name), f"cases/{words.file_name(name)}")
    measured: defaultdict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        status = run.record["status"]
        if status == "imported":
            case.published.append(run)
        elif status == "preflight":
            case.preflights.setdefault(compiled_for(run.record), {})[run.impl] = run  # the newest
        else:
            environment = run.record["environment"]
            kind = environment["device_kind"], environment["device_count"]
            measured[run.record["size"], *kind, run.record["case"]["hash"]].append(run)
    case.groups = _groups(measured, warnings)
    case.published_pairs = _published_pairs(case.published)
    case.preflights = dict(sorted(case.preflights.items(), key=lambda item: _chips(item[0])))
    for on, sides in case.preflights.items():
        a, b = _pair_names(sides.values())
        if a in sides and b in sides:
            case.preflight_pairs[on] = _compare([sides[a]], [sides[b]])
    return case


def family_of(content: Record) -> str:
    """Whose models ran: the module of the twins, or the project's own family."""
    config = content["case"]["config"] or {}
    return str(twins(content) or config.get("model.family", Settings.family))


def compiled_for(content: Record) -> str:
    """A slice, and what else than the case was asked for: "v6e-32, fast"."""
    return ", ".join([str(content["environment"]["topology"] or "no slice"), *_asked_for(content)])


def _asked_for(content: Record) -> list[str]:
    """The recipe, draws and twins of a run, where they are not the usual ones."""
    asked = [] if content["recipe"] in (None, "reference") else [str(content["recipe"])]
    aligned = (content["case"]["config"] or {}).get("run.align_random")
    asked += ["draws aligned"] if aligned else []
    module = twins(content)
    return asked if module in (None, case_name(content)) else [*asked, str(module)]


def _pair_names(runs: Iterable[Run]) -> tuple[str, str]:
    """Which two implementations stand side by side: the project's own, or those that were run."""
    ran = {run.impl for run in runs}
    others = sorted(ran - {*USUAL_NAMES})
    own = [impl for impl in USUAL_NAMES if impl in ran or not others]
    a, b, *_ = [*own, *others, "the other"]
    return a, b


def _chips(name: str) -> tuple[str, int, str]:
    kind, _, count = name.partition(",")[0].rpartition("-")
    return kind, int(count) if count.isdecimal() and len(count) < 9 else 0, name


def _groups(measured: dict[tuple[Any, ...], list[Run]], warnings: list[str]) -> list[Group]:
    """The group with the newest run first; equal labels are told apart by the case's hash."""
    groups = []
    labels = [_label(runs[-1].record) for runs in measured.values()]
    for (*_, case_hash), runs in measured.items():
        label = _label(runs[-1].record)
        if labels.count(label) > 1:
            label += f", settings {str(case_hash)[:8]}"
        names = _pair_names(runs)
        groups.append(Group(label, names, runs, _newest_pair(names, runs, warnings)))
    groups.sort(key=lambda one: one.runs[-1].record["environment"]["time"] or "", reverse=True)
    return groups


def _label(content: Record) -> str:
    environment = content["environment"]
    devices = f"{environment['device_count'] or '?'} x {environment['device_kind'] or 'device ?'}"
    return ", ".join([content["size"] or "size ?", devices, *_asked_for(content)])


def _newest_pair(names: tuple[str, str], runs: Sequence[Run], warnings: list[str]) -> Pair | None:
    """The newest two alike in all but implementation, or their repeats if there are many.

    Where no two are alike, the newest of each.
    """
    complete = [run for run in runs if run.record["status"] == "completed"]
    sides = [[run for run in complete if run.impl == impl] for impl in names]
    if not all(sides):
        return None
    keys = {run.page: _alike(run.record) for run in complete}
    in_both = set.intersection(*({keys[run.page] for run in side} for side in sides))
    newest = next((keys[run.page] for run in reversed(complete) if keys[run.page] in in_both), None)
    if newest is not None:
        sides = [[run for run in side if keys[run.page] == newest] for side in sides]
    if newest is None or min(map(len, sides)) < statistics.min_samples():
        sides = _newest_in_turns(*sides) or [side[-1:] for side in sides]
    a, b = (side[-_MOST_REPEATS:] for side in sides)
    return _compare(a, b, warnings)


def _newest_in_turns(a: Sequence[Run], b: Sequence[Run]) -> list[list[Run]] | None:
    """The newest two that were also run in turns with each other."""
    by_id = {run.record["run_id"]: run for run in a}
    for run in reversed(b):
        told = run.record.get("turns")
        partner = by_id.get(told["partner"]) if told else None
        if partner is not None:
            return [[partner], [run]]
    return None


def _alike(content: Record) -> str:
    """Equal for runs that differ in nothing but implementation, time and chance."""
    environment = {
        key: value
        for key, value in content["environment"].items()
        if key not in ("time", "hostname")
    }
    rest = [at(content, key) for key in ("size", "recipe", "init", "nnx_state")]
    restored = content["checkpoint"]["restored_from"]
    return json.dumps([content["case"]["config"], environment, rest, restored], sort_keys=True)


def _published_pairs(runs: Sequence[Run]) -> list[Pair]:
    """Those that a document itself set side by side.

    No document tells all settings, so that the experiment is only known by the case's name.
    """
    by_id = {run.record["run_id"]: run for run in runs}
    pairs = []
    for run in runs:
        base = by_id.get(run.source["difference_from"])
        if base is not None and base is not run:
            pairs.append(_compare([base], [run], across=("case.hash", "environment.jax")))
    return pairs


def _compare(
    a: Sequence[Run],
    b: Sequence[Run],
    warnings: list[str] | None = None,
    across: Sequence[str] = (),
) -> Pair:
    records = [[run.record for run in side] for side in (a, b)]
    programs: tuple[Any, Any] = (None, None)
    first, second = (side[0].folder for side in (a, b))
    if warnings is not None and first is not None and second is not None:
        programs, damaged = compiled.read(
            Found(first / "record.json", a[0].record), Found(second / "record.json", b[0].record)
        )
        warnings += damaged
    found = comparison.compare(records[0], records[1], across, programs=programs)
    return Pair(found, tuple(a), tuple(b))
