"""Hosts that JAX finds as on TPU VMs, on GKE and over two slices; and what keeps them apart."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ENVIRONMENT, free_port, record_of
from jobset import until_step

from harness.terminal.errors import UserError
from harness.training import joining

HOST = Path(__file__).parents[2] / "helpers" / "slice_host.py"
STEPS = 60
CASE = (
    *("--case", "03_dropout", "--impl", "nnx", "--size", "tiny", "--steps", str(STEPS)),
    *("--set", "checkpoint.period=20", "--run-id", "together"),
)
Told = Callable[[int, ExitStack], dict[str, str]]


@contextmanager
def metadata(**told: str) -> Iterator[str]:
    """A TPU VM's metadata server, on the loopback; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = told.get(self.path.rpartition("/")[2].replace("-", "_"))
            self.send_response(404 if value is None else 200)
            self.end_headers()
            self.wfile.write((value or "").encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def start_hosts(
    told: Told, open_: ExitStack, *arguments: str | Path
) -> list[subprocess.Popen[str]]:
    """Two hosts that are told of each other in that way."""
    shared = {
        "JAX_FORCE_TPU_INIT": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_COORDINATOR_PORT": free_port(),
    }
    pair = [
        subprocess.Popen(
            [sys.executable, HOST, *arguments],
            env=ENVIRONMENT | shared | told(index, open_),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    for process in pair:
        open_.callback(process.kill)
    return pair


def require_ended(pair: list[subprocess.Popen[str]], code: int) -> None:
    outputs = [process.communicate(timeout=240)[0] for process in pair]
    assert [process.returncode for process in pair] == [code, code], outputs


def as_tpu_vm(index: int, open_: ExitStack) -> dict[str, str]:
    endpoints = "unknown:unknown:127.0.0.1,unknown:unknown:127.0.0.1"
    told = {"agent_worker_number": str(index), "worker_network_endpoints": endpoints}
    told["tpu_env"] = "ACCELERATOR_TYPE: 'v6e-8'\nWORKER_ID: '0'"
    return {"GCE_METADATA_IP": open_.enter_context(metadata(**told))}


def as_gke(index: int, open_: ExitStack) -> dict[str, str]:
    return {"TPU_WORKER_HOSTNAMES": "127.0.0.1,127.0.0.1", "TPU_WORKER_ID": str(index)} | NO_SLICES


def as_two_slices(index: int, open_: ExitStack) -> dict[str, str]:
    return {
        "TPU_WORKER_HOSTNAMES": "127.0.0.1",
        "TPU_WORKER_ID": "0",
        "MEGASCALE_COORDINATOR_ADDRESS": "127.0.0.1",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": str(index),
    }


# What GKE sets on one slice, too.
NO_SLICES = {
    "MEGASCALE_COORDINATOR_ADDRESS": "",
    "MEGASCALE_NUM_SLICES": "",
    "MEGASCALE_SLICE_ID": "",
}


@pytest.mark.parametrize(
    ("told", "goes_on"),
    [
        (as_tpu_vm, False),
        pytest.param(as_tpu_vm, True, marks=pytest.mark.faults),
        pytest.param(as_gke, True, marks=pytest.mark.faults),
        pytest.param(as_two_slices, True, marks=pytest.mark.faults),
    ],
)
def test_hosts_find_each_other_stop_together_and_go_on_as_one_run(
    told: Told, goes_on: bool, tmp_path: Path
) -> None:
    folder, results = tmp_path / "together", ("--results-dir", tmp_path)
    with ExitStack() as open_:
        pair = start_hosts(told, open_, *CASE, *results)
        until_step(folder, 5)
        pair[1].send_signal(signal.SIGTERM)
        require_ended(pair, 42)
        stopped = record_of(folder)
        if goes_on:
            require_ended(start_hosts(told, open_, "--resume", folder.name, *results), 0)
    last = stopped["steps"][-1]["step"]
    assert 5 <= last < STEPS - 1
    assert (stopped["status"], stopped["environment"]["process_count"]) == ("preempted", 2)
    assert [entry["step"] for entry in stopped["steps"]] == [*range(last + 1)]
    assert stopped["checkpoint"]["saves"][-1]["step"] == last
    assert (folder / "log.1.txt").exists()
    if not goes_on:
        return
    record = record_of(folder)
    assert (record["status"], record["environment"]["process_count"]) == ("completed", 2)
    assert [attempt["status"] for attempt in record["attempts"]] == ["preempted"]
    assert [entry["step"] for entry in record["steps"]] == [*range(STEPS)]
    assert record["steps"][: last + 1] == stopped["steps"]
    saves = [save["step"] for save in record["checkpoint"]["saves"]]
    assert saves == sorted({0, last, *range(20, STEPS, 20), STEPS - 1})


def test_a_tpu_that_nothing_tells_of_others_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(*_: object, **__: object) -> None:
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", alone)
    joining.join(9)


def test_what_keeps_hosts_apart_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def apart(*_: object, **__: object) -> None:
        raise ConnectionError("Max retries exceeded\nwith url: /computeMetadata")

    monkeypatch.setattr(jax.distributed, "initialize", apart)
    with pytest.raises(
        UserError, match=r"^the hosts of this run cannot be joined: Max .* one host$"
    ):
        joining.join(9)


def test_hosts_that_do_not_come_end_the_run_in_one_line() -> None:
    code = (
        "import jax; jax.config.update('jax_platforms', 'cpu');"
        "from harness.training import joining;"
        f"joining.join(1, '127.0.0.1:{free_port()}', 2, 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith(
        "error: the other hosts did not come within 1 s"
    )


@pytest.mark.parametrize("sees", [True, False])
def test_a_place_that_hosts_do_not_share_is_refused(
    sees: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from jax.experimental import multihost_utils

    place = tmp_path / "results"
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(joining, "agreed", lambda find: find())
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([own, sees]))
    if sees:
        joining.require_shared(place)
    else:
        told = rf"^{place}: of 2 processes, 1 do not see .*, process 1 among them; .* gs://"
        with pytest.raises(UserError, match=told):
            joining.require_shared(place)
    assert list(place.iterdir()) == []
    monkeypatch.setattr(joining, "_LOOK_SECONDS", 0.1)
    assert not joining._appears(place / "token")


def test_one_process_and_a_bucket_need_no_look(tmp_path: Path) -> None:
    joining.require_shared(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_hosts_are_named() -> None:
    assert joining.hosts() == [socket.gethostname()]
