"""Two processes on this machine train as one run, as the hosts of a slice do."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from commands import record_of, run, start_pair, until_step

CASE = ("--case", "03_dropout", "--impl", "nnx", "--devices", "4", "--set", "eval.every=4")


def ended(pair: list[subprocess.Popen[str]]) -> list[int]:
    outputs = [process.communicate(timeout=240) for process in pair]
    codes = [process.returncode for process in pair]
    assert set(codes) == {0}, outputs
    return codes


def evaluated(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What evaluations tell, without the time that they took."""
    return [{name: entry[name] for name in entry if name != "seconds"} for entry in record["evals"]]


def test_two_processes_are_one_run(tmp_path: Path) -> None:
    """Of each implementation, one after the other with the one coordinator given; then in turns."""
    both = (*CASE, "--impl", "both", "--turns-seconds", "1", "--results-dir", tmp_path)
    pair = start_pair(*both, "--run-id", "two")
    outputs = [process.communicate(timeout=480)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert run(*CASE, "--run-id", "one", "--results-dir", tmp_path).returncode == 0
    one, linen, nnx = (record_of(tmp_path / name) for name in ("one", "two-linen", "two-nnx"))
    assert nnx["environment"]["process_count"] == 2
    assert nnx["environment"]["device_count"] == 4
    assert [step["step"] for step in nnx["steps"]] == list(range(10))
    assert [step["loss"] for step in nnx["steps"]] == pytest.approx(
        [step["loss"] for step in one["steps"]], abs=1e-4
    )
    assert linen["checkpoint"]["digest"] == nnx["checkpoint"]["digest"]
    assert (tmp_path / "two-nnx" / "log.1.txt").exists()
    assert len((tmp_path / "two-nnx" / "metrics.jsonl").read_text().splitlines()) == 10

    assert [entry["step"] for entry in nnx["evals"]] == [3, 7, 9]  # of both processes, once
    assert evaluated(nnx) == evaluated(linen)
    assert evaluated(nnx) == [pytest.approx(entry, abs=1e-4) for entry in evaluated(one)]
    assert len((tmp_path / "two-nnx" / "evals.jsonl").read_text().splitlines()) == 3

    assert (linen["turns"]["partner"], nnx["turns"]["partner"]) == ("two-nnx", "two-linen")
    assert len(linen["turns"]["blocks"]) == len(nnx["turns"]["blocks"]) >= 2
    assert not any("in turns" in warning for warning in [*linen["warnings"], *nnx["warnings"]])
    assert ["nnx against linen" in output for output in outputs] == [True, False]


def test_a_pair_that_loses_one_ends_soon_and_resumes_exactly(tmp_path: Path) -> None:
    """How it is stopped, and goes on by itself, is rehearsed in pod_test.py."""
    long = (*CASE, "--results-dir", tmp_path, "--set", "checkpoint.period=20", "--steps", "60")
    assert ended(start_pair(*long, "--run-id", "whole")) == [0, 0]
    pair = start_pair(*long, "--run-id", "halved")
    until_step(pair[0], 5)
    pair[1].kill()
    begun = time.monotonic()
    pair[0].communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert pair[0].returncode == -signal.SIGABRT  # a shell sees 134
    pair[1].communicate()

    pair = start_pair("--resume", "halved", "--results-dir", tmp_path, "--devices", "4")
    assert ended(pair) == [0, 0]
    resumed, undisturbed = (record_of(tmp_path / name) for name in ("halved", "whole"))
    assert [step["step"] for step in resumed["steps"]] == list(range(60))
    for a, b in zip(resumed["steps"], undisturbed["steps"], strict=True):
        assert a["loss"] == b["loss"]
    assert evaluated(resumed) == evaluated(undisturbed)
    assert resumed["checkpoint"]["digest"] == undisturbed["checkpoint"]["digest"]
