from typing import Any

import pytest

from harness.cases import settings
from harness.cases.settings import Checkpoint, Data, Parallel, Run


@pytest.mark.parametrize(
    ("section", "field", "value", "allowed"),
    [
        (Data, "sequence_length", 0, "must be at least 1"),
        (Data, "per_device_batch", 0, "must be at least 1"),
        (Data, "global_batch", 0, "must be at least 1"),
        (Run, "steps", 0, "must be at least 1"),
        (Run, "seed", -1, "must lie in [0, 2**32)"),
        (Run, "seed", 2**32, "must lie in [0, 2**32)"),
        (Checkpoint, "period", 0, "must be at least 1"),
        (Checkpoint, "keep_last", 0, "must be at least 1"),
        (Checkpoint, "keep_every", -1, "must be at least 1"),
        (Parallel, "tensor", 0, "must be at least 1, or -1"),
        (Parallel, "tensor", -2, "must be at least 1, or -1"),
        (Parallel, "data", -1, None),
    ],
)
def test_a_setting_without_a_meaning_is_refused(
    section: Any, field: str, value: int, allowed: str | None
) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the whole text is compared)
        section(**{field: value})
    if allowed is not None:
        assert str(refused.value) == f"{field}={value}: {allowed}"
    else:
        assert str(refused.value) == "fsdp=-1: only one may be -1, and data is"


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    Data(global_batch=None), Run(seed=2**32 - 1), Checkpoint(period=1), Parallel(data=-1, fsdp=1)


def test_settings_that_came_later_are_told_only_at_other_values() -> None:
    assert settings.later_default("model.family") == "decoder"
    assert settings.later_default("parallel.fsdp") == -1
    assert settings.later_default("parallel.of_a_family") == 1
    assert settings.later_default("run.steps") is settings.NO_DEFAULT


def test_how_long_and_what_is_saved_make_no_other_experiment() -> None:
    free = ["run.steps", "checkpoint.period", "run.seed", "model.embed"]
    assert [settings.is_free(key) for key in free] == [True, True, False, False]


def test_the_sizes_that_are_given_make_the_fewest_devices() -> None:
    assert Parallel().fixed == 1
    assert Parallel(data=-1, fsdp=1, tensor=2, stage=4).fixed == 8
