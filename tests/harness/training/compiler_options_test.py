"""What the compiler is told, by case and platform."""

import pytest

from harness.cases import reading
from harness.training.compiler_options import Options, compiler_options


def options(recipe: str, platform: str, *overrides: str) -> Options:
    return compiler_options(reading.load("01_baseline", "tiny", overrides, recipe), platform)


def test_fast_overlaps_collectives_on_a_tpu() -> None:
    reference, fast = options("reference", "tpu"), options("fast", "tpu")
    assert reference.items() < fast.items()
    assert options("fast", "tpu", "run.overlap_collectives=false") == reference


def test_scatters_are_overlapped_on_a_tpu_where_that_is_asked_for() -> None:
    fast, asked = options("fast", "tpu"), options("fast", "tpu", "run.overlap_scatters=true")
    assert fast.items() < asked.items()
    assert all(
        "scatter" in name or "_sc_" in name or "_on_sc" in name for name in {*asked} - {*fast}
    )


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_other_platforms_are_told_the_same_whatever_is_asked_for(platform: str) -> None:
    asked = options("fast", platform, "run.overlap_scatters=true")
    assert options("reference", platform) == options("fast", platform) == asked
