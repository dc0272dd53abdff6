"""Pairs as users write them: what is trained is compared, and what is not is said."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import small_pairs
from flax import nnx
from small_pairs import module, pair

from harness import run
from harness.cases import families, reading
from harness.saving import digest
from harness.terminal.errors import UserError
from harness.training import checking, devices, train_step
from harness.training.parallel import mesh
from models.pair import Pair
from models.seam import OWN, REPLACED
from models.shared.trees import named_leaves

SETTINGS = ("data.global_batch=8", "optim.learning_rate=0.01")


def trained(
    twins: str, impl: str, devices: int = 1, steps: int = 3
) -> tuple[list[dict[str, float]], Any]:
    """The metrics of some steps, and the state after them."""
    case = reading.load(reading.PAIR_CASE, "tiny", SETTINGS, twins=twins)
    grid = mesh.make(case, jax.devices()[:devices])
    trainer = train_step.make_trainer(case, impl, grid)
    step = programs.step_of(trainer)
    inputs = train_step.make_inputs(case, grid)
    state = programs.fresh_state(trainer, inputs.seed)
    metrics = []
    for _ in range(steps):
        state, found = step(state, inputs)
        metrics.append({name: float(one) for name, one in found.items()})
    return metrics, state


def shared(state: Any) -> dict[str, str]:
    """The digests of all that both sides have."""
    found = digest.array_digests(state)
    return {name: one for name, one in found.items() if f"/{OWN}/" not in name}


def differing(name: str, **changed: Any) -> tuple[set[str], bool, tuple[str, ...]]:
    """Which arrays end otherwise, whether the losses do, and what is found beforehand."""
    twins = module(name, pair(**changed))
    (linen, first), (nnx, second) = (trained(twins, impl) for impl in ("linen", "nnx"))
    ours, theirs = shared(first), shared(second)
    assert ours.keys() == theirs.keys()
    matched = families.load(twins).matched
    assert matched is not None
    found = {path for path in ours if ours[path] != theirs[path]}
    return found, linen != nnx, matched().differing


@pytest.mark.pairs
def test_equal_models_are_equal_bit_for_bit_with_their_state() -> None:
    assert differing("sound") == (set(), False, ())


def test_another_momentum_of_a_running_mean() -> None:
    arrays, losses, found = differing("momentum", momentum=0.99)
    mean, var = (f"batch_stats/BatchNorm_0/{name}" for name in ("mean", "var"))
    assert {f"model_state/state/{mean}", f"model_state/state/{var}"} == arrays
    assert not losses  # the running mean takes no part in them
    assert {line.partition(":")[0] for line in found} == {mean, var}
    matched = families.load("momentum").matched
    assert matched is not None
    assert matched().alone == ()
    assert matched().uncompared == (
        "optimizers of their own, and what these freeze: one trains both, the case's, as the pair"
        " gives none",
        "how they are evaluated (linen draws random numbers and nnx draws random numbers, and there"
        " is no evaluation=)",
        "nnx's random state (rngs/default/count and 1 more)",
    )


def test_a_difference_that_learning_allows_is_told() -> None:
    matched = families.load(module("slight", pair(epsilon=1.02e-5))).matched
    assert matched is not None
    (line,) = matched().unsure
    assert line.endswith("rounding or a fault, harness bisect tells which")


@pytest.mark.pairs
def test_a_check_judges_a_difference_that_learning_allows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "prepare_cpus", lambda count: jax.devices()[:count])
    assert run.main(["--twins", module("judged", pair(epsilon=1.02e-5)), "--check"]) == 1
    _, _, told = capsys.readouterr().out.partition("step, tiny: different: of ")
    assert "BatchNorm_0" in told


@pytest.mark.pairs
def test_what_is_evaluated_otherwise_fails_a_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "prepare_cpus", lambda count: jax.devices()[:count])
    used = {"linen": small_pairs.of_linen(), "nnx": small_pairs.of_nnx(weight=0.2)}
    assert run.main(["--twins", module("otherwise_used", pair(evaluation=used)), "--check"]) == 1
    told = capsys.readouterr().out
    assert "differs: linen and nnx are evaluated otherwise: the loss, " in told
    assert "step, tiny: no difference" in told


@pytest.mark.pairs
def test_another_weight_of_what_is_sown() -> None:
    arrays, losses, found = differing("weight", weight=0.2)
    assert losses
    assert "params/Dense_0/kernel" in arrays
    assert any(line.startswith("BatchNorm_0/scale: linen and nnx make another") for line in found)


@pytest.mark.pairs
def test_a_rate_that_is_lost_on_one_side() -> None:
    _, losses, found = differing("rate", both={"rate": 0.5}, rate=0.0)
    assert losses
    assert any("make another gradient" in line for line in found)


@pytest.mark.pairs
def test_what_one_side_alone_has_is_its_own_and_goes_on() -> None:
    twins = module("own", pair())
    _, state = trained(twins, "nnx", steps=2)
    own = named_leaves(state["model_state"][OWN])
    assert own["random/rngs/default/count"] > 0
    _, later = trained(twins, "nnx", steps=3)
    assert (
        named_leaves(later["model_state"][OWN])["random/rngs/default/count"]
        > own["random/rngs/default/count"]
    )
    assert OWN not in trained(twins, "linen", steps=1)[1]["model_state"]


class Fp8(nn.Module):
    """A layer whose scales and history a step replaces by their gradients."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.tanh(nn.Dense(6, dot_general_cls=nn.Fp8DirectDotGeneralOp)(x))
        return nn.Dense(1)(x)[:, 0]


def carried_over(rngs: nnx.Rngs) -> nnx.Module:
    made: nnx.Module = nnx.bridge.ToNNX(Fp8(), rngs=rngs).lazy_init(jnp.ones((2, 4)))
    return made


@pytest.mark.pairs
def test_what_a_gradient_replaces_is_trained_on_and_compared() -> None:
    twins = module("fp8", Pair(linen=Fp8(), nnx=carried_over, batch=small_pairs.batch,
                               loss=small_pairs.error))  # fmt: skip
    (ours, first), (theirs, second) = (trained(twins, impl) for impl in ("linen", "nnx"))
    assert ours == theirs
    assert shared(first) == shared(second)
    _, before = trained(twins, "nnx", steps=1)
    later, earlier = (named_leaves(one["model_state"][REPLACED]) for one in (second, before))
    moved = {path.rpartition("/")[2] for path in later if (later[path] != earlier[path]).any()}
    assert moved == {f"{one}_amax_history" for one in ("input", "kernel", "output_grad")} | {
        f"{one}_scale" for one in ("input", "kernel", "output_grad")
    }
    assert not any("amax" in path for path in named_leaves(first["params"]))


@pytest.mark.pairs
def test_frozen_parameters_are_state() -> None:
    twins = module("frozen", pair(trained="Dense_1"))
    _, state = trained(twins, "nnx")
    assert set(named_leaves(state["params"])) == {"Dense_1/kernel", "Dense_1/bias"}
    assert set(named_leaves(state["opt_state"])) > {"0/mu/Dense_1/kernel"}
    fresh = trained(twins, "linen", steps=1)[1]["model_state"]["frozen"]
    kernel = state["model_state"]["frozen"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, fresh["Dense_0"]["kernel"])


@pytest.mark.pairs
def test_on_several_devices_the_batch_alone_is_divided() -> None:
    twins = module("divided", pair())
    case = reading.load(reading.PAIR_CASE, "tiny", SETTINGS, twins=twins)
    grid = mesh.make(case, jax.devices()[:2])
    trainer = train_step.make_trainer(case, "nnx", grid)
    kernel = trainer.state["params"]["Dense_0"]["kernel"]  # [4, 6]: 6 is the longer one
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "fsdp")
    text = train_step.trace_step(trainer).lower().compile().as_text()
    assert "f32[4,4]" in text  # half of eight examples
    assert "f32[8,3]" not in text  # of all examples, half of the features
    assert "f32[8,6]" not in text
    one, two = (trained(twins, "nnx", devices)[0] for devices in (1, 2))
    np.testing.assert_allclose([m["loss"] for m in one], [m["loss"] for m in two], rtol=1e-5)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"linen": None}, "must have two sides, linen= and nnx=, or sides={name: ...}; has nnx"),
    ({"sides": {"c": small_pairs.Linen()}}, "must have two sides"),
    ({"nnx": None, "sides": {"1": small_pairs.Linen()}}, "sides: the name '1' must be letters"),
    ({"linen": small_pairs.Linen}, "linen: is the class Linen; give a module, Linen(...)"),
    ({"linen": 3}, "linen: is a int; must be a linen.Module, what makes an nnx.Module of rngs"),
    ({"nnx": small_pairs.Linen()}, "nnx: is a linen.Module; must be what makes an nnx.Module"),
    ({"linen": lambda rngs: 1}, "linen: takes rngs, as what makes an nnx.Module does"),
    ({"nnx": lambda rngs: 3}, "nnx: makes a int; must make an nnx.Module"),
    ({"nnx": lambda rngs: 1 / 0}, "nnx does not run: ZeroDivisionError: division by zero"),
    ({"nnx": lambda rngs: nnx.Dropout(0.5)}, " (small_pairs.py:"),  # the line of one's own
    ({"batch": 3}, "batch is a int; must be a function of rng and size"),
    ({"batch": lambda rng, size: [1]}, "batch returns a list; must be a dict of arrays by name"),
    ({"batch": lambda rng, size: {"x": "a"}}, "batch: 'x' is not an array of numbers"),
    (
        {"batch": lambda rng, size: {"x": rng.random((3, 4))}},
        "batch: 'x' is [3, 4]; must have 5 examples along axis 0",
    ),
    ({"batch": lambda rng: {}}, "batch does not run: TypeError"),
    ({"loss": 3}, "loss is a int; must be a function of model and batch"),
    ({"loss": {"linen": small_pairs.error}}, "loss is for linen; must be for linen and nnx"),
    ({"loss": lambda model: 0}, "must take model and batch, and a key if it wants"),
    ({"loss": lambda model, batch: model(batch["x"])}, "loss makes the loss a float32[5]"),
    ({"loss": lambda model, batch: 3}, "loss makes the loss a int; must be a scalar"),
    ({"loss": lambda model, batch: (model(batch["x"]).sum(), 3)}, "must be metrics by name"),
    (
        {"loss": lambda model, batch: (model(batch["x"]).sum(), {"loss": batch["y"].sum()})},
        "loss calls a metric 'loss'; must be of small letters",
    ),
    ({"loss": lambda model, batch: model(batch["z"]).sum()}, "does not run: KeyError: 'z'"),
    ({"sizes": {"tiny": {"width": 1}}}, "sizes['full'] lacks width, which sizes['tiny'] has"),
    ({"sizes": {"huge": {}}}, "sizes['huge']: known are full, tiny, awkward"),
    (
        {"names": {"Dense_9/kernel": "last/kernel"}},
        "names: 'Dense_9/kernel' is not an array of linen",
    ),
    (
        {"names": {"Dense_1/kernel": "last/bias"}},
        "names: Dense_1/kernel and last/bias differ in size",
    ),
    ({"names": {"a": "x", "b": "x"}}, "names: 'x' is the partner of several"),
    ({"names": ["a"]}, "names is a list; must be a dict"),
    ({"streams": "noise"}, "streams is a text; must be a tuple of names, ('noise',)"),
    ({"trained": "["}, "trained='[': is not a regular expression"),
    ({"trained": "none"}, "trained='none': is in no parameter of linen"),
    (
        {"sizes": {"full": {"widths": [1]}}},
        "sizes['full']['widths'] is a list; must be what cannot",
    ),
]


@pytest.mark.parametrize(("changed", "told"), FAULTS)
def test_a_broken_pair_is_a_line(changed: dict[str, Any], told: str) -> None:
    twins = module(f"broken_{FAULTS.index((changed, told))}", pair(**changed))
    with pytest.raises(UserError) as caught:
        families.load(twins).get("linen")
    lines = str(caught.value).splitlines()
    assert told in lines[0]
    assert all(line.removeprefix("error: ").startswith(f"--twins {twins}.PAIR: ") for line in lines)
    assert len(lines) <= 2  # one for each side


class Wider(small_pairs.Nnx):
    def __init__(self, rngs: Any) -> None:
        super().__init__(rngs)
        self.last = small_pairs.nnx.Linear(6, 1, use_bias=False, rngs=rngs)


def test_a_parameter_without_a_partner_is_named() -> None:
    twins = module("wider", pair(nnx=Wider))
    line = r"linen has 1 parameter that nothing of nnx could be: Dense_1/bias \[1\]"
    with pytest.raises(UserError, match=line):
        families.load(twins).get("linen")


def test_no_pair_at_all() -> None:
    with pytest.raises(UserError, match=r"none.PAIR: is a int; must be a models.pair.Pair"):
        families.load(module("none", 3))


def test_a_case_of_another_model_says_what_it_does() -> None:
    twins = "models.examples.gpt2"
    lines = reading.imposed("04_int8", twins)
    assert any("model.quantization=int8 of case 04_int8 is not taken" in line for line in lines)
    assert reading.load("04_int8", twins=twins).model == families.load(twins).config()
    assert reading.given(None, twins) == reading.PAIR_CASE
    assert checking.faults(reading.load(reading.PAIR_CASE, "tiny", twins=twins)) == []
