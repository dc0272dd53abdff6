"""Cases are read strictly: whatever is wrong is named in one line with what is allowed."""

import dataclasses
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from harness.cases import reading
from harness.cases.settings import Case
from harness.optimizers.adamw import Settings
from harness.terminal.errors import UserError
from models.decoder import ModelConfig
from models.examples import gpt2


def write(folder: Path, text: str) -> str:
    path = folder / "my_case.yaml"
    path.write_text(text)
    return str(path)


def test_cases_of_the_project() -> None:
    assert reading.case_names() == [
        "01_baseline",
        "03_dropout",
        "04_int8",
        "05_fp8",
        "07_checkpoint_async_false",
        "08_checkpoint_async_true",
        "20_honeycrisp",
        "21_honeycrisp_flash",
        "30_pipeline",
        "31_pipeline_bf16",
    ]


def test_tiny_replaces_dimensions_and_sequence_and_overrides_come_last() -> None:
    case = reading.load("03_dropout", "tiny", ["model.layers=3", "optim.learning_rate=1e-4"])
    assert (case.model.embed, case.model.layers, case.data.sequence_length) == (64, 3, 64)
    assert (case.model.dropout_rate, case.optim.learning_rate) == (0.1, 1e-4)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.embd=3", r"--set: model.embd: no such key \(nearest: model.embed\); known are "),
        ("bogus", r"--set bogus: must be of the form section.key=value"),
        ("model.embed=wide", r"--set: model.embed='wide': must be a whole number"),
        ("model.embed=2.5", r"--set: model.embed='2.5': must be a whole number"),
        ("model.embed=", r"--set: model.embed='': must be a whole number"),
        ("optim.learning_rate=nan", r"learning_rate='nan': must be a finite number"),
        ("run.allow_nonfinite=maybe", r"allow_nonfinite='maybe': must be true or false"),
        ("model.quantization=int4", r"'int4': must be one of none, int8, fp8"),
        ("data.sequence_length=0", r"--set: data.sequence_length=0: must be at least 1"),
        ("data.sequence_length=-4", r"--set: data.sequence_length=-4: must be at least 1"),
        ("model.kv_heads=3", r"model.heads=16: must be a multiple of kv_heads=3"),
        ("model.head_dim=15", r"--set: model.head_dim=15: must be even"),
        ("model.dropout_rate=1", r"model.dropout_rate=1.0: must lie in \[0, 1\)"),
        ("checkpoint.period=0", r"checkpoint.period=0: must be at least 1"),
        ("run.steps=0", r"run.steps=0: must be at least 1"),
        ("run.seed=-1", r"run.seed=-1: must lie in"),
    ],
)
def test_a_wrong_override_is_one_line(override: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        reading.load("01_baseline", "full", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model: [1, 2]", r"my_case.yaml: model: must be a mapping of keys, not \[1, 2\]"),
        ("- 1", r"my_case.yaml: must be a mapping"),
        ("model: {embed: 2, embed: 3}", r"'embed' is given twice"),
        ("model: {embed: true}", r"model.embed=True: must be a whole number"),
        ("model: {dropout_rate: .nan}", r"dropout_rate=nan: must be a finite number"),
        ("mdel: {embed: 2}", r"mdel.embed: no such key"),
        ("model: {head_dim: 15}", r"my_case.yaml: model.head_dim=15: must be even"),
        ("a: b: c", r"my_case.yaml: not readable as YAML"),
        ("\x00", r"my_case.yaml: not readable as YAML"),
        ("? [a]\n: 1", r"not readable as YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        reading.load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("optim.lr", "optim.learning_rate"),
        ("lr", "optim.learning_rate"),
        ("optim.beta2", "optim.b2"),
        ("train.max_steps", "run.steps"),
        ("data.batch_size", "data.per_device_batch"),
        ("data.seq_len", "data.sequence_length"),
        ("model.d_model", "model.embed"),
        ("parallel.tp", "parallel.tensor"),
    ],
)
def test_a_key_of_other_trainers_names_the_one_it_is_here(key: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"no such key \(nearest: {nearest}\); known are"):
        reading.load("01_baseline", overrides=[f"{key}=1"])


def test_an_unknown_case_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--case 03_drop: no such case \(nearest: 03_dropout\)"):
        reading.load("03_drop")


def test_numbers_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "optim: {learning_rate: 3e-5}\ndata: {global_batch: null}")
    case = reading.load(path)
    assert (case.optim.learning_rate, case.data.global_batch) == (3e-5, None)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert reading.load(write(tmp_path, "")) == Case("my_case", ModelConfig(), Settings())


@pytest.mark.parametrize("recipe", reading.RECIPES)
def test_the_decoder_takes_all_of_a_recipe(recipe: str) -> None:
    settings = reading.flatten(reading.load("01_baseline", recipe=recipe))
    assert reading.RECIPES[recipe].items() <= settings.items()


def test_other_twins_take_of_a_recipe_what_they_know() -> None:
    case = reading.load("03_dropout", "tiny", recipe="fast", twins="models.examples.gpt2")
    assert case.run.overlap_collectives
    assert case.run.state_layout == "compiler"


def test_a_recipe_uses_no_word_that_a_model_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class ModelConfig(gpt2.ModelConfig):
        attention: str = "dot"
        remat: bool = True
        unroll: bool = False

    module = types.ModuleType("other_words")
    vars(module).update({name: getattr(gpt2, name) for name in gpt2.__all__})
    monkeypatch.setattr(module, "ModelConfig", ModelConfig)
    monkeypatch.setitem(sys.modules, "other_words", module)
    for impl in ("linen", "nnx"):
        written = importlib.import_module(f"models.examples.gpt2.{impl}")
        monkeypatch.setitem(sys.modules, f"other_words.{impl}", written)
    model = reading.load("03_dropout", recipe="fast", twins="other_words").model
    assert (model.attention, model.remat, model.unroll) == ("dot", True, True)


def test_the_fast_recipe_takes_the_device_s_kernel_of_attention() -> None:
    assert reading.load("20_honeycrisp", recipe="fast").model.attention == "auto"
    assert reading.load("20_honeycrisp").model.attention == "xla"


def digest(*overrides: str, size: str = "tiny", recipe: str = "reference") -> str:
    return reading.case_hash(reading.load("01_baseline", "tiny", overrides), size, recipe)


def test_the_hash_is_of_the_experiment_alone() -> None:
    assert digest() == digest("run.steps=99", "checkpoint.period=3", "checkpoint.async=false")
    assert digest() == digest("checkpoint.directory=/elsewhere")
    others = [
        digest("model.embed=128"),
        digest("run.seed=1"),
        digest("data.global_batch=8"),
        digest(size="full"),
        digest(recipe="fast"),
    ]
    assert len({digest(), *others}) == 6


def test_the_hash_takes_tokens_by_content(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        np.save(tmp_path / f"{name}.npy", np.full((1, 65), value))
    a, b, c = (digest(f"data.tokens={tmp_path}/{name}.npy") for name in "abc")
    assert a == b != c


def test_flattened_keys_are_sorted_and_complete() -> None:
    flat = reading.flatten(reading.load("08_checkpoint_async_true"))
    assert list(flat) == sorted(flat)
    assert flat["checkpoint.async"] is True
    assert flat["checkpoint.period"] == 5
    assert "checkpoint.async: true\n" in reading.flat_text(reading.load("08_checkpoint_async_true"))
