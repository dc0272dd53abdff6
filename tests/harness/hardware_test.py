"""Devices and what is published of them."""

import pytest

from harness import hardware

BF16_PEAKS = {
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
    "TPU7x": 1153.5,  # half a chip of 2307
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H200": 989.5,
}


@pytest.mark.parametrize(("kind", "peak"), BF16_PEAKS.items())
def test_mfu_is_the_share_of_the_dense_bf16_peak(kind: str, peak: float) -> None:
    assert hardware.mfu_percent(peak, kind) == pytest.approx(100)
    assert hardware.mfu_percent(peak / 4, kind) == pytest.approx(25)


def test_both_names_of_a_tpu_have_the_same_limits() -> None:
    for name, other in (("TPU v6 lite", "TPU v6e"), ("TPU v5", "TPU v5p")):
        assert hardware.find(name) is hardware.find(other) is not None


@pytest.mark.parametrize("kind", ["cpu", "TPU v9", "NVIDIA A100-SXM4-80GB MIG 1g"])
def test_a_device_without_limits_has_no_mfu_and_no_peak(kind: str) -> None:
    assert hardware.find(kind) is None
    assert hardware.mfu_percent(100.0, kind) is None
    assert hardware.peak_tflops(kind) is None


@pytest.mark.parametrize(
    ("kind", "quantization", "peak"),
    [
        ("TPU v6 lite", "none", 918),
        ("TPU v6 lite", "int8", 1836),
        ("TPU v6 lite", "fp8", 918),
        ("TPU7x", "fp8", 2307),
        ("TPU7x", "int8", 1153.5),
        ("NVIDIA A100-SXM4-80GB", "fp8", 312),
        ("NVIDIA H200", "fp8", 1979),
    ],
)
def test_the_peak_is_that_of_the_precision_where_it_is_faster(
    kind: str, quantization: str, peak: float
) -> None:
    assert hardware.peak_tflops(kind, quantization) == peak


@pytest.mark.parametrize(("kind", "units"), [("TPU v5 lite", 4), ("TPU v5", 8), ("TPU v6 lite", 4)])
def test_a_clock_and_a_matrix_unit_give_the_peak(kind: str, units: int) -> None:
    device = hardware.find(kind)
    assert device is not None
    assert device.chip is not None
    operations = 2 * units * device.chip.matrix_unit**2  # of one cycle
    peak = device.chip.clock_hz * operations / 1e12
    assert peak == pytest.approx(device.bf16_tflop_per_second, rel=0.01)


def test_a_family_is_found_by_the_name_of_xpk_and_by_that_of_google() -> None:
    family = hardware.FAMILIES["v5litepod"]
    assert hardware.family("v5litepod") is hardware.family("v5e") is family
    assert hardware.family("v9") is None
    device = hardware.find("TPU v5 lite")
    assert device is not None
    assert device.family is family
