import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from harness.cases import families, reading
from harness.terminal.errors import UserError
from harness.training.parallel import mesh
from models.seam import USUAL_NAMES
from models.shared.partitioning import among, axis_rules
from models.shared.trees import named_leaves


def test_the_projects_families_are_the_folders_of_models() -> None:
    assert "decoder" in families.names()
    assert not {"examples", "shared"} & set(families.names())
    assert families.load(None).name == "models.decoder"
    assert families.load(None) is families.load(None)


def test_a_case_tells_its_family() -> None:
    assert families.of(reading.load("01_baseline")).name == "models.decoder"
    gpt2 = "models.examples.gpt2"
    assert families.of(reading.load("03_dropout", twins=gpt2)).name == gpt2


@pytest.mark.parametrize(
    ("twins", "told"),
    [
        ("models.no_such", "'models' is the project's own package, which has no 'no_such'"),
        ("harness.no.such", "'harness' is the project's own package, which has no 'no.such'"),
        ("nowhere_to_be_found", "nowhere_to_be_found: is not there"),
        ("folder/mine.py", "must be a module's name, without .py: folder.mine"),
    ],
)
def test_what_is_no_family_is_refused(twins: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^--twins .*{told}"):
        families.load(twins)


def test_a_module_that_is_nearly_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_pair.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--twins mypair: is not there: .* \(nearest: my_pair\)"):
        families.load("mypair")


def test_each_fault_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_a_family.py").write_text("IMPLEMENTATIONS = ('one',)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError) as refused:
        families.load("half_a_family")
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("--twins half_a_family: has no ModelConfig")
    assert lines[1].startswith("error: --twins half_a_family: IMPLEMENTATIONS=('one',)")


def test_implementations_are_chosen_by_name() -> None:
    family = families.load(None)
    assert families.chosen(family, "both") == ("linen", "nnx")
    assert families.chosen(family, "nnx") == ("nnx",)
    with pytest.raises(UserError, match=r"invalid choice: 'flux' \(choose from 'linen', 'nnx', "):
        families.chosen(family, "flux")


def test_an_implementation_that_a_family_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="flux"):
        families.load(None).get("flux")


@pytest.mark.parametrize("name", families.names())
def test_every_small_size_names_what_makes_a_model_small(name: str) -> None:
    family = families.load(None, name)
    assert [*family.sizes] == ["full", "tiny", "awkward"]
    assert family.sizes["full"] == {}
    assert family.sizes["tiny"].keys() | {"data.sequence_length"} == family.sizes["awkward"].keys()


@pytest.mark.parametrize("name", families.names())
def test_an_evaluation_drops_nothing_and_computes_nothing_again(name: str) -> None:
    family = families.load(None, name)
    config = family.config()
    fields = [one.name for one in dataclasses.fields(config) if "dropout" in one.name]
    training = dataclasses.replace(config, **dict.fromkeys(fields, 0.5), remat="full")
    evaluated = family.evaluated(training)
    assert evaluated == dataclasses.replace(config, **dict.fromkeys(fields, 0.0), remat="none")


@pytest.mark.parametrize("name", families.names())
def test_every_parameter_belongs_to_a_part(name: str) -> None:
    family = families.load(None, name)
    model = family.resolve(family.config(), "cpu", 2048)
    axes = family.get("linen").logical_axes(model)
    paths = named_leaves(axes, is_leaf=lambda one: isinstance(one, tuple))
    known = {word: part for part, words in (family.parts or {}).items() for word in words}
    parts = {path: {known[word] for word in path.split("/") if word in known} for path in paths}
    assert not [path for path, found in parts.items() if not found]
    assert set().union(*parts.values()) >= {"attention", "mlp", "norm", "embedding"}
    dropped = {"dropout"} if any("dropout" in one for one in vars(model)) else set()
    assert {*known.values()} == {"attention", "mlp", "norm", "embedding", "head"} | dropped


def tiny(name: str, **settings: Any) -> Any:
    """The small size of a family, which drops nothing."""
    family = families.load(None, name)
    config = family.config(**{key: n for key, n in family.sizes["tiny"].items() if "." not in key})
    still = {one: 0.0 for one in vars(config) if "dropout" in one}
    return dataclasses.replace(config, **still, **settings)


@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize("name", families.names())
def test_parameters_are_made_without_any_kernel_of_attention(name: str, impl: str) -> None:
    family = families.load(None, name)
    init, made = family.get(impl).init, []
    for attention, platform in (("splash", "tpu"), ("xla", "cpu")):
        model = family.resolve(tiny(name, attention=attention), platform, 8)
        made.append(jax.eval_shape(partial(init, model, jax.random.key(0))))
    assert made[0] == made[1]


@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize("name", families.names())
def test_what_enters_the_layers_is_divided_as_the_batch_is(name: str, impl: str) -> None:
    family, key = families.load(None, name), jax.random.key(0)
    model, implementation = family.resolve(tiny(name), "cpu", 8), family.get(impl)
    params = jax.eval_shape(partial(implementation.init, model, key))
    tokens = jnp.ones((2, 8), jnp.int32)
    grid = jax.make_mesh((2,), ("fsdp",), (AxisType.Auto,))
    whole = {**mesh.RULES, **family.rules}
    rules = {axis: among(over, ["fsdp"]) for axis, over in whole.items()}
    with jax.set_mesh(grid), axis_rules(rules):
        traced = jax.make_jaxpr(lambda p: implementation.apply(model, p, tokens, key))(params)
    held = [one for one in traced.eqns if one.primitive.name == "sharding_constraint"]
    assert PartitionSpec("fsdp", None, None) in [one.params["sharding"].spec for one in held]
