"""The seam between the models and the harness: three functions per implementation."""

import importlib
from typing import Protocol, cast

import jax

from models.config import ModelConfig
from models.parameters import Params

IMPLEMENTATIONS = ("linen", "nnx")


class Implementation(Protocol):
    """What a module offers to be trained: pure functions of plain trees.

    All implementations of one model hold the same tree of parameters. No random state lives in it:
    everything random is a function of the key that `apply` is given.
    """

    def init(self, config: ModelConfig, key: jax.Array) -> Params:
        """Fresh parameters: a nested dict of arrays."""
        ...

    def apply(
        self, config: ModelConfig, params: Params, tokens: jax.Array, key: jax.Array
    ) -> jax.Array:
        """Logits [B, T, V] in float32 of tokens [B, T]; `key` is this step's, for dropout."""
        ...

    def logical_axes(self, config: ModelConfig) -> Params:
        """The parameters' tree with a tuple of logical axis names in place of each array."""
        ...


def get(name: str) -> Implementation:
    """The implementation called `name`; imports the framework it is written in, and no other."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"impl={name!r}: must be one of {', '.join(IMPLEMENTATIONS)}")
    return cast(Implementation, importlib.import_module(f"models.{name}"))
