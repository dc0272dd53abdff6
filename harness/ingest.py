"""Makes records of what others published: `harness ingest FILE`."""

import json
from collections.abc import Iterable
from pathlib import Path

from harness import published
from harness.published import document
from harness.records import record as record_module
from harness.records.record import Record
from harness.records.run_folder import check_writable
from harness.terminal import cli
from harness.terminal.console import Console
from harness.terminal.errors import UserError


def parser() -> cli.Parser:
    """The command's arguments."""
    arguments = cli.Parser(
        prog="harness ingest",
        description="Makes records of a MaxText log, the text of a MaxView page, an AXLearn golden "
        "configuration or a Megatron-LM log. Names, paths and addresses in it are not taken over.",
        epilog="Exit codes: 0 fine, 2 bad input.",
    )
    arguments.add_argument("file", metavar="FILE", help="as it was found, packed or not")
    arguments.add_argument(
        "--results-dir",
        metavar="D",
        type=Path,
        default=Path("results"),
        help="where the records go, each in its run's folder (default: results)",
    )
    return arguments


def main(argv: list[str]) -> int:
    """Runs what the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    check_writable(arguments.results_dir)
    with Console() as console:
        console.begin(f"read {arguments.file}", announced=False)
        imported = published.read(document.load(arguments.file))
        paths = write(arguments.results_dir, imported.records)
    print(f"kind: {imported.kind}")
    for record in imported.records:
        print(f"run: {record['run_id']}, steps: {len(record['steps'])}")
        for warning in record["warnings"]:
            print(f"  warning: {warning}")
    for line in imported.findings:
        print(line)
    for path in paths:
        print(f"record: {path}")
    return 0


def write(results: Path, records: Iterable[Record]) -> list[Path]:
    """Writes each record unless it is there already; raises UserError before another is replaced.

    Returns the paths.
    """
    missing = []
    paths = []
    for record in records:
        path = results / record["run_id"] / "record.json"
        paths.append(path)
        record_module.validate(record)
        if not path.exists():
            missing.append((path, record))
        elif record_module.read(path) != json.loads(json.dumps(record)):
            raise UserError(
                f"{path}: already holds another record; remove it, or give another --results-dir"
            )
    for path, record in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        record_module.write(path, record)
    return paths


if __name__ == "__main__":
    cli.main(main)
