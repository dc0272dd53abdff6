"""Two runs again, in turns, by the command: what it finds, keeps and refuses."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import record_of, run, start

NAMES = ("runs-linen", "runs-nnx")
CASE = ("--case", "03_dropout", "--steps", "12", "--set", "checkpoint.enabled=false")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that were not run in turns, of two devices."""
    results = tmp_path_factory.mktemp("runs")
    ended = run(
        *(*CASE, "--devices", "2", "--run-id", "runs", "--no-turns", "--results-dir", results),
        seconds=480,
    )
    assert ended.returncode == 0, ended.stderr
    assert "in turns" not in ended.stdout
    return results


@pytest.fixture
def results(runs: Path, tmp_path: Path) -> Path:
    """A copy of the records of both."""
    for name in NAMES:
        record = record_of(runs / name)
        assert "turns" not in record
        (tmp_path / name).mkdir()
        write(tmp_path, record)
    return tmp_path


def write(results: Path, record: dict[str, Any]) -> None:
    (results / record["run_id"] / "record.json").write_text(json.dumps(record))


def in_turns(results: Path, *more: str) -> list[str | Path]:
    return ["--in-turns", *NAMES, "--devices", "2", "--results-dir", results, *more]


def test_the_steps_in_turns_are_those_of_the_runs_alone(results: Path) -> None:
    """One loss is made another one: that alone is told, of that run alone."""
    other = record_of(results / NAMES[1])
    other["steps"][7]["loss"] += 1e-6
    write(results, other)
    ended = run(*in_turns(results, "--turns-seconds", "1"))
    assert ended.returncode == 0, ended.stderr
    linen, nnx = (record_of(results / name) for name in NAMES)
    assert [linen["turns"]["partner"], nnx["turns"]["partner"]] == [NAMES[1], NAMES[0]]
    blocks = linen["turns"]["blocks"]
    assert len(blocks) == len(nnx["turns"]["blocks"]) == linen["turns"]["order"].count("B")
    assert blocks[-1]["first_step"] > 12
    assert not any("in turns" in warning for warning in linen["warnings"])
    (warning,) = (warning for warning in nnx["warnings"] if "in turns" in warning)
    assert "in turns with runs-linen, step 7 had the loss " in warning
    assert warning in ended.stdout
    again = run(*in_turns(results, "--turns-seconds", "1"))
    assert "in turns: measured before" in again.stdout
    assert record_of(results / NAMES[0]) == linen
    longer = run(*in_turns(results, "--turns-seconds", "1.5"))
    assert "in turns: measured before" not in longer.stdout
    measured = record_of(results / NAMES[0])["turns"]
    assert measured["limits"] == {"percent": 1.0, "seconds": 1.5}
    assert measured["blocks"] != blocks


def test_two_states_that_do_not_fit_are_told_of(results: Path) -> None:
    for name in NAMES:
        record = record_of(results / name)
        memory = record["memory"]
        memory["capacity_bytes"] = int(1.2 * memory["total_bytes"])
        write(results, record)
    ended = run(*in_turns(results))
    assert ended.returncode == 0, ended.stderr
    assert "not in turns: both states need" in ended.stdout
    for name in NAMES:
        record = record_of(results / name)
        assert "turns" not in record
        assert "for both states and has" in record["warnings"][-1]


def test_one_that_is_asked_to_stop_leaves_the_records_as_they_were(results: Path) -> None:
    before = [(results / name / "record.json").read_bytes() for name in NAMES]
    with start(*in_turns(results, "--precision", "1e-9", "--turns-seconds", "600")) as process:
        assert process.stdout is not None
        assert any(line.startswith("in turns, for at most") for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode in (1, -signal.SIGTERM)
    assert before == [(results / name / "record.json").read_bytes() for name in NAMES]


def test_a_run_that_is_not_there_or_was_on_other_devices_is_refused(results: Path) -> None:
    refused = run("--in-turns", NAMES[0], "none", "--results-dir", results)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --in-turns none: ")
    refused = run("--in-turns", *NAMES, "--results-dir", results)
    assert refused.returncode == 2
    assert "--in-turns runs-linen: ran on 2 devices, here is 1" in refused.stderr
