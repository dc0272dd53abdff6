"""Bisect names the place of planted faults, and finds none where there is none."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import commands
import jax
import jax.numpy as jnp
import pytest
from flax import linen, nnx
from small_pairs import batch, module, pair

from harness import bisect
from harness.bisecting import asking, parting, telling
from harness.bisecting.capture import capture
from harness.bisecting.computing import Side
from harness.cases import families, reading
from harness.training import beginning
from harness.training.parallel import mesh
from models.examples.gpt2 import nnx as gpt2
from models.examples.gpt2 import shared
from models.pair import Pair
from models.shared import ops
from models.shared.trees import perturbed

GPT2 = "models.examples.gpt2"


@cache
def case_of(name: str, twins_name: str | None) -> Any:
    found = mesh.alone(reading.load(name, "tiny", ["data.sequence_length=16"], twins=twins_name))
    if twins_name is None:
        found = replace(found, model=replace(found.model, attention="xla"))
    return found


def compare(name: str, twins_name: str | None, b: Any = None) -> telling.Found:
    case = case_of(name, twins_name)
    pair = families.of(case)
    a = pair.get(pair.names[0])
    model = beginning.resolved(case, "cpu")
    fresh = jax.jit(lambda: a.init(model, jax.random.key(0)))()
    params = perturbed(fresh, 0)
    return asking.between(
        case, (pair.names[0], pair.names[1]), a, b or pair.get(pair.names[1]), params
    )


@pytest.mark.parametrize(
    "name",
    [
        name if name == "03_dropout" else pytest.param(name, marks=pytest.mark.bisect)
        for name in reading.case_names()
    ],
)
def test_the_twins_do_not_differ_in_any_case(name: str) -> None:
    found = compare(name, None)
    assert found.parting is None
    assert re.match(r"no difference: loss, (\d+) of \1 activations", telling.text(found))


@pytest.mark.bisect
@pytest.mark.parametrize("twins_name", [GPT2, "models.examples.bridge"])
def test_the_examples_do_not_differ(twins_name: str) -> None:
    assert compare("03_dropout", twins_name).parting is None


# Faults: each is planted in the NNX GPT-2 at the second of its two layers, unless it has no layer.
Patch = Callable[[pytest.MonkeyPatch], None]


def in_block(body: Callable[[Any, Any, Any], Any], layer: int = 1) -> Patch:
    """One layer computes `body` instead; the others what they did."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right, numbers = gpt2.Block.__call__, iter(range(1000))

        def call(block: Any, x: Any, key: Any) -> Any:
            return (body if next(numbers) % 2 == layer else right)(block, x, key)

        patch.setattr(gpt2.Block, "__call__", call)

    return plant


def block(attn: Any = None, mlp: Any = None, norm: Any = None, drop: Any = None) -> Patch:
    """A layer with one of its parts replaced."""
    attn = attn or (lambda b, x: b.attn(x))
    mlp = mlp or (lambda b, x: b.mlp(x))
    norm = norm or (lambda b, x, which: getattr(b, which)(x))
    drop = drop or (lambda b, x, key, site: shared.dropout(x, b.config.dropout_rate, key, site))

    def body(b: Any, x: Any, key: Any) -> Any:
        x = x + drop(b, attn(b, norm(b, x, "ln_1")), key, shared.ATTENTION_DROPOUT)
        return x + drop(b, mlp(b, norm(b, x, "ln_2")), key, shared.MLP_DROPOUT)

    return in_block(body)


def rms(b: Any, x: Any, which: str) -> Any:
    if which == "ln_1":
        return b.ln_1(x)
    return ops.rms_norm(x, b.ln_2.scale[...], 1e-5) + b.ln_2.bias[...][None, None]


def normalised(x: Any, epsilon: float = 1e-5) -> Any:
    x32 = x.astype(jnp.float32)
    mean = x32.mean(-1, keepdims=True)
    variance = jnp.maximum(0.0, (x32**2).mean(-1, keepdims=True) - mean**2)
    return (x32 - mean) * jax.lax.rsqrt(variance + epsilon)


def other_epsilon(b: Any, x: Any, which: str) -> Any:
    if which == "ln_2":
        return b.ln_2(x)
    return normalised(x, 1e-3) * b.ln_1.scale[...][None, None] + b.ln_1.bias[...][None, None]


def without_scale(b: Any, x: Any, which: str) -> Any:
    return b.ln_1(x) if which == "ln_1" else normalised(x) + b.ln_2.bias[...][None, None]


def frozen_scale(b: Any, x: Any, which: str) -> Any:
    if which == "ln_1":
        return b.ln_1(x)
    b.ln_2.scale[...] = jax.lax.stop_gradient(b.ln_2.scale[...])
    return b.ln_2(x)


def projected(b: Any, x: Any, kernel: Any) -> Any:
    mixed = shared.attention(b.attn.qkv(x), b.config.heads)
    dtype = b.config.dtype
    return mixed @ kernel.astype(dtype) + b.attn.proj.bias[...].astype(dtype)[None, None]


def attention(mask: Callable[[int], Any], scale: float | None = None) -> Any:
    def mixed(b: Any, x: Any) -> Any:
        B, T, D = x.shape
        parts = jnp.split(b.attn.qkv(x), 3, axis=-1)
        query, key, value = (part.reshape(B, T, b.config.heads, -1) for part in parts)
        found = jax.nn.dot_product_attention(
            query, key, value, mask=mask(T)[None, None], scale=scale
        )
        return b.attn.proj(found.reshape(B, T, D))

    return mixed


def mlp(activation: Callable[[Any], Any]) -> Any:
    return lambda b, x: b.mlp.out(activation(b.mlp.fc(x)))


def causal(T: int) -> Any:
    return jnp.tril(jnp.ones((T, T), bool))


def swapped(patch: pytest.MonkeyPatch) -> None:
    original = gpt2.Transformer.__call__

    def call(model: Any, tokens: Any, key: Any) -> Any:
        model.h_0, model.h_1 = model.h_1, model.h_0
        return original(model, tokens, key)

    patch.setattr(gpt2.Transformer, "__call__", call)


def off_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        gpt2, "shared", SimpleNamespace(**vars(shared) | {"position_numbers": later_positions})
    )


def later_positions(model: Any, length: int) -> Any:
    return 1 + jnp.arange(length)


def lost_residual(b: Any, x: Any, key: Any) -> Any:
    rate = b.config.dropout_rate
    x = shared.dropout(b.attn(b.ln_1(x)), rate, key, shared.ATTENTION_DROPOUT)
    return x + shared.dropout(b.mlp(b.ln_2(x)), rate, key, shared.MLP_DROPOUT)


def norm_behind(b: Any, x: Any, key: Any) -> Any:
    rate = b.config.dropout_rate
    x = x + shared.dropout(b.ln_1(b.attn(x)), rate, key, shared.ATTENTION_DROPOUT)
    return x + shared.dropout(b.mlp(b.ln_2(x)), rate, key, shared.MLP_DROPOUT)


def dropout_behind(b: Any, x: Any, key: Any) -> Any:
    rate = b.config.dropout_rate
    x = shared.dropout(x + b.attn(b.ln_1(x)), rate, key, shared.ATTENTION_DROPOUT)
    return x + shared.dropout(b.mlp(b.ln_2(x)), rate, key, shared.MLP_DROPOUT)


def other_site(b: Any, x: Any, key: Any, site: int) -> Any:
    return shared.dropout(x, b.config.dropout_rate, key, site + (site == shared.MLP_DROPOUT))


def untied(patch: pytest.MonkeyPatch) -> None:
    """The head's share of the embedding's gradient is lost."""
    patch.setattr(
        gpt2.nnx.Embed,
        "attend",
        lambda embed, x: jnp.dot(
            x.astype(embed.dtype),
            jax.lax.stop_gradient(embed.embedding[...]).astype(embed.dtype).T,
        ),
    )


FAULTS: dict[str, tuple[Patch, str, int | None]] = {
    "wrong epsilon": (block(norm=other_epsilon), "h_1/ln_1", 1),
    "missing scale": (block(norm=without_scale), "h_1/ln_2/scale", 1),
    "RMS norm for layer norm": (block(norm=rms), "h_1/ln_2", 1),
    "transposed kernel": (
        block(attn=lambda b, x: projected(b, x, b.attn.proj.kernel[...].T)),
        "h_1/attn/proj/kernel",
        1,
    ),
    "missing bias": (
        block(mlp=lambda b, x: b.mlp(x) - b.mlp.out.bias[...][None, None]),
        "h_1/mlp/out",
        1,
    ),
    "no mask": (
        block(attn=attention(lambda T: causal(T) | True)),
        "h_1/attn",
        1,
    ),
    "a mask that hides the diagonal": (
        block(attn=attention(lambda T: jnp.tril(jnp.ones((T, T), bool), -1).at[0, 0].set(True))),
        "h_1/attn",
        1,
    ),
    "no attention scale": (block(attn=attention(causal, 1.0)), "h_1/attn", 1),
    "dropout after the residual": (in_block(dropout_behind), "h_1/attn", 1),
    "dropout left out": (
        block(
            drop=lambda b, x, key, site: (
                x
                if site == shared.MLP_DROPOUT
                else shared.dropout(x, b.config.dropout_rate, key, site)
            )
        ),
        "h_1/mlp",
        1,
    ),
    "bfloat16 for float32": (
        block(
            norm=lambda b, x, which: (
                normalised(x).astype(jnp.bfloat16).astype(jnp.float32)
                * getattr(b, which).scale[...][None, None]
                + getattr(b, which).bias[...][None, None]
                if which == "ln_2"
                else b.ln_1(x)
            )
        ),
        "h_1/ln_2",
        1,
    ),
    "another GELU": (block(mlp=mlp(lambda x: jax.nn.gelu(x, approximate=False))), "h_1/mlp", 1),
    "norm behind": (in_block(norm_behind), "h_1/ln_1", 1),
    "lost residual": (in_block(lost_residual), "h_1/attn/proj", 1),
    "a layer skipped": (in_block(lambda b, x, key: x), "h_1/ln_1", 1),
    "two layers swapped": (swapped, "h_0/ln_1", 0),
    "positions off by one": (off_by_one, "wpe/embedding", None),
    "untied head": (untied, "wte/embedding", None),
    "frozen parameter": (block(norm=frozen_scale), "h_1/ln_2/scale", 1),
}


@pytest.mark.parametrize(
    ("plant", "tensor", "layer"),
    [
        pytest.param(*fault, id=name, marks=() if name == "wrong epsilon" else pytest.mark.bisect)
        for name, fault in FAULTS.items()
    ],
)
def test_a_planted_fault_is_named(
    plant: Patch, tensor: str, layer: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    found = compare("03_dropout", GPT2)
    assert found.parting is not None
    first = found.parting.tensor, found.parting.layer
    # A loss may be equal by chance: what is furthest from rounding tells the place then.
    places = [first, parting.place(found.judged[0].at, found.a)]
    told = telling.text(found)
    assert any(tensor in one and layer == number for one, number in places), told
    assert not found.is_rounding, told
    listed = [one.at.order for one in found.beyond][:8]
    assert listed == sorted(listed)
    gradients = {n.order for path, n in found.a.outputs.items() if path.startswith("gradients/")}
    assert told.count("backward pass, gradient of ") == len(gradients.intersection(listed))


@pytest.mark.bisect
def test_another_key_for_dropout_is_said_to_be_just_that(monkeypatch: pytest.MonkeyPatch) -> None:
    block(drop=other_site)(monkeypatch)
    found = compare("03_dropout", GPT2)
    assert found.parting is None
    assert [line.partition(";")[0] for line in found.random] == [
        "keys that differ: 1 of linen and 1 of nnx"
    ]


@pytest.mark.bisect
def test_weight_decay_on_norms_is_named() -> None:
    """Of an optimizer that decays all parameters, where the twin's spares vectors."""
    wrong = SimpleNamespace(**vars(gpt2) | {"optimizer": None})  # so the project's own
    found = compare("03_dropout", GPT2, wrong)
    assert found.parting is not None
    assert found.parting.kind == "updates"
    assert "h_0/attn/proj/bias" in found.parting.tensor
    rows = parting.rows(found.a, found.b, "updates", found.layer_axes)
    differing = {row.tensor for row in rows if row.distance is not None}
    assert differing == {row.tensor for row in rows if row.tensor.endswith(("scale", "bias"))}


def of_values(**made: Callable[[Any], Any]) -> telling.Found:
    """What two computations of one number make of it, by what they call it."""

    def side(name: str) -> Side:
        def step(params: Any, batch: Any) -> Any:
            return {"loss": made[name](params["w"] * batch["x"]), "metrics": {name: params["w"]}}

        return Side(name, capture(step, {"w": jnp.ones(())}, {"x": jnp.ones(())}), None, {})

    a, b = map(side, made)
    return asking.compared(a, b)


def test_what_is_not_finite_on_either_side_is_no_agreement() -> None:
    found = of_values(a=lambda x: jnp.log(-x), b=lambda x: jnp.log(-x))
    assert found.parting is None
    assert telling.verdict(found) == [
        "not known: loss is not finite on either side, and tells nothing"
    ]
    assert not found.is_rounding


def test_a_metric_that_one_side_alone_tells_is_not_compared() -> None:
    found = of_values(a=lambda x: x, b=lambda x: x)
    assert telling.verdict(found)[0].startswith("no difference: loss, 1 of 1 activations are equal")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--a", "flux"], "invalid choice: 'flux' (choose from 'linen', 'nnx')"),
        (["--restore", "nowhere"], "nowhere: does not exist"),
        (["--twins", "nowhere"], "--twins nowhere: is not there"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], complaint: str) -> None:
    ended = commands.run("--case", "01_baseline", *arguments, module="harness.bisect")
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bisect.devices, "prepare", lambda _: jax.devices())


@pytest.mark.usefixtures("in_process")
def test_of_a_pair_whose_keys_alone_differ_just_that_is_said(capsys: Any) -> None:
    assert bisect.main(["--twins", module("bisected", pair(both={"rate": 0.5}))]) == 0
    told = capsys.readouterr().out.splitlines()
    assert re.match(r"no difference but random draws: loss, (\d) of \1 activations", told[0])
    at = "tests/helpers/small_pairs.py"
    first = f"the first: linen at {at}:29, nnx at {at}:47"
    assert told[1] == f"keys that differ: 1 of linen and 1 of nnx; {first}"
    assert [line.partition(": ")[0] for line in told[2:]] == ["not compared"] * 3


@pytest.mark.usefixtures("in_process")
def test_a_mask_that_repeats_on_one_side_is_a_difference_of_later_steps(capsys: Any) -> None:
    twins = module("repeating", pair(both={"rate": 0.5}, fixed=True))
    assert bisect.main(["--twins", twins]) == 1
    told = capsys.readouterr().out.splitlines()
    again = "the same in every step are 0 of linen's 1 and 1 of nnx's 1 random draws"
    assert told[0] == f"different in later steps: {again}; of the first:"
    assert told[1].startswith("no difference but random draws: loss, ")
    line = "tests/helpers/small_pairs.py:47"
    assert f"random: nnx draws the same random numbers in every step, at {line}" in told


@pytest.mark.bisect
@pytest.mark.usefixtures("in_process")
def test_what_draws_with_its_own_keys_parts_at_its_mask(capsys: Any) -> None:
    twins = module("own_keys", pair(both={"rate": 0.5}))
    assert bisect.main(["--twins", twins, "--no-align-random"]) == 1
    _, _, told = capsys.readouterr().out.partition("first difference: ")
    assert "before Dense_1/kernel" in told.splitlines()[0]
    assert "small_pairs.py:30" in told.splitlines()[1]


@pytest.mark.bisect
@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--devices 2", "equal up to rounding: "),
        ("--set optim.clip_norm=1e-3", "different: of "),
    ],
)
def test_an_implementation_is_compared_with_itself_under_other_settings(
    words: str, told: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bisect.devices, "prepare", lambda count: jax.devices()[: count or 1])
    twins = "models.examples.own.regression"
    code = bisect.main(["--twins", twins, "--a", "nnx", "--against", words])
    out = capsys.readouterr().out
    assert out.startswith(told), out
    assert code == (0 if told.startswith("equal") else 1)
    assert f"\n  {words}: " in out


def squared(model: Any, batch: Any) -> jax.Array:
    return jnp.square(model(batch["x"])[:, 0] - batch["y"]).mean()


def absolute(model: Any, batch: Any) -> jax.Array:
    return jnp.abs(model(batch["x"])[:, 0] - batch["y"]).mean()


@pytest.mark.usefixtures("in_process")
def test_what_differs_in_an_evaluation_alone_is_named(capsys: Any) -> None:
    made = Pair(
        linen=linen.Dense(1),
        nnx=lambda rngs: nnx.Linear(4, 1, rngs=rngs),
        batch=batch,
        loss=squared,
        evaluation={"linen": squared, "nnx": absolute},
    )
    assert bisect.main(["--twins", module("otherwise_evaluated", made)]) == 1
    step, evaluated = capsys.readouterr().out.split("\nas they are evaluated: ")
    assert step.startswith("no difference: loss, 2 of 2 activations")
    assert evaluated.startswith("different: of 1 operation that differs given equal inputs 1 does")
    lines = [inspect.getsourcelines(one)[1] + 1 for one in (squared, absolute)]
    places = [f"tests/harness/bisect_test.py:{line}" for line in lines]
    assert f"\n    linen at {places[0]}, nnx at {places[1]}\n" in evaluated
    assert "gradients" not in evaluated
