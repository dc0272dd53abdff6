"""Whether two runs are one experiment, and what differs around them."""

from typing import Any

import pytest
from compared_records import changed, imported, make

from harness.comparing import comparison, comparison_text
from harness.errors import UserError


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


def test_a_tpu_by_its_other_name_is_the_same_device() -> None:
    assert comparison.compare([make()], [changed("environment.device_kind", "TPU v6e")]).comparable


def test_a_run_that_failed_says_why() -> None:
    other = changed("status", "failed") | {"error": "step 3: loss is nan"}
    shown = comparison_text.terminal(comparison.compare([make()], [other]))
    assert "status: completed -> failed (B: step 3: loss is nan)" in shown
    assert shown.endswith("if that is the point of the comparison: --across status")


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
