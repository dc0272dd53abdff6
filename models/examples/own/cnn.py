"""A CNN with BatchNorm and dropout, and its migration under other names."""

from typing import Any

import flax.linen as nn
import jax
import optax
from flax import nnx

from models.pair import Pair


class CNN(nn.Module):
    """As it was written in Linen."""

    width: int = 32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(self.width, (3, 3))(images)  # [B, H, W, C]
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
        x = nn.relu(nn.Dense(2 * self.width)(x))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(x))


class Network(nnx.Module):
    """As it was migrated to NNX."""

    def __init__(self, rngs: nnx.Rngs, width: int = 32) -> None:
        self.stem = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.hidden = nnx.Linear(16 * width, 2 * width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.classes = nnx.Linear(2 * width, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.stem(images)))  # [B, H, W, C]
        x = nnx.avg_pool(x, (2, 2), (2, 2)).reshape(len(x), -1)
        return self.classes(self.dropout(nnx.relu(self.hidden(x))))


def _of_logits(logits: jax.Array, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    right = logits.argmax(-1) == batch["label"]
    return losses.mean(), {"accuracy": right.mean(dtype="float32")}


def _in_use(model: Network, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    model.eval()
    return _of_logits(model(batch["image"]), batch)


PAIR = Pair(
    linen=CNN(),
    nnx=Network,
    batch=lambda rng, size: {
        "image": rng.random((size, 8, 8, 1), "float32"),
        "label": rng.integers(0, 10, size, "int32"),
    },
    loss={
        "linen": lambda model, batch: _of_logits(model(batch["image"], True), batch),
        "nnx": lambda model, batch: _of_logits(model(batch["image"]), batch),
    },
    evaluation={
        "linen": lambda model, batch: _of_logits(model(batch["image"], False), batch),
        "nnx": _in_use,
    },
    sizes={"full": {"width": 32}, "tiny": {"width": 4}, "awkward": {"width": 5}},
)
