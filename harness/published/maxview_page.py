"""The text of a MaxView page: a table of one or two runs, and the log of each below it."""

import math
import re
from collections.abc import Callable, Sequence

from harness.cases import reading
from harness.published import maxtext_lines, maxtext_log
from harness.published.document import Document, Imported, figure, number
from harness.records.record import Record
from harness.terminal.errors import UserError

KIND = "MaxView page"
SIGN = re.compile(r"\A\s{0,9}MaxView\b|Avg s/step")

_RUN = re.compile(r"System Information: Jax Version: ")
_BEGIN = "XPK Start: "
_CASE = "Case: "
_LONGEST_HEAD = 20_000
_HEADING = re.compile(r"Metric(?!s)([^\n]{0,400}?)Diff \(")
_COMMIT = re.compile(r"(?<![0-9A-Za-z])([0-9a-f]{7,40})(?![0-9a-z])")
_LABELS = re.compile(r"Diff = (branch|NNX) value \S (main|Linen) value")
_BETWEEN = r"[\s|]{0,9}"
_DIFFERENCE = r"([+\u2212-]?[0-9]{1,9}(?:\.[0-9]{1,9})?)"

# A row of the page's table: its name and unit, its decimals, how the page comes by its figure, and
# the same from the record and its log.
_ROWS: list[tuple[str, str, int, str, Callable[[Record, str], float | None]]] = [
    (
        "Parameters",
        " billion",
        3,
        "counted",
        lambda record, log: (record["model"]["parameters"] or math.nan) / 1e9,
    ),
    ("Final loss", "", 4, "of the last step", lambda record, log: record["steps"][-1]["loss"]),
    (
        "TFLOP/s",
        "",
        3,
        "of the last step alone, per device",
        lambda record, log: record["source"]["tflops_per_device"][-1],
    ),
    (
        "Tok/s",
        "",
        1,
        "of the last step alone, per device",
        lambda record, log: record["source"]["tokens_per_second_per_device"][-1],
    ),
    (
        "Avg s/step",
        "",
        3,
        "mean of all steps but the first, warm-up and waits for saves included",
        lambda record, log: _mean([step["step_seconds"] for step in record["steps"][1:]]),
    ),
    (
        "Memory %",
        "",
        2,
        "mean over one process's devices of what was in use after init, not the peak",
        lambda record, log: _mean(maxtext_lines.memory_percent(log)),
    ),
]


def read(document: Document) -> Imported:
    """The records of a page; raises UserError when its runs are not all there."""
    head, logs = _parts(document)
    heading = _HEADING.search(head)
    if heading and len(logs) != 2:
        raise UserError(
            f"{document.name}: the page's table compares two runs, the number of logs "
            f"below it is {len(logs)}: cut short?"
        )
    case = _case(head)
    labels = _LABELS.search(head)
    names = [labels[2], labels[1]] if labels and len(logs) == 2 else [None] * len(logs)
    commits = _COMMIT.findall(heading[1]) if heading else []
    records: list[Record] = []
    for run_id, name, log in zip(_run_ids(document, case, names, logs), names, logs, strict=True):
        record = maxtext_log.run_record(
            document, log, KIND, run_id, case or maxtext_lines.case_name(log), _impl(name, log)
        )
        record["source"]["run"] = name
        if len(commits) == len(logs):
            record["source"]["commit"] = commits[len(records)]
        records.append(record)
    _add_figures(records, logs, head if heading else "")
    return Imported(KIND, records, _findings(records))


def _parts(document: Document) -> tuple[str, list[str]]:
    """The page's head, and its part of each run from the first line on."""
    text = document.text
    marks = [match.start() for match in _RUN.finditer(text)]
    if not 1 <= len(marks) <= 2:
        found = "no run" if not marks else f"{len(marks)} runs"
        raise UserError(
            f"{document.name}: {found} on this MaxView page, must be one or two (each log "
            "names its JAX version once)"
        )
    begins = []
    for before, mark in zip([0, *marks], marks, strict=False):
        begin = text.rfind(_BEGIN, before, mark)
        begins.append(mark if begin < 0 else begin)
    ends = [*begins[1:], len(text)]
    head = text[: min(begins[0], _LONGEST_HEAD)]
    if not _HEADING.search(head):
        begins[0] = 0  # a page without a table may begin with the log
    return head, [text[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _case(head: str) -> str | None:
    """The case that the page's title names, when it is one of ours."""
    title = head.partition(_CASE)[2][:100]
    return next((name for name in reading.case_names() if title.startswith(name)), None)


def _impl(label: str | None, log: str) -> str | None:
    return label.lower() if label in ("Linen", "NNX") else maxtext_lines.implementation(log)


def _run_ids(
    document: Document, case: str | None, labels: Sequence[str | None], logs: Sequence[str]
) -> list[str]:
    """Stable and readable: case, implementation and, where these are not enough, JAX or place."""
    impls = [_impl(label, log) for label, log in zip(labels, logs, strict=True)]
    versions = [maxtext_lines.jax_version(log) for log in logs]
    run_ids = []
    for place, (log, impl, version) in enumerate(zip(logs, impls, versions, strict=True)):
        name = case or maxtext_lines.case_name(log) or document.sha256[:8]
        parts = ["published", name, *([impl] if impl else [])]
        if len(logs) == 2 and impls[0] == impls[1]:
            parts += ["jax", version] if version and versions[0] != versions[1] else [str(place)]
        run_ids.append("-".join(parts))
    return run_ids


def _add_figures(records: Sequence[Record], logs: Sequence[str], head: str) -> None:
    """Sets the table's figures beside what the steps give by the page's own rules."""
    for name, unit, decimals, rule, compute in _ROWS:
        told, told_difference = _told(head, name, unit, decimals, len(records))
        exact = [compute(record, log) for record, log in zip(records, logs, strict=True)]
        for record, published, value in zip(records, told, exact, strict=True):
            recomputed = None
            if value is not None and math.isfinite(value):
                recomputed = round(value, decimals)
            entry = figure(name, rule, published, recomputed)
            if published is not None and published != recomputed:
                record["warnings"].append(
                    f"the page says {name} {published:g}, its steps give {recomputed}"
                )
            record["source"]["figures"].append(entry)
        if len(records) == 2:
            known = [value for value in exact if value is not None and math.isfinite(value)]
            records[1]["source"]["figures"][-1] |= {
                "published_difference": told_difference,
                "recomputed_difference": round(known[1] - known[0], 3) if len(known) == 2 else None,
            }
    for record in records:
        record["source"]["explanation"] = _explanation(record, records)
        if record is not records[0]:
            record["source"]["difference_from"] = records[0]["run_id"]


def _told(
    head: str, name: str, unit: str, decimals: int, columns: int
) -> tuple[list[float | None], float | None]:
    """A row of the table, whose cells may stand side by side without anything between."""
    cell = rf"([0-9]{{1,9}}\.[0-9]{{{decimals}}}){unit}{_BETWEEN}"
    row = re.search(rf"{re.escape(name)}{_BETWEEN}{cell * columns}(?:{_DIFFERENCE})?", head)
    if row is None:
        return [None] * columns, None
    difference = row[columns + 1]
    told = [number(row[column]) for column in range(1, columns + 1)]
    return told, None if difference is None else number(difference.replace("\u2212", "-"))


def _explanation(record: Record, records: Sequence[Record]) -> str:
    """Why the page's figures mislead."""
    mean = next(entry for entry in record["source"]["figures"] if entry["figure"] == "Avg s/step")[
        "recomputed"
    ]
    step = record["timing"]["step_seconds"]
    sentences = [maxtext_log.HOST_TIMES[0].upper() + maxtext_log.HOST_TIMES[1:] + "."]
    if mean is not None and step["median"]:
        slowest = max(record["steps"][1:], key=lambda entry: entry["step_seconds"] or 0)
        sentences.append(
            f"Avg s/step is the mean of all steps but the first: {mean:.3f} s, although the median "
            f"of {step['samples']} steps is {step['median']:.3f} s, because step "
            f"{slowest['step']} alone counts {slowest['step_seconds']:.3f} s."
        )
    sentences.append(
        "TFLOP/s and Tok/s are the last step's alone; Memory % is what was in use after init, not "
        "the peak."
    )
    versions = [run["environment"]["jax"] for run in records]
    if len(set(versions)) > 1:
        sentences.append(f"The two runs differ in JAX: {versions[0]} and {versions[1]}.")
    losses = [run["steps"][0]["loss"] for run in records]
    if len(set(losses)) > 1:
        sentences.append(
            f"They began from other weights (first losses {losses[0]} and {losses[1]}): the "
            "difference of their final losses proves nothing."
        )
    return " ".join(sentences)


def _findings(records: Sequence[Record]) -> list[str]:
    lines = []
    for entries in zip(*(record["source"]["figures"] for record in records), strict=True):
        columns = {name: [entry[name] for entry in entries] for name in ("published", "recomputed")}
        for name, values in columns.items():
            values += [entry[f"{name}_difference"] for entry in entries[1:]]
        said, computed = (
            " ".join("-" if value is None else f"{value:g}" for value in values)
            for values in columns.values()
        )
        pairs = zip(columns["published"], columns["recomputed"], strict=True)
        verdict = "equal" if all(a in (None, b) for a, b in pairs) else "different"
        if columns["published"] == [None] * len(columns["published"]):
            lines.append(f"{entries[0]['figure']}: by the page's rule {computed}")
        else:
            lines.append(
                f"{entries[0]['figure']}: the page says {said}, recomputed {computed}: {verdict}"
            )
    return [*lines, records[-1]["source"]["explanation"]]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
