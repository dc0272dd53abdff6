import pytest

from harness.published.pipeline_schedule import Event, Operation, Shape, check, last_stage, orders

# Two stages of two ranks each, so that ranks 2 and 3 are the last stage and peers.
SMALL = Shape(stages=2, chunks=2, microbatches=2, tensor_parallel=2, ranks_per_stage=2)


def operations(text: str) -> list[Operation]:
    directions = {"F": "forward", "B": "backward"}
    return [Operation(directions[word[0]], int(word[1:])) for word in text.split()]


def events(rank: int, text: str) -> list[Event]:
    return [
        Event(rank, operation, moment)
        for operation in operations(text)
        for moment in ("start", "finished")
    ]


def test_the_order_of_a_last_stage_worked_out_by_hand() -> None:
    assert last_stage(SMALL) == operations("F0 F1 F2 B0 F3 B1 B2 B3")
    deep = Shape(stages=2, chunks=1, microbatches=4, tensor_parallel=1, ranks_per_stage=1)
    assert last_stage(deep) == operations("F0 B0 F1 B1 F2 B2 F3 B3")


@pytest.mark.parametrize(("stages", "chunks", "microbatches"), [(4, 4, 8), (3, 2, 9), (1, 1, 5)])
def test_every_pass_happens_once_and_a_backward_after_its_forward(
    stages: int, chunks: int, microbatches: int
) -> None:
    shape = Shape(stages, chunks, microbatches, tensor_parallel=1, ranks_per_stage=1)
    order = last_stage(shape)
    total = chunks * microbatches
    for direction in ("forward", "backward"):
        tensors = [one.tensor for one in order if one.direction == direction]
        assert sorted(tensors) == list(range(total))
    place = {one: number for number, one in enumerate(order)}
    for microbatch in range(microbatches):
        for chunk in range(chunks):
            forward = Operation("forward", shape.tensor(microbatch, chunk))
            backward = Operation("backward", shape.tensor(microbatch, chunks - 1 - chunk))
            assert place[forward] < place[backward]


def test_ranks_that_follow_the_schedule() -> None:
    happened = events(2, "F0 F1 F2 B0 F3 B1 B2 B3") + events(3, "F0 F1 F2 B0 F3 B1 B2 B3")
    found = check(SMALL, happened, complete=True)
    assert (found.events, found.checked, found.mismatches) == (32, 32, 0)
    assert found.first_mismatch is None
    assert found.disagreement is None


def test_peers_that_part_are_named_with_what_the_schedule_has() -> None:
    happened = events(2, "F0 F1 F2 B0 F3") + events(3, "F0 F1 F2 B0 B1")
    found = check(SMALL, happened, complete=False)
    assert found.mismatches == 2
    assert found.first_mismatch == (
        "event 9 of rank 3 is backward 1 start, the schedule has forward 3 start"
    )
    assert found.disagreement == (
        "operation 5: rank 2 runs forward 3, its tensor-parallel peer rank 3 runs backward 1; "
        "the schedule has forward 3"
    )


def test_what_is_missing_counts_only_when_the_iteration_is_over() -> None:
    happened = events(2, "F0 F1")
    assert check(SMALL, happened, complete=False).mismatches == 0
    found = check(SMALL, happened, complete=True)
    assert found.mismatches == 12
    assert found.first_mismatch == (
        "event 5 of rank 2 is nothing, the schedule has forward 2 start"
    )


def test_other_stages_are_compared_with_their_peers_only() -> None:
    happened = events(0, "F1 F0") + events(1, "F0 F1")
    found = check(SMALL, happened, complete=True)
    assert (found.events, found.checked, found.mismatches) == (8, 0, 0)
    assert found.disagreement == (
        "operation 1: rank 0 runs forward 1, its tensor-parallel peer rank 1 runs forward 0"
    )


def test_orders_are_of_starts() -> None:
    assert orders(events(3, "F0 B0") + events(2, "F1")) == {
        2: operations("F1"),
        3: operations("F0 B0"),
    }
