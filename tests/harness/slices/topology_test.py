"""Slices by name."""

import importlib.util
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from harness import hardware
from harness.records import environment
from harness.slices import topology
from harness.terminal.errors import UserError


@pytest.mark.parametrize(
    ("name", "shape", "canonical", "devices"),
    [
        ("v4-32", (2, 2, 4), "v4-32", 16),
        ("v5litepod-32", (4, 8), "v5litepod-32", 32),
        ("v5e-8", (2, 4), "v5litepod-8", 8),
        ("v5p-8", (2, 2, 1), "v5p-8", 4),
        ("v5p-12288", (16, 16, 24), "v5p-12288", 6144),
        ("v6e-1", (1, 1), "v6e-1", 1),
        ("v6e-32", (4, 8), "v6e-32", 32),
        ("v6e-4x8", (4, 8), "v6e-32", 32),
        ("v6e-256", (16, 16), "v6e-256", 256),
        ("tpu7x-8", (2, 2, 1), "tpu7x-8", 8),
        ("tpu7x-128", (4, 4, 4), "tpu7x-128", 128),
        ("2xv6e-8", (2, 4), "2xv6e-8", 16),
        ("4xv6e-4x4", (4, 4), "4xv6e-16", 64),
    ],
)
def test_a_slice_is_found_and_has_its_devices(
    name: str, shape: tuple[int, ...], canonical: str, devices: int
) -> None:
    found = topology.find(name)
    assert (found.shape, found.name) == (shape, canonical)
    pytest.importorskip("libtpu", reason="libtpu describes slices; it comes with the extra tpu")
    described = found.devices()
    assert len(described) == devices
    assert {device.platform for device in described} == {"tpu"}
    assert environment.collect(described)["topology"] == canonical
    assert found.chips * found.family.cores == int(canonical.rpartition("-")[2]) * found.count


@pytest.mark.parametrize(
    ("family", "count", "largest"),
    [("v4", 11, 4096), ("v5litepod", 6, 256), ("v5p", 96, 17920), ("v6e", 8, 256)],
)
def test_every_size_of_a_family_has_one_shape(family: str, count: int, largest: int) -> None:
    shapes = hardware.FAMILIES[family].shapes
    names = {topology.find(f"{family}-{shape}").name for shape in shapes}
    assert len(shapes) == len(names) == count
    assert f"{family}-{largest}" in names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v6e-33", "nearest: v6e-16, v6e-32"),
        ("v5p-9", "nearest: v5p-8, v5p-16"),
        ("v5e-3", "nearest: v5litepod-8, v5litepod-16"),
        ("v6-8", "nearest: v6e)"),
        ("v6e8", "nearest: v6e-8)"),
        ("V5E_8", "nearest: v5litepod-8)"),
        ("v6e", "known are v6e-1 to v6e-256"),
        ("h100-8", "known are v4, v5litepod, v5p, v6e, tpu7x"),
        ("", "known are v4"),
    ],
)
def test_a_slice_that_does_not_exist_is_refused_with_what_does(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        topology.find(name)
    assert f"--topology {name}: no such TPU slice" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_libtpu_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | ModuleType | None:
        return None if name == "libtpu" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(UserError, match=r" -m pip install 'jax\[tpu\]'$"):
        topology.find("v6e-8").devices()
