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


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_other_platforms_are_told_the_same_by_both_recipes(platform: str) -> None:
    assert options("reference", platform) == options("fast", platform)
