import pytest

from harness.terminal.errors import UserError
from harness.training.parallel.schedule import Event, Schedule, Ticks

PUBLISHED = Schedule(stages=4, repeats=4, microbatches=8, group=8)
# What ranks 6 and 7 of Megatron's log began in iteration 1, by its numbers: microbatches in fours,
# the chunk of a backward counted from the end.
LOGGED = """
    F0 F1 F2 F3 F16 F17 F18 F19 F4 F5 F6 F7 F20 F21 F22 F23 F8 F9 F10 F11 F24 F25 F26 F27
    F12 B0 F13 B1 F14 B2 F15 B3 F28 B16 F29 B17 F30 B18 F31 B19
    B4 B5 B6 B7 B20 B21 B22 B23 B8 B9 B10 B11 B24 B25 B26 B27 B12 B13 B14 B15 B28 B29 B30 B31
"""
SHAPES = [
    (4, 4, 8, 8),
    (4, 4, 8, 4),
    (4, 2, 8, 4),
    (2, 4, 8, 4),
    (1, 8, 8, 4),
    (4, 1, 8, 4),
    (3, 2, 12, 6),
]


def logged(event: Event) -> str:
    chunk = event.chunk if event.direction == "forward" else PUBLISHED.repeats - 1 - event.chunk
    number = 16 * (event.microbatch // 4) + 4 * chunk + event.microbatch % 4
    return f"{event.direction[0].upper()}{number}"


def test_the_last_stage_does_what_the_published_log_says() -> None:
    assert [logged(event) for event in PUBLISHED.order(3)] == LOGGED.split()


@pytest.mark.parametrize("stage", range(4))
def test_every_stage_warms_up_then_alternates_then_ends_backwards(stage: int) -> None:
    order = [event.direction for event in PUBLISHED.order(stage)]
    warm = 24 + 2 * (3 - stage)
    both = ["forward", "backward"] * (32 - warm)
    assert order == ["forward"] * warm + both + ["backward"] * warm


def test_sizes_of_the_published_pipeline_and_of_smaller_groups() -> None:
    assert PUBLISHED.ticks == Ticks(27, 8, 27)
    assert PUBLISHED.bubble_percent == pytest.approx(100 * 3 / 35)
    assert [PUBLISHED.inputs_kept(stage) for stage in range(4)] == [31, 29, 27, 25]
    few = Schedule(stages=4, repeats=4, microbatches=8, group=4)
    assert few.ticks == Ticks(15, 20, 15)
    assert [few.inputs_kept(stage) for stage in range(4)] == [19, 17, 15, 13]
    assert " ".join(map(str, few.order(3)[12:18])) == "F0.3 B0.3 F1.3 B1.3 F2.3 B2.3"


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pass_finds_what_it_takes_where_the_table_says(shape: tuple[int, ...]) -> None:
    schedule = Schedule(*shape)
    stages, last = schedule.stages, schedule.stages * schedule.repeats - 1
    forward, backward = schedule.passes("forward"), schedule.passes("backward")
    losses = schedule.losses()
    # By stage and place: of which microbatch and layer an input, or an output's gradient, it is.
    inputs: dict[tuple[int, int], tuple[int, int]] = {}
    gradients: dict[tuple[int, int], tuple[int, int]] = {}
    order: dict[int, list[str]] = {stage: [] for stage in range(stages)}
    for tick in range(sum(schedule.ticks)):
        sent = []
        for stage in range(stages):
            at = tick, stage
            if forward.runs[at]:
                microbatch, chunk = int(forward.microbatch[at]), int(forward.chunk[at])
                layer = chunk * stages + stage
                order[stage].append(f"F{microbatch}.{chunk}")
                assert layer == 0 or inputs[stage, forward.input[at]] == (microbatch, layer)
                assert layer < last or losses[tick] == microbatch
                taker = (stage + 1) % stages
                place = taker, int(forward.arrives[tick, taker])
                sent.append((inputs, place, (microbatch, layer + 1)))
            if backward.runs[at]:
                microbatch, chunk = int(backward.microbatch[at]), int(backward.chunk[at])
                layer = chunk * stages + stage
                order[stage].append(f"B{microbatch}.{chunk}")
                assert layer == 0 or inputs[stage, backward.input[at]] == (microbatch, layer)
                if layer == last:
                    assert losses[tick] == microbatch
                else:
                    assert gradients[stage, backward.gradient[at]] == (microbatch, layer)
                taker = (stage - 1) % stages
                place = taker, int(backward.arrives[tick, taker])
                sent.append((gradients, place, (microbatch, layer - 1)))
        for kind, place, what in sent:
            kind[place] = what
    for stage, ran in order.items():
        assert ran == [str(event) for event in schedule.order(stage)]
        assert len(set(ran)) == 2 * schedule.microbatches * schedule.repeats


def test_places_hold_what_waits_and_one_thing_more() -> None:
    """Fewer would not do: as much waits at once; of the first chunk's inputs none does."""
    assert PUBLISHED.places("forward") == 29 + 1
    assert Schedule(4, 4, 8, 4).places("forward") == 17 + 1
    assert Schedule(4, 4, 8, 4).places("backward") == 1 + 1


@pytest.mark.parametrize(("group", "microbatches"), [(2, 8), (6, 8), (16, 8), (4, 10)])
def test_groups_that_cannot_run_are_refused_in_one_line(group: int, microbatches: int) -> None:
    with pytest.raises(UserError) as refused:
        Schedule(stages=4, repeats=2, microbatches=microbatches, group=group)
    assert str(refused.value) == (
        f"pipeline.group={group}: must be at least 4, the number of stages, and divide"
        f" {microbatches}, the number of microbatches"
    )
