"""A workload's life on a slice, rehearsed: submitted, disturbed, restarted, collected."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ENVIRONMENT, record_of
from jobset import Job, Pods, until_step

from harness.records import environment
from harness.terminal.errors import UserError
from harness.training import devices
from harness.training.devices import Processes

SCRIPTS = Path(__file__).parents[3] / "scripts" / "xpk"
SETTINGS = ("--set", "checkpoint.period=20", "--set", "run.steps=60")

# Stands where XPK would: keeps what it is called with.
XPK = f"""#!{sys.executable}
import json, pathlib, sys
calls = pathlib.Path(__file__).with_name("calls.jsonl")
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def script(name: str, *arguments: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *arguments],
        env={**ENVIRONMENT, "PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def submission(output: Path) -> Path:
    folder = output.with_name(f"{output.name}-submitted")
    folder.mkdir()
    (folder / "xpk").write_text(XPK)
    (folder / "xpk").chmod(0o755)
    submitted = script(
        "submit.py",
        *("--case", "03_dropout", "--impl", "nnx", "--repeats", "2", "--tpu-type", "v6e-8"),
        *("--cluster", "slices", "--project", "somewhere", "--zone", "us-east5-b"),
        *("--docker-image", "harness:1", "--output", output, *SETTINGS),
        *("--submission", folder / "submission.json"),
        path=str(folder),
    )
    assert submitted.returncode == 0, submitted.stderr
    return folder / "submission.json"


def job(submission: Path, number: int) -> Job:
    """What the workload with this number asked XPK for."""
    given = json.loads((submission.parent / "calls.jsonl").read_text().splitlines()[number])
    options = dict(itertools.pairwise(given))
    return Job(
        command=("bash", "-c", options["--command"]),
        environment=dict([options["--env"].split("=", 1)]),
        pods=2,
        max_restarts=int(options["--max-restarts"]),
        grace_seconds=5,  # of the 120: a pod whose partner is gone need not be waited for
        output=submission.with_name(f"{number}.txt"),
    )


def name(submission: Path, number: int) -> str:
    found: str = json.loads(submission.read_text())["workloads"][number]["name"]
    return found


def test_what_gke_tells_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "only-one")
    assert devices.told_as_on_gke() is None
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "first,second")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    assert devices.told_as_on_gke() == Processes("first:8482", 2, 1)
    for wrong in ("2", "-1", ""):
        monkeypatch.setenv("TPU_WORKER_ID", wrong)
        with pytest.raises(UserError, match=f"TPU_WORKER_ID={wrong}: must be the place"):
            devices.told_as_on_gke()


def test_a_container_is_told_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "_CHECKOUT", tmp_path)
    for told, commit, dirty in (
        ("", None, None),
        ("0ab", "0ab", False),
        ("0ab-dirty", "0ab", True),
    ):
        monkeypatch.setenv("HARNESS_GIT_COMMIT", told)
        found = environment.collect(())
        assert (found["git_commit"], found["git_dirty"]) == (commit, dirty)


def test_a_run_that_is_stopped_and_loses_a_pod_ends_as_an_undisturbed_one(
    submission: Path, output: Path, tmp_path: Path
) -> None:
    whole, broken = (output / name(submission, number) for number in (0, 1))
    undisturbed = job(submission, 0)
    assert undisturbed.run(), undisturbed.output.read_text()
    assert undisturbed.lives == [[0, 0]]
    assert record_of(whole)["environment"]["process_count"] == 2

    def stop(pods: Pods) -> None:
        until_step(broken, 5)
        pods[1].send_signal(signal.SIGTERM)

    def lose_one(pods: Pods) -> None:
        until_step(broken, 25)
        pods[1].kill()

    disturbed = job(submission, 1)
    assert disturbed.run(stop, lose_one), disturbed.output.read_text()
    assert [disturbed.lives[0], disturbed.lives[2]] == [[42, 42], [0, 0]]
    assert disturbed.lives[1][1] == 128 + signal.SIGKILL

    expected, record = record_of(whole), record_of(broken)
    assert [attempt["status"] for attempt in record["attempts"]] == ["preempted", "failed"]
    assert [step["step"] for step in record["steps"]] == list(range(60))
    saved = [save["step"] for save in record["checkpoint"]["saves"]]
    assert saved[0] == 0
    assert saved[1] >= 5  # both at the one step that they agreed on when SIGTERM came
    assert saved[-2:] == [40, 59]
    for key in ("loss", "grad_norm"):
        assert [step[key] for step in record["steps"]] == [step[key] for step in expected["steps"]]
    assert record["checkpoint"]["digest"] == expected["checkpoint"]["digest"]

    # Pods that are started again after the end neither fail nor train.
    again = job(submission, 1)
    assert again.run()
    assert "is complete" in again.output.read_text()
    assert record_of(broken) == record

    collected = script("collect.py", submission, "--results-dir", tmp_path)
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert collected.stdout.splitlines()[-1] == "2 complete"
    assert record_of(tmp_path / broken.name) == record
