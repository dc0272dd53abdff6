"""Small models of many kinds, in Linen and in NNX; the NNX one can hold one fault, by its name."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from models.pair import Pair

_normal = nn.initializers.normal(0.3)


class Vit(nn.Module):
    """A transformer over the patches of an image."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.Conv(12, (4, 4), (4, 4), name="patches")(images)  # [B, 2, 2, D]
        x = x.reshape(len(x), 4, 12)
        x = x + self.param("positions", _normal, (1, 4, 12))
        y = nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="before")(x))
        x = x + 0.5 * y
        y = nn.Dense(24, name="wide")(nn.LayerNorm(name="between")(x))
        y = nn.gelu(y, approximate=False)
        x = x + 0.5 * nn.Dense(12, name="narrow")(y)
        return nn.Dense(5, name="head")(x.mean(1))


class VitNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        self.patches = nnx.Conv(1, 12, (4, 4), (4, 4), rngs=rngs)
        self.positions = nnx.Param(_normal(rngs.params(), (1, 4, 12)))
        self.before, self.between = (nnx.LayerNorm(12, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(2, 12, decode=False, rngs=rngs)
        self.wide, self.narrow = nnx.Linear(12, 24, rngs=rngs), nnx.Linear(24, 12, rngs=rngs)
        self.head = nnx.Linear(12, 5, rngs=rngs)
        self.fault = fault

    def __call__(self, images: jax.Array) -> jax.Array:
        x = self.patches(images).reshape(len(images), 4, 12)
        x = x + self.positions[...]
        y = self.attention(self.before(x))
        x = x + (0.5 if self.fault != "residual scale" else 1.0) * y
        wide: Any = self.wide
        y = wide(self.between(x))
        if self.fault == "a missing bias":
            y = y - wide.bias[...][None, None]
        y = nnx.gelu(y, approximate=self.fault == "another GELU")
        x = x + 0.5 * self.narrow(y)
        return self.head(x.mean(1) if self.fault != "another pooling" else x[:, 0])


def classified(model: Any, batch: Any) -> jax.Array:
    logits = nn.log_softmax(model(batch["image"]))
    return -jnp.take_along_axis(logits, batch["label"][:, None], 1).mean()


class Recurrent(nn.Module):
    """An LSTM that reads sequences of many lengths."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.RNN(nn.LSTMCell(6), name="cell")(x)  # [B, T, 6]
        return nn.Dense(1, name="last")(y)[..., 0]


class RecurrentNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        gate = jax.nn.hard_sigmoid if fault == "another gate" else jax.nn.sigmoid
        cell = nnx.LSTMCell(4, 6, gate_fn=gate, rngs=rngs)
        self.cell = nnx.RNN(cell, reverse=fault == "read backwards", rngs=rngs)
        self.last = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.cell(x))[..., 0]


def of_lengths(model: Any, batch: Any, *, padded: bool = False) -> jax.Array:
    errors = (model(batch["x"]) - batch["x"].sum(-1)) ** 2  # [B, T]
    weights = (jnp.arange(5)[None] < batch["length"][:, None]).astype(jnp.float32)
    return errors.mean() if padded else (errors * weights).sum() / weights.sum()


class Experts(nn.Module):
    """A mixture of three experts, two for each example, whose balance is sown."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        p = nn.softmax(nn.Dense(3, name="router")(x))  # [B, E]
        self.sow("losses", "balance", 3 * (p.mean(0) ** 2).sum())
        gates = jnp.where(p > p.min(-1, keepdims=True), p, 0)
        gates = gates / gates.sum(-1, keepdims=True)
        up, down = self.param("up", _normal, (3, 4, 7)), self.param("down", _normal, (3, 7, 4))
        y = jnp.einsum("beh,ehd->bed", nn.silu(jnp.einsum("bd,edh->beh", x, up)), down)
        return (gates[..., None] * y).sum(1)


class ExpertsNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        self.router = nnx.Linear(4, 3, rngs=rngs)
        self.up = nnx.Param(_normal(rngs.params(), (3, 4, 7)))
        self.down = nnx.Param(_normal(rngs.params(), (3, 7, 4)))
        self.fault = fault

    def __call__(self, x: jax.Array) -> jax.Array:
        p = nnx.softmax(self.router(x))
        sown = p if self.fault != "balance of squares" else p**2
        self.balance = nnx.Intermediate(3 * (sown.mean(0) ** 2).sum())
        gates = jnp.where(p > p.min(-1, keepdims=True), p, 0)
        if self.fault != "gates that are not scaled":
            gates = gates / gates.sum(-1, keepdims=True)
        h = jnp.einsum("bd,edh->beh", x, self.up[...])
        h = nnx.silu(h) if self.fault != "another activation" else nnx.gelu(h)
        return (gates[..., None] * jnp.einsum("beh,ehd->bed", h, self.down[...])).sum(1)


def balanced(model: Any, batch: Any) -> jax.Array:
    error: jax.Array = ((model(batch["x"]) - batch["x"][:, ::-1]) ** 2).mean()
    if isinstance(model, ExpertsNnx):
        return error + 0.1 * model.balance[...]
    return error + 0.1 * model.variables.get("losses", {}).get("balance", (0.0,))[-1]


class Lora(nn.Module):
    """A layer that is frozen beside one of low rank."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = jax.lax.stop_gradient(self.param("kernel", _normal, (4, 6)))
        x = x @ kernel + 2.0 * (x @ self.param("a", _normal, (4, 2)) @ self.param(
            "b", _normal, (2, 6)))  # fmt: skip
        return nn.Dense(1, name="last")(nn.tanh(x))[:, 0]


class LoraNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        shapes = ((4, 6), (4, 2), (2, 6))
        self.kernel, self.a, self.b = (nnx.Param(_normal(rngs.params(), s)) for s in shapes)
        self.last = nnx.Linear(6, 1, rngs=rngs)
        self.fault = fault

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        if self.fault != "a frozen array that is trained":
            kernel = jax.lax.stop_gradient(kernel)
        x = x @ kernel + (2.0 if self.fault != "the scale of a low rank" else 1.0) * (
            x @ self.a[...] @ self.b[...]
        )
        return self.last(nnx.tanh(x))[:, 0]


class Generator(nn.Module):
    """A GAN's generator, under what judges its images."""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.Dense(24, name="first")(z).reshape(-1, 2, 2, 6)
        x = nn.ConvTranspose(5, (4, 4), (2, 2), name="wider")(x)
        x = nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm")(x)
        x = nn.leaky_relu(x, 0.2)
        x = nn.tanh(nn.ConvTranspose(1, (4, 4), (2, 2), name="image")(x))  # [B, 8, 8, 1]
        x = nn.Conv(3, (3, 3), name="seen")(x)
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        return nn.Dense(1, name="judged")(x.reshape(len(x), -1))[:, 0]


class GeneratorNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        self.first = nnx.Linear(3, 24, rngs=rngs)
        self.wider = nnx.ConvTranspose(6, 5, (4, 4), (2, 2), rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.9, rngs=rngs)
        self.image = nnx.ConvTranspose(5, 1, (4, 4), (2, 2), rngs=rngs)
        self.seen = nnx.Conv(1, 3, (3, 3), rngs=rngs)
        self.judged = nnx.Linear(48, 1, rngs=rngs)
        self.fault = fault

    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.first(z).reshape(-1, 2, 2, 6)
        if self.fault == "a flipped kernel":
            self.wider.kernel[...] = jnp.flip(self.wider.kernel[...], (0, 1))
        x = self.wider(x)
        before, n = self.norm.var[...], x.size / 5
        x = self.norm(x)
        if self.fault == "a variance over n - 1":
            new = (self.norm.var[...] - 0.9 * before) * n / (n - 1)
            self.norm.var[...] = 0.9 * before + new
        x = nnx.leaky_relu(x, 0.2 if self.fault != "another slope" else 0.01)
        x = self.seen(nnx.tanh(self.image(x)))
        sides: Any = "SAME" if self.fault != "the padding of a pool" else ((1, 0), (1, 0))
        x = nnx.max_pool(x, (3, 3), (2, 2), sides)
        return self.judged(x.reshape(len(x), -1))[:, 0]


class Vae(nn.Module):
    """A variational autoencoder, and its loss."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.tanh(nn.Dense(7, name="encoder")(x))
        mean, spread = nn.Dense(3, name="mean")(h), nn.Dense(3, name="spread")(h)
        noise = jax.random.normal(self.make_rng("latent"), mean.shape)
        z = mean + jnp.exp(0.5 * spread) * noise
        made = nn.Dense(4, name="last")(nn.tanh(nn.Dense(7, name="decoder")(z)))
        divergence = -0.5 * (1 + spread - mean**2 - jnp.exp(spread)).sum(-1)
        return (((made - x) ** 2).sum(-1) + divergence).mean()


class VaeNnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs, fault: str = "") -> None:
        self.encoder, self.decoder = nnx.Linear(4, 7, rngs=rngs), nnx.Linear(3, 7, rngs=rngs)
        self.mean, self.spread = (nnx.Linear(7, 3, rngs=rngs) for _ in range(2))
        self.last = nnx.Linear(7, 4, rngs=rngs)
        self.rngs, self.fault = rngs, fault

    def __call__(self, x: jax.Array) -> jax.Array:
        h = nnx.tanh(self.encoder(x))
        mean, spread = self.mean(h), self.spread(h)
        noise = jax.random.normal(self.rngs.latent(), mean.shape)
        half = 0.5 if self.fault != "a variance for a deviation" else 1.0
        z = mean + jnp.exp(half * spread) * noise
        made = self.last(nnx.tanh(self.decoder(z)))
        divergence = -0.5 * (1 + spread - mean**2 - jnp.exp(spread)).sum(-1)
        if self.fault == "the mean of a divergence":
            divergence = divergence / 3
        error = ((made - x) ** 2).sum(-1)
        if self.fault == "a loss that is summed":
            return (error + divergence).sum()
        return (error + divergence).mean()


def _vectors(rng: Any, size: int) -> dict[str, Any]:
    return {"x": rng.standard_normal((size, 4)), "y": rng.standard_normal(size)}


def _images(rng: Any, size: int) -> dict[str, Any]:
    return {"image": rng.standard_normal((size, 8, 8, 1)), "label": rng.integers(0, 5, size)}


def _sequences(rng: Any, size: int) -> dict[str, Any]:
    return {"x": rng.standard_normal((size, 5, 4)), "length": rng.integers(2, 6, size)}


def vit(fault: str = "") -> Pair:
    return Pair(linen=Vit(), nnx=partial(VitNnx, fault=fault), batch=_images, loss=classified)


def recurrent(fault: str = "") -> Pair:
    loss: Any = {
        "linen": of_lengths,
        "nnx": partial(of_lengths, padded=fault == "padding that counts"),
    }
    nnx_ = partial(RecurrentNnx, fault=fault)
    return Pair(linen=Recurrent(), nnx=nnx_, batch=_sequences, loss=loss)


def experts(fault: str = "") -> Pair:
    return Pair(linen=Experts(), nnx=partial(ExpertsNnx, fault=fault), batch=_vectors,
                loss=balanced)  # fmt: skip


def lora(fault: str = "") -> Pair:
    return Pair(
        linen=Lora(),
        nnx=partial(LoraNnx, fault=fault),
        batch=_vectors,
        loss=lambda model, batch: ((model(batch["x"]) - batch["y"]) ** 2).mean(),
    )


def generator(fault: str = "") -> Pair:
    return Pair(linen=Generator(), nnx=partial(GeneratorNnx, fault=fault),
                batch=lambda rng, size: {"z": rng.standard_normal((size, 3))},
                loss=lambda model, batch: jax.nn.softplus(-model(batch["z"])).mean())  # fmt: skip


def vae(fault: str = "") -> Pair:
    return Pair(linen=Vae(), nnx=partial(VaeNnx, fault=fault), batch=_vectors,
                loss=lambda model, batch: model(batch["x"]))  # fmt: skip
