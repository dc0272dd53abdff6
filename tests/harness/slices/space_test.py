"""What may be set otherwise, and how it is told."""

from collections.abc import Sequence

import pytest

from harness.cases import reading
from harness.cases.settings import Case
from harness.slices.space import RECIPE, Candidate, Change, Space, recipes
from harness.terminal.errors import UserError


def space(name: str = "01_baseline", *sets: str, by: Sequence[str] = ("reference",)) -> Space:
    def load(recipe: str, overrides: Sequence[str]) -> Case:
        return reading.load(name, "full", [*sets, *overrides], recipe)

    return Space(load, by)


def test_every_change_of_the_decoder_is_told_and_none_of_its_mathematics() -> None:
    around = space()
    assert set(around.changes(around.start)) == {
        Change("model.remat", "full", "weights"),
        Change("model.remat", "full", "none"),
        Change("model.attention", "auto", "xla"),
        Change("data.per_device_batch", 1, 2),
        Change("data.per_device_batch", 1, 4),
        Change("parallel.data", 1, 2),
        Change("parallel.tensor", 1, 2),
    }


def test_a_family_is_asked_what_it_computes_again_and_a_case_how_large_its_batch_is() -> None:
    around = space("20_honeycrisp", "data.global_batch=64", "parallel.fsdp=8", "parallel.data=-1")
    changes = set(around.changes(around.start))
    assert Change("model.remat", "projections", "dots") in changes
    assert Change("model.attention", "xla", "auto") in changes
    assert {one.new for one in changes if one.key == "data.global_batch"} == {32, 128, 256}
    assert {one.new for one in changes if one.key == "parallel.fsdp"} == {4, 16}
    assert not [one for one in changes if one.key == "parallel.data"]


def test_a_change_and_its_way_back_lead_to_the_same_candidate() -> None:
    around = space(by=("reference", "fast"))
    for change in around.changes(around.start):
        there = around.changed(around.start, change)
        assert there != around.start
        assert around.value(there, change.key) == change.new
        back = around.changed(there, Change(change.key, change.new, change.old))
        assert back == around.start
        if change.key.startswith(("data.", "model.")):
            assert reading.flatten(around.case(there))[change.key] == change.new


def test_what_a_recipe_says_by_itself_is_not_said_again() -> None:
    around = space(by=("reference", "fast"))
    none = around.changed(around.start, Change("model.remat", "full", "none"))
    assert none.overrides == ["model.remat=none"]
    assert around.changed(none, Change(RECIPE, "reference", "fast")) == Candidate("fast")
    assert around.case(Candidate("fast")).model.unroll


def test_a_pipeline_may_have_other_stages() -> None:
    around = space("30_pipeline")
    stages = {one.new for one in around.changes(around.start) if one.key == "parallel.stage"}
    own = around.case(around.start).parallel.stage
    assert stages == {2 * own, own // 2}


@pytest.mark.parametrize(
    ("name", "may_round", "others"),
    [
        ("01_baseline", False, ["reference", "experimental"]),
        ("05_fp8", False, ["reference", "experimental"]),
        ("20_honeycrisp", False, ["reference", "experimental"]),
        ("04_int8", False, []),
        ("04_int8", True, ["reference", "experimental"]),
    ],
)
def test_only_what_is_rounded_alike_is_tried_unasked(
    name: str, may_round: bool, others: list[str]
) -> None:
    assert recipes(reading.load(name), "fast", may_round) == ["fast", *others]
    around = space(name, by=["fast"])
    assert RECIPE not in {one.key for one in around.changes(around.start)}


def test_what_the_config_forbids_is_a_fault_of_that_candidate() -> None:
    around = space("30_pipeline")
    kernel = Candidate("reference", (("model.attention", "splash"),))
    with pytest.raises(UserError, match="attention"):
        around.case(kernel)
