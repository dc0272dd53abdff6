import jax
import pytest

from harness.terminal.errors import UserError
from harness.training import devices, joining
from harness.training.devices import Processes

NAMES = ("JAX_PLATFORMS", "TPU_WORKER_HOSTNAMES", "TPU_WORKER_ID", "JAX_COORDINATOR_PORT")


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("asked", "platform"), [("cuda,cpu", "gpu"), ("rocm", "gpu"), ("tpu", "tpu"), ("cpu", "cpu")]
)
def test_the_platform_is_the_one_that_jax_is_told(
    monkeypatch: pytest.MonkeyPatch, asked: str, platform: str
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    assert devices.platform() == platform


@pytest.mark.parametrize(
    ("there", "platform"),
    [
        ("/dev/accel*", "tpu"),
        ("/dev/vfio/[0-9]*", "tpu"),
        ("/dev/nvidia[0-9]*", "gpu"),
        ("", "cpu"),
    ],
)
def test_else_it_is_what_the_machine_shows(
    monkeypatch: pytest.MonkeyPatch, there: str, platform: str
) -> None:
    monkeypatch.setattr(devices.glob, "glob", lambda name: ["one"] if name == there else [])
    assert devices.platform() == platform


def test_a_host_of_a_slice_is_told_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.told_as_on_gke() is None
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    assert devices.told_as_on_gke() == Processes("a:8482", 2, 1)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "99")
    assert devices.told_as_on_gke() == Processes("a:99", 2, 1)
    for wrong in ("2", "", "x"):
        monkeypatch.setenv("TPU_WORKER_ID", wrong)
        with pytest.raises(UserError, match=f"^TPU_WORKER_ID={wrong}: must be the place"):
            devices.told_as_on_gke()


@pytest.mark.parametrize(("total", "processes"), [(0, 1), (513, 1), (3, 2)])
def test_a_number_of_devices_that_cannot_be_had_is_one_line(total: int, processes: int) -> None:
    with pytest.raises(UserError, match=f"^--devices {total}: must be 1 to 512 on a CPU"):
        devices.cpu_count(total, Processes("a:1", processes, 0))


def test_devices_are_shared_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}
    monkeypatch.setattr(jax.config, "update", lambda name, value: told.update({name: value}))
    monkeypatch.setattr(joining, "join", lambda *_: None)
    devices.prepare(8, Processes("a:1", 2, 0))
    assert told["jax_num_cpu_devices"] == 4


def test_compiled_programs_are_kept_where_the_user_keeps_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(devices.cache_folder()) == "/somewhere/linen-nnx-harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert devices.cache_folder().parts[-2:] == (".cache", "linen-nnx-harness")


def test_devices_that_were_started_already_are_taken_or_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_use_compilation_cache", lambda: None)
    jax.devices()  # as a module does that computes something when it is imported
    there = jax.local_device_count()
    devices.prepare_cpus(there)
    with pytest.raises(UserError, match=r"^--devices: .* set JAX_NUM_CPU_DEVICES=9$"):
        devices.prepare_cpus(9)
