"""A pipeline's order on the pages: ours by ticks, a document's as it was logged."""

import re
from pathlib import Path
from typing import Any

import pytest
from report_site import PUBLISHED

from harness.pages import schedules, sources
from harness.pages.sources import Run
from harness.training.parallel.schedule import Schedule


@pytest.fixture(scope="module")
def log() -> Run:
    runs, _ = sources.load([PUBLISHED])
    return next(run for run in runs if run.source["schedule"])


def told(group: int, microbatches: int = 8) -> dict[str, Any]:
    """A record's `pipeline` of the log's sizes."""
    schedule = Schedule(4, 4, microbatches, group)
    return {
        "stages": 4,
        "repeats": 4,
        "microbatches": microbatches,
        "ticks": schedule.ticks._asdict(),
        "per_stage": [{"order": " ".join(map(str, schedule.order(stage)))} for stage in range(4)],
    }


def titles(picture: str) -> list[str]:
    return re.findall("<title>(.*?)</title>", picture)


def test_a_pass_stands_in_its_tick() -> None:
    drawn = titles(schedules.planned(told(8)))
    assert len(drawn) == 4 * 64
    # The first stage's first forward and last backward are the first and the last of 62 ticks.
    assert drawn[0] == "1: forward of microbatch 0, chunk 0"
    assert drawn[63] == "62: backward of microbatch 7, chunk 0"
    # The last stage begins three ticks later; its first loss is due in the 28th.
    last = drawn[3 * 64 :]
    assert last[0] == "4: forward of microbatch 0, chunk 0"
    assert last[24:26] == [
        "28: forward of microbatch 0, chunk 3",
        "28: backward of microbatch 0, chunk 3",
    ]


def test_the_logs_first_iteration_is_our_order_and_its_second_parts(log: Run) -> None:
    first, second = schedules.logged(log, told(8))
    assert "Iteration 1 of megatron" in first
    assert "all alike" in first
    assert 'class="k3 odd"' not in first
    assert titles(first)[:64] == titles(first)[64:128] == titles(first)[128:]
    assert "in which the log ends: they part at pass 33" in second
    # Two tensor-parallel ranks disagree: one of them goes on with a backward.
    assert second.count(' odd"') == 2
    assert "33: backward of microbatch 0, chunk 2" in second


def test_a_log_alone_is_held_against_its_first_rank(log: Run) -> None:
    first, second = schedules.logged(log)
    assert len(titles(first)) == 2 * 64
    assert "they part at pass 33" in second


def test_a_document_belongs_to_pipelines_of_its_shape(log: Run) -> None:
    found = schedules.shown(told(4), [log])
    assert found is not None
    assert found["documents"] == [log]
    assert len(found["pictures"]) == 3
    assert "they part at pass 5" in found["pictures"][1]  # group 4 is another order
    ranks = [[rank["parameters"] for rank in one["ranks"]] for one in found["stages"]]
    assert ranks == [[156577792] * 2, [100741120] * 2, [100741120] * 2, [152387584] * 2]
    other = schedules.shown(told(16, microbatches=16), [log])
    assert other is not None
    assert other["documents"] == []
    assert schedules.shown(None, [log]) is None


def test_arguments_that_tell_no_shape_and_orders_beyond_measure_are_not_drawn(
    log: Run, tmp_path: Path
) -> None:
    strange = {**log.record["case"]["config"], "global_batch_size": "many"}
    record = {**log.record, "case": {**log.record["case"], "config": strange}}
    assert schedules.shape_of(record) is None
    assert schedules.logged(Run(record, "page", tmp_path)) == []
    long = told(8)
    long["per_stage"][0]["order"] = "F0.0 " * 7000
    assert schedules.planned(long) == ""
