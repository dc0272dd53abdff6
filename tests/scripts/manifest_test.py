"""The manifests the real XPK makes of our arguments, and their container's life.

`make test-xpk` installs XPK in an environment of its own and runs these tests. They look for it in
XPK_COMMAND, on the PATH and in .venv/xpk.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import fastjsonschema
import pytest
import workload
import yaml
from jobset import RESTARTED_CODES, Job, Pods, until_step

from harness.cases import reading
from harness.slices import topology

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".venv" / "xpk" / "bin" / "xpk"
XPK = os.environ.get("XPK_COMMAND") or shutil.which("xpk") or str(INSTALLED)

pytestmark = [
    pytest.mark.xpk,
    pytest.mark.skipif(not Path(XPK).exists(), reason="xpk is not installed: make test-xpk"),
]

# Of JobSet's CustomResourceDefinition v1alpha2 (CRD generator 0.17.2): openAPIV3Schema without its
# descriptions, defaults, formats, x-kubernetes-* and status; int-or-string as both types; every
# object with named properties closed, so that an unknown field is an error.
SCHEMA = json.loads((ROOT / "tests" / "data" / "jobset_v1alpha2.json").read_text())
CASES = reading.case_names()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where XPK may keep its settings."""
    return tmp_path_factory.mktemp("home")


def submitted(home: Path, folder: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """The manifests of a dry run, in the order of the workloads."""
    asked = subprocess.run(
        [
            *(sys.executable, ROOT / "scripts" / "xpk" / "submit.py", "--dry-run"),
            *("--cluster", "slices", "--project", "somewhere", "--zone", "us-east5-b"),
            *("--docker-image", "registry.example/harness:1", "--manifest-dir", folder),
            *arguments,
        ],
        env={**os.environ, "HOME": str(home), "PATH": f"{Path(XPK).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    return [yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in asked.stdout.split()]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job(manifest)["template"]["spec"]
    return spec


def job(manifest: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    spec: dict[str, Any] = replicated["template"]["spec"]
    return spec


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(manifest)["containers"]
    assert isinstance(found, dict)
    return found


def as_admitted(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the cluster checks: nulls are dropped, and JobSet names failure rules that have none."""

    def without_nulls(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_nulls(one) for key, one in value.items() if one is not None}
        return [without_nulls(one) for one in value] if isinstance(value, list) else value

    admitted: dict[str, Any] = without_nulls(manifest)
    for number, rule in enumerate(admitted["spec"]["failurePolicy"]["rules"]):
        rule.setdefault("name", f"failurePolicyRule{number}")
    return admitted


@pytest.fixture(scope="module", params=["v6e-8", "v6e-32", "v6e-256"])
def asked(
    request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("manifests")
    where = ("--output", "gs://bucket/runs", "--case", "all", "--tpu-type", request.param)
    return request.param, submitted(home, folder, *where)


def test_every_case_and_implementation_asks_for_the_whole_slice(
    asked: tuple[str, list[dict[str, Any]]],
) -> None:
    name, manifests = asked
    slice_ = topology.find(name)
    told = []
    for manifest in manifests:
        assert pod(manifest)["nodeSelector"] == {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
            "cloud.google.com/gke-tpu-topology": slice_.shape_text,
        }
        pods = {job(manifest)["parallelism"], job(manifest)["completions"]}
        assert pods == {slice_.chips // 4}
        assert container(manifest)["resources"] == {"limits": {"google.com/tpu": 4}}
        assert container(manifest)["image"] == "registry.example/harness:1"
        assert container(manifest)["env"] == [{"name": "JAX_PLATFORMS", "value": "tpu,cpu"}]
        run_id = manifest["metadata"]["name"]
        (line,) = [line for line in script(manifest).splitlines() if "harness.run" in line]
        case, impl = line.split()[5], line.split()[7]
        assert line.strip() == (
            f"(exec python -m harness.run --case {case} --impl {impl} --run-id {run_id}"
            " --results-dir gs://bucket/runs --recipe reference) & PID=$!;"
        )
        told.append((case, impl))
    assert told == list(itertools.product(CASES, ("linen", "nnx")))


def test_preemption_restarts_and_a_failure_does_not(
    asked: tuple[str, list[dict[str, Any]]],
) -> None:
    for manifest in asked[1]:
        assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 5
        assert pod(manifest)["terminationGracePeriodSeconds"] == workload.GRACE_SECONDS
        assert pod(manifest)["restartPolicy"] == "Never"
        assert job(manifest)["backoffLimit"] == 0
        (rule,) = job(manifest)["podFailurePolicy"]["rules"]
        assert rule["action"] == "FailJob"
        assert rule["onExitCodes"]["operator"] == "NotIn"
        assert set(rule["onExitCodes"]["values"]) == RESTARTED_CODES


def test_bash_and_jobset_accept_them(asked: tuple[str, list[dict[str, Any]]]) -> None:
    check = fastjsonschema.compile(SCHEMA)
    for manifest in asked[1]:
        subprocess.run(["bash", "-n", "-c", script(manifest)], check=True)
        check(as_admitted(manifest))


def test_the_schema_refuses_what_a_cluster_would(asked: tuple[str, list[dict[str, Any]]]) -> None:
    check = fastjsonschema.compile(SCHEMA)
    for key, value in (("enviroment", []), ("env", [{"value": "1"}]), ("image", 7)):
        broken = as_admitted(json.loads(json.dumps(asked[1][0])))
        container(broken)[key] = value
        with pytest.raises(fastjsonschema.JsonSchemaValueException):
            check(broken)


def script(manifest: dict[str, Any]) -> str:
    bash, option, text = container(manifest)["command"]
    assert (bash, option) == ("bash", "-c")
    assert isinstance(text, str)
    return text


def test_what_is_let_through_arrives_unchanged(home: Path, tmp_path: Path) -> None:
    allowed = "".join(chr(code) for code in range(32, 127) if chr(code) not in workload._SPECIAL)
    (manifest,) = submitted(
        *(home, tmp_path, "--case", "03_dropout", "--impl", "nnx", "--tpu-type", "v6e-8"),
        *("--output", "/mounted/runs", "--env", f"FLAGS={allowed}"),
        *("--set", f"checkpoint.directory=/a{allowed}"),
    )
    assert container(manifest)["env"][1] == {"name": "FLAGS", "value": allowed}
    (line,) = [line for line in script(manifest).splitlines() if "harness.run" in line]
    command = line.strip().removeprefix("(exec ").removesuffix(") & PID=$!;")
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[-1] == f"checkpoint.directory=/a{allowed}"


@pytest.mark.parametrize(
    ("environment", "command"),
    [
        ('A=x"y', "true"),
        ("A=x\\y", "true"),
        ("A=x\ny", "true"),
        ("NO=1", "true"),
        ("A=1", "true\ntrue"),
        ("A=1", "echo \a"),
    ],
)
def test_what_is_refused_would_have_been_broken(
    environment: str, command: str, home: Path, tmp_path: Path
) -> None:
    """XPK itself takes these, writes what is broken or another's, and ends with 0."""
    manifest = tmp_path / "manifest.yaml"
    called = subprocess.run(
        [
            *(XPK, "workload", "create", "--workload", "mt-x", "--cluster", "slices"),
            *("--project", "somewhere", "--zone", "us-east5-b", "--tpu-type", "v6e-8"),
            *("--docker-image", "harness:1", "--command", command, "--env", environment),
            *("--dry-run", "--no-dependency-auto-download", "--output-manifest-file", manifest),
        ],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        check=False,
    )
    assert called.returncode == 0
    name, _, value = environment.partition("=")
    try:
        loaded = yaml.safe_load(manifest.read_text())
    except yaml.YAMLError:
        return
    assert container(loaded)["env"] != [{"name": name, "value": value}]


def test_the_container_lives_through_a_preemption(home: Path, tmp_path: Path) -> None:
    """XPK's own wrapper around the command: it passes SIGTERM on late, and the exit code."""
    (manifest,) = submitted(
        *(home, tmp_path, "--case", "03_dropout", "--impl", "nnx", "--tpu-type", "v6e-8"),
        *("--output", tmp_path / "runs", "--set", "run.steps=2000"),
        *("--set", "checkpoint.period=500"),
    )
    run = tmp_path / "runs" / manifest["metadata"]["name"]
    life = Job(
        command=container(manifest)["command"],
        environment={one["name"]: one["value"] for one in container(manifest)["env"]},
        pods=job(manifest)["parallelism"],
        max_restarts=manifest["spec"]["failurePolicy"]["maxRestarts"],
        grace_seconds=pod(manifest)["terminationGracePeriodSeconds"],
        output=tmp_path / "printed.txt",
    )

    def preempt(pods: Pods) -> None:
        until_step(run, 5)
        for one in pods:
            one.send_signal(signal.SIGTERM)

    assert life.run(preempt), life.output.read_text()
    assert life.lives == [[42, 42], [0, 0]]
    record = commands.record_of(run)
    assert record["status"] == "completed"
    assert [step["step"] for step in record["steps"]] == list(range(2000))
