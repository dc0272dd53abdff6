"""What is asked of XPK, and what is refused before it is asked."""

import json
import re
import shlex
from pathlib import Path

import pytest
import submit
import workload

from harness.cases import reading
from harness.terminal.errors import UserError

CLUSTER = ("--cluster", "slices", "--project", "somewhere", "--zone", "us-east5-b")
WHERE = (*CLUSTER, "--docker-image", "registry.example/harness:1", "--output", "gs://bucket/runs")
GIVEN = ("--case", "03_dropout", "--tpu-type", "v6e-32", *WHERE)


def planned(*arguments: str) -> list[list[str]]:
    """XPK's arguments for each workload."""
    parsed = submit.parser().parse_args([*GIVEN, *arguments])
    options = submit.xpk_options(parsed)
    return [workload.arguments(one, options, None) for one in submit.plan(parsed)]


def test_one_call_of_xpk() -> None:
    (given,) = planned("--impl", "nnx", "--set", "run.steps=20")
    name = given[3]
    assert re.fullmatch(r"mt-03-dropout-nnx-[a-z2-9]{5}", name)
    assert given == [
        *("workload", "create", "--workload", name, *CLUSTER, "--tpu-type", "v6e-32"),
        *("--docker-image", "registry.example/harness:1", "--max-restarts", "5"),
        "--command",
        f"exec python -m harness.run --case 03_dropout --impl nnx --run-id {name}"
        " --results-dir gs://bucket/runs --recipe reference --set run.steps=20",
        *("--env", "JAX_PLATFORMS=tpu,cpu", "--termination-grace-period-seconds", "120"),
        "--no-dependency-auto-download",
    ]


def test_every_case_implementation_and_repeat_is_a_workload_of_its_own() -> None:
    calls = planned("--case", "all", "--repeats", "3")
    names = [given[3] for given in calls]
    assert len(set(names)) == len(reading.case_names()) * 2 * 3
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names)
    assert max(map(len, names)) <= 40
    commands = [shlex.split(given[given.index("--command") + 1]) for given in calls]
    told = {
        (words[words.index("--case") + 1], words[words.index("--impl") + 1]) for words in commands
    }
    assert told == {(case, impl) for case in reading.case_names() for impl in ("linen", "nnx")}


def test_a_pair_of_a_user_has_no_case_and_names_of_its_own() -> None:
    where = ("--tpu-type", "v6e-32", *WHERE)
    parsed = submit.parser().parse_args(["--twins", "models.examples.own.regression", *where])
    linen, nnx = submit.plan(parsed)
    assert re.fullmatch(r"mt-00-pair-linen-[a-z2-9]{5}", linen.name)
    assert shlex.join(nnx.command).endswith(
        "--recipe reference --twins models.examples.own.regression"
    )
    assert nnx.case == "00_pair"
    assert re.fullmatch(
        r"mt-00-pair-ours-of-the-[a-z2-9]{5}", workload.name_of("mt", "00_pair", "Ours_of_the_past")
    )
    with pytest.raises(UserError, match="--case is missing; known are 01_baseline"):
        submit.plan(submit.parser().parse_args([*where]))
    with pytest.raises(UserError, match=r"argument --impl: invalid choice: 'torch'"):
        planned("--impl", "torch")


def test_a_long_name_is_cut_in_the_case() -> None:
    name = workload.name_of("sixteen-letters0", "08_checkpoint_async_true", "linen")
    assert re.fullmatch(r"sixteen-letters0-08-checkpoi-linen-[a-z2-9]{5}", name)
    assert len(name) <= 40


def test_options_of_xpk_are_passed_on() -> None:
    (given,) = planned("--impl", "nnx", "--spot", "--priority", "high", "--storage", "disk")
    for option in (["--spot"], ["--priority", "high"], ["--storage", "disk"]):
        at = given.index(option[0])
        assert given[at : at + len(option)] == option
    flags = "LIBTPU_INIT_ARGS=--xla_tpu_enable_async_collective_fusion=true --xla_a=1"
    (given,) = planned("--impl", "nnx", "--env", flags)
    assert given.count("--env") == 2
    assert flags in given


def test_several_slices_divide_the_batch() -> None:
    (given,) = planned("--impl", "nnx", "--num-slices", "2", "--set", "parallel.data=4")
    assert given[given.index("--num-slices") + 1] == "2"
    assert "--set parallel.data=4" in given[given.index("--command") + 1]


def test_a_base_image_is_told_the_commit_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    git = {"git_commit": "0ab", "git_dirty": True}
    monkeypatch.setattr(submit.environment, "collect", lambda devices: git)
    at = GIVEN.index("--docker-image")
    rest = [*GIVEN[:at], *GIVEN[at + 2 :], "--impl", "nnx", "--base-docker-image", "harness:base"]
    parsed = submit.parser().parse_args(rest)
    (one,) = submit.plan(parsed)
    given = workload.arguments(one, submit.xpk_options(parsed), None)
    assert "HARNESS_GIT_COMMIT=0ab-dirty" in given
    script_dir = Path(given[given.index("--script-dir") + 1])
    assert (script_dir / "scripts" / "xpk" / "submit.py").exists()
    assert "--docker-image" not in given


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--case", "99_none"], "--case 99_none: no such case in the image; 01_baseline, "),
        (["--set", "model.embd=3"], "model.embd: no such key"),
        (["--set", "run.profile=$(id)"], "run.profile: no such key"),
        (["--set", "checkpoint.directory=a'b"], "passes on only printable ASCII"),
        (["--set", "checkpoint.directory=$HOME"], "passes on only printable ASCII"),
        (["--set", "checkpoint.directory=a\nb"], "passes on only printable ASCII"),
        (["--env", 'FLAGS=a"b'], "--env FLAGS 'a\"b': XPK passes on only printable ASCII"),
        (["--env", "FLAGS=a\nb"], "--env FLAGS 'a\\nb': XPK passes on only"),
        (["--env", "FLAGS=a\\b"], "XPK passes on only"),
        (["--env", "FLAGS=$(NAME)"], "XPK passes on only"),
        (["--env", "FLAGS=é"], "XPK passes on only"),
        (["--env", "FLAGS"], "--env FLAGS: must be NAME=VALUE"),
        (["--env", "A-B=1"], "--env A-B: must be a name"),
        (["--env", "NO=1"], "--env NO: must be a name"),  # which YAML reads as false
        (["--prefix", "Mine"], "--prefix 'Mine': must be 1 to 16 lower-case letters"),
        (["--prefix", "my_runs"], "--prefix 'my_runs': must be"),
        (["--prefix", "4you"], "--prefix '4you': must be"),
        (["--prefix", "a" * 17], "must be 1 to 16"),
        (["--tpu-type", "v6e-33"], "--tpu-type v6e-33: no such TPU slice; nearest: v6e-16, v6e-32"),
        (["--tpu-type", "h100-8"], "--tpu-type h100-8: no such TPU slice; known are"),
        (["--cluster", "My_Cluster"], "--cluster 'My_Cluster': must match"),
        (["--cluster", "c" * 41], "must have at most 40 characters"),
        (["--project", "a; id"], "--project 'a; id': must match"),
        (["--zone", "us-east5"], "--zone 'us-east5': must match"),
        (["--docker-image", "a b"], "--docker-image 'a b': must match"),
        (["--output", "s3://bucket/runs"], "--output 's3://bucket/runs': must match"),
        (["--output", "results"], "--output 'results': must match"),
        (["--reservation", "a'b"], '--reservation "a\'b": must match'),
        (["--repeats", "0"], "--repeats: must be at least 1"),
        (["--max-restarts", "-1"], "--max-restarts: must be at least 0"),
        (["--num-slices", "0"], "--num-slices: must be at least 1"),
        (["--num-slices", "2"], "the slices divide it: --set parallel.data=2"),
        (["--spot", "--flex"], "not allowed with argument"),
        (["--base-docker-image", "python:3.11"], "not allowed with argument"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UserError) as refused:
        planned(*arguments)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("missing", ["--project", "--zone", "--docker-image", "--output"])
def test_nothing_of_the_cluster_is_guessed(missing: str) -> None:
    at = GIVEN.index(missing)
    with pytest.raises(UserError, match=missing):
        submit.parser().parse_args([*GIVEN[:at], *GIVEN[at + 2 :]])


def test_without_xpk_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(submit, "_CHECKOUT", tmp_path)
    with pytest.raises(UserError, match=r"pipx install 'xpk==1\.16\.\*'"):
        submit.main([*GIVEN])


def test_what_xpk_took_is_in_the_submission_though_a_later_call_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    xpk = tmp_path / "xpk"
    xpk.write_text(
        f'#!/bin/sh\necho x >> {tmp_path}/calls\n[ "$(wc -l < {tmp_path}/calls)" -lt 3 ]\n'
    )
    xpk.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    kept = tmp_path / "submission.json"
    code = submit.main([*GIVEN, "--repeats", "2", "--submission", str(kept)])
    assert code == 1
    submission = json.loads(kept.read_text())
    assert [one["impl"] for one in submission["workloads"]] == ["linen", "nnx"]
    assert (submission["output"], submission["chips"]) == ("gs://bucket/runs", 32)
    told = capfd.readouterr().out
    assert "xpk ended with 1; submitted: 2" in told
    assert f"python scripts/xpk/collect.py {kept}" in told
