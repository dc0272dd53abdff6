"""Whether two runs are one experiment, and what differs around them."""

from typing import Any

import pytest
from compared_records import changed, imported, make

from harness.comparing import comparison, comparison_text
from harness.terminal.errors import UserError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("case.config.model.embed", 128),
        ("recipe", "fast"),
        ("size", "tiny"),
        ("environment.device_kind", "TPU v5 lite"),
        ("environment.device_count", 8),
        ("status", "failed"),
    ],
)
def test_a_severe_difference_is_named_and_can_be_the_point(key: str, value: Any) -> None:
    other = changed(key, value)
    if key in ("case.config.model.embed", "recipe", "size"):
        other["case"]["hash"] = "e" * 64
    found = comparison.compare([make()], [other])
    assert not found.comparable
    assert not found.verdicts
    (difference,) = found.differences
    assert (difference.key, difference.severity) == (key, "severe")
    assert key in comparison_text.terminal(found)
    meant = comparison.compare([make()], [other], across=[key])
    assert meant.comparable
    assert meant.differences[0].severity == "intended"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("environment.jax", "0.9.2"),
        ("environment.xla_flags", "--xla_flag"),
        ("environment.git_dirty", True),
        ("environment.git_commit", "2" * 40),
        ("environment.hostname", "host-1"),
        ("environment.libtpu", None),
        ("init", "native"),
        ("model.attention", "xla"),
        ("case.config.checkpoint.async", False),
    ],
)
def test_a_mild_difference_is_listed(key: str, value: Any) -> None:
    found = comparison.compare([make()], [changed(key, value)])
    assert found.comparable
    assert [(one.key, one.severity) for one in found.differences] == [(key, "mild")]
    assert key in comparison_text.terminal(found)
    meant = comparison.compare([make()], [changed(key, value)], across=[key])
    assert meant.differences[0].severity == "intended"


def test_settings_that_differ_are_named_one_by_one() -> None:
    other = changed("case.config.model.embed", 128)
    other["case"]["config"]["model.dropout_rate"] = 0.0
    other["case"]["hash"] = "e" * 64
    key = "case.config.model.embed"
    found = comparison.compare([make()], [other], across=[key])
    assert not found.comparable
    assert {(one.key, one.severity) for one in found.differences} == {
        (key, "intended"),
        ("case.config.model.dropout_rate", "severe"),
    }


def test_other_tokens_under_one_name_are_another_experiment() -> None:
    found = comparison.compare([make()], [changed("case.hash", "e" * 64)])
    assert [one.key for one in found.differences] == ["case.hash"]
    assert not found.comparable


def test_a_hash_that_its_settings_belie_is_told() -> None:
    found = comparison.compare([make()], [changed("case.config.model.embed", 128)])
    assert not found.comparable
    assert "changed by hand" in comparison_text.terminal(found)


def test_what_is_not_comparable_says_so_first_and_other_models_before_all_else() -> None:
    other = changed("environment.jax", "0.9.2") | {"size": "tiny"}
    other["case"]["hash"] = "e" * 64
    other["case"]["config"] |= {"model.embed": 128, "twins": "mine.twins", "data.tokens": "x"}
    found = comparison.compare([make()], [other])
    lines = comparison_text.terminal(found).splitlines()
    assert lines[3] == "not comparable:"
    assert lines[4] == "  case.config.twins: the project's own -> mine.twins"
    assert lines[5] == "  size: full -> tiny"
    assert lines.index("differs: environment.jax: 0.10.2 -> 0.9.2") > 6
    assert not any("ratio" in line for line in lines)
    page = comparison_text.markdown(found)
    assert "ratio" not in page
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {4}


def test_a_run_that_kept_the_batch_of_more_devices_is_another_experiment() -> None:
    a, b = make(), make()
    a["case"] |= {"global_batch": 32, "schedule_steps": 33}
    b["case"] |= {"global_batch": 64, "schedule_steps": 20}
    found = comparison.compare([a], [b])
    told = [(one.key, one.severity) for one in found.differences]
    assert told == [("case.global_batch", "severe"), ("case.schedule_steps", "mild")]
    assert comparison.compare([a], [b], across=["case.global_batch"]).comparable
    b["environment"]["device_count"] = 64
    (difference,) = comparison.compare([a], [b]).differences[:1]
    assert difference.key == "environment.device_count"


def test_a_tpu_by_its_other_name_is_the_same_device() -> None:
    assert comparison.compare([make()], [changed("environment.device_kind", "TPU v6e")]).comparable


def test_a_run_that_failed_says_why() -> None:
    other = changed("status", "failed") | {"error": "step 3: loss is nan"}
    shown = comparison_text.terminal(comparison.compare([make()], [other]))
    assert "status: completed -> failed (B: step 3: loss is nan)" in shown
    assert "if that is the point of the comparison: --across status" in shown


@pytest.mark.parametrize("key", ["environment.jaks", "case.config.model.embet", "no", "", "case"])
def test_an_unknown_key_is_refused_with_the_nearest(key: str) -> None:
    with pytest.raises(UserError, match=r"^--across '.*': no such key \(nearest: .+\)$") as caught:
        comparison.compare([make()], [make()], across=[key])
    if key.startswith(("env", "case.config")):
        assert key[:-2] in str(caught.value).partition("nearest")[2]


def test_a_log_is_not_known_to_be_the_same_experiment() -> None:
    found = comparison.compare([make()], [imported()])
    assert not found.comparable
    (severe,) = (one for one in found.differences if one.severity == "severe")
    assert severe.key == "case.hash"
    assert "not known to be the same experiment: B has none" in severe.words


def test_what_one_record_does_not_tell_of_its_environment_is_unknown() -> None:
    """As older records and those of others' runs do not tell the mesh."""
    told = make(1)
    told["environment"]["mesh"] = {"fsdp": 8}
    for a, b, side in ((told, make(1), "B"), (make(1), told, "A")):
        compared = comparison.compare([a], [b])
        (found,) = (one for one in compared.differences if one.key == "environment.mesh")
        assert (found.severity, found.unknown) == ("mild", side)
        assert comparison.compare([a], [b], ["environment.mesh"]).comparable
