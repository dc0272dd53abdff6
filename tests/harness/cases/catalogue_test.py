"""What is told of settings is what their dataclasses hold."""

import pytest

from harness.cases import catalogue, families, reading
from harness.cases.catalogue import Setting


@pytest.fixture(scope="module")
def settings() -> dict[tuple[str, str], Setting]:
    """By section and key."""
    sections = catalogue.catalogue(None)
    return {(section.title, one.key): one for section in sections for one in section.settings}


def test_every_setting_of_every_case_is_there_and_has_a_meaning(
    settings: dict[tuple[str, str], Setting],
) -> None:
    keys = {key for _, key in settings}
    for name in reading.case_names():
        assert {*reading.flatten(reading.load(name))} <= keys, name
    without = [key for key, one in settings.items() if not (one.meaning and one.allowed)]
    assert not without


@pytest.mark.parametrize(
    ("key", "default", "allowed"),
    [
        (("data", "data.segments"), "null", "a whole number (at least 1) or null"),
        (("checkpoint", "checkpoint.async"), "true", "true or false"),
        (("model", "model.family"), "decoder", f"one of {', '.join(families.names())}"),
        (("model, decoder", "model.dropout_rate"), "0.0", "a finite number (in [0, 1))"),
        (("model, decoder", "model.quantization"), "none", "one of none, int8, fp8"),
        (("optim, adamw", "optim.epsilon"), "1e-08", "a finite number (positive)"),
        (("parallel", "parallel.fsdp"), "-1", "a whole number (at least 1, or -1)"),
        (("run", "run.seed"), "0", "a whole number (in [0, 2**32))"),
    ],
)
def test_defaults_and_limits_are_those_of_the_dataclasses(
    settings: dict[tuple[str, str], Setting], key: tuple[str, str], default: str, allowed: str
) -> None:
    assert settings[key][1:3] == (default, allowed)


def test_a_model_of_others_is_told_as_far_as_it_tells_itself() -> None:
    sections = {one.title: one for one in catalogue.catalogue("models.examples.own.cnn")}
    model = sections["model, models.examples.own.cnn"]
    assert (model.meaning, model.settings) == (
        "",
        [Setting("model.width", "32", "a whole number", "")],
    )
    assert "model" not in sections
