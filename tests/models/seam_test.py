"""What a module must have to be a family, and what is said where it has not."""

from pathlib import Path

import pytest

from models import seam
from models.seam import SeamError

WHOLE = """
from dataclasses import dataclass
@dataclass(frozen=True)
class ModelConfig:
    vocab: int = 8
class linen:
    def init(config, key): ...
    def apply(config, params, tokens, key): ...
    def logical_axes(config): ...
nnx = linen
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of which the test says the text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"family_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(request.param)
    return name


def faults(name: str) -> list[str]:
    with pytest.raises(SeamError) as refused:
        seam.load(name)
    assert str(refused.value) == "\n".join(refused.value.faults)
    return [fault.replace(name, "M") for fault in refused.value.faults]


@pytest.mark.parametrize(
    "module",
    [
        WHOLE
        + "SIZES = {'tiny': {'vocab': 4}}\nmetrics = ('own',)\nIMPLEMENTATIONS = 'linen', 'nnx'\n"
    ],
    indirect=True,
)
def test_a_whole_module_is_a_family_with_its_options(module: str) -> None:
    family = seam.load(module)
    assert (family.name, family.names) == (module, ("linen", "nnx"))
    assert family.config().vocab == 8
    assert family.sizes == {"tiny": {"vocab": 4}}
    assert family.metrics == ("own",)
    assert family.get("linen") is family.get("linen")
    assert family.loss is family.optimizer is family.module is None
    assert family.quantization("config") == "none"
    assert family.resolve("config", "tpu", 8) == "config"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("", "M: has no ModelConfig, the dataclass that --set model.* sets"),
        ("ModelConfig = 3", "M.ModelConfig: is not a dataclass"),
        (WHOLE.replace("(frozen=True)", ""), "M.ModelConfig: is not frozen"),
        (WHOLE.replace("vocab", "words"), "M.ModelConfig: has no vocab"),
        (WHOLE.replace("int = 8", "int"), "M.ModelConfig: no default for vocab"),
        (WHOLE + "SIZES = {'tiny': {'no': 4}}", "M.SIZES['tiny']: no: not in ModelConfig"),
        (WHOLE + "IMPLEMENTATIONS = ('one',)", "M: IMPLEMENTATIONS=('one',): must be two names"),
        (WHOLE.replace("nnx =", "other ="), "M: no implementation 'nnx': M.nnx is not there"),
        (WHOLE.replace("def apply", "def call"), "M.linen: has no apply(config, params, tokens, "),
        (
            WHOLE.replace("init(config, key)", "init(config)"),
            "M.linen: init(config) cannot be called as init(config, key)",
        ),
        ("1 / 0", "M: does not import: ZeroDivisionError: division by zero (M.py:1)"),
        ("import no_such_library", "M: does not import: ModuleNotFoundError: No module named"),
    ],
    indirect=["module"],
)
def test_what_is_missing_is_told(module: str, told: str) -> None:
    assert any(fault.startswith(told) for fault in faults(module)), faults(module)


def test_a_module_that_is_not_there_is_told() -> None:
    assert faults("no_such_family") == ["M: is not there: neither in this folder nor installed"]


@pytest.mark.parametrize(
    "module", [WHOLE.replace("vocab", "words") + "def batch(*_): ...\n"], indirect=True
)
def test_a_family_that_makes_its_batch_needs_no_vocabulary(module: str) -> None:
    assert seam.load(module).batch is not None


@pytest.mark.parametrize("module", [WHOLE.replace("nnx =", "other =")], indirect=True)
def test_unchecked_an_implementation_is_looked_for_when_it_is_asked_for(module: str) -> None:
    family = seam.load(module, check=False)
    family.get("linen")
    with pytest.raises(SeamError, match="no implementation 'nnx'"):
        family.get("nnx")
