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


def test_sparsecores_move_what_the_experimental_recipe_overlaps() -> None:
    reference, experimental = options("reference", "tpu"), options("experimental", "tpu")
    assert reference.items() < experimental.items()
    assert options("reference", "tpu", "run.offload_collectives=true") == experimental
    assert not {*experimental} & {*options("fast", "tpu")} - {*reference}


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_other_platforms_are_told_the_same_whatever_is_asked_for(platform: str) -> None:
    asked = [options(recipe, platform) for recipe in reading.RECIPES]
    assert all(one == asked[0] for one in asked)
