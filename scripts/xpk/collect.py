"""Brings back what a submission's runs left: `python scripts/xpk/collect.py SUBMISSION.json`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from fetching import Fetched, Source, damaged
from outcome import Outcome, judge

from harness.records import record, storage
from harness.terminal import cli, inputs
from harness.terminal.console import Console
from harness.terminal.errors import UserError
from harness.terminal.text import safe, shortlist

_INCOMPLETE = 1
_LARGEST = 2**24  # bytes of a submission


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="python scripts/xpk/collect.py",
        description="Fetches the records, metrics and logs of a submission, and says how each of"
        " its workloads ended by what the run itself wrote. To be run as often as one likes.",
    )
    arguments.add_argument("submission", type=Path, help="the file that submit.py wrote")
    arguments.add_argument("--results-dir", type=Path, default=Path("results"))
    return arguments


def main(argv: list[str]) -> int:
    """Collects; returns 0 when every workload is complete and here, else 1."""
    arguments = parser().parse_args(argv)
    submission = _read(arguments.submission)
    output = storage.place(submission["output"])
    width = max(len(one["name"]) for one in submission["workloads"])
    counts: Counter[str] = Counter()
    kept = 0
    with Console() as console:
        console.expect(len(submission["workloads"]))
        for one in submission["workloads"]:
            console.begin(f"fetch {one['name']}", announced=False)
            fetched, outcome = _collect(one, output, arguments.results_dir, submission["chips"])
            console.done()
            detail = safe(outcome.detail, 500)
            console.line(f"{one['name']:{width}}  {outcome.state:9}  {detail}".rstrip())
            told = [f"{name} was changed here: left as it is" for name in fetched.differing]
            told += damaged(arguments.results_dir / one["name"])
            for line in told:
                console.line(f"{'':{width}}  {safe(line, 500)}")
            counts[outcome.state] += 1
            kept += len(told)
    _tell_of_others(output, {one["name"] for one in submission["workloads"]})
    print(", ".join(f"{number} {state}" for state, number in sorted(counts.items())))
    return 0 if set(counts) == {"complete"} and not kept else _INCOMPLETE


def _collect(
    one: dict[str, Any], output: Any, results: Path, chips: int
) -> tuple[Fetched, Outcome]:
    """One workload: judged by what lies at the output, fetched unless it is another's."""
    source = Source(output / one["name"], results / one["name"])
    if source.is_done():
        return Fetched(), judge(one, source.here(), chips)
    with storage.errors_told(output):
        there = source.there()
        outcome = judge(one, there, chips)
        fetched = Fetched() if outcome.state == "alien" else source.fetch(there)
    return fetched, outcome


def _tell_of_others(output: Any, expected: set[str]) -> None:
    with storage.errors_told(output):
        present = [path.name for path in output.iterdir()] if output.is_dir() else []
    others = sorted(set(present) - expected)
    if others:
        print(safe(f"not of this submission: {shortlist(others)}", 500))


def _read(path: Path) -> dict[str, Any]:
    try:
        submission = json.loads(inputs.content(path, _LARGEST))
        if submission["format"] != 1:
            raise UserError(f"{path}: format {submission['format']} is not known, only 1")
        for key, kind in (("output", str), ("chips", int), ("workloads", list)):
            if not isinstance(submission[key], kind):
                raise ValueError(f"{key} must be a {kind.__name__}")
        for one in submission["workloads"]:
            if not all(isinstance(one[key], str) and one[key] for key in ("name", "case", "impl")):
                raise ValueError("a workload has no name, case or impl")
            record.check_run_id(one["name"])
        if not submission["workloads"]:
            raise ValueError("it holds no workload")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError, record.RecordError) as error:
        raise UserError(f"{path}: not a submission: {error}") from None
    return dict(submission)


if __name__ == "__main__":
    cli.main(main)
