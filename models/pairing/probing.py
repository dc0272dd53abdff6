"""A model that is tried out: one loss and gradient of values that are given."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from models.pairing import draws, order
from models.pairing.layouts import Shape
from models.pairing.partners import Seen
from models.pairing.sides import Arguments, Arrays, Held, Side, is_overwritten
from models.seam import Batch

Values = Mapping[str, np.ndarray]
_QUICK: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0"
}  # it runs a few times and compiles once


class Tried(NamedTuple):
    """What came of values: the loss, its gradients by path, and the state after the step."""

    loss: float
    gradients: Values
    state: Values


class Probe:
    """One side's model, small, on the host; draws are those of `draws.aligned_key`."""

    def __init__(self, side: Side, arguments: Arguments, batch: Batch) -> None:
        key = draws.aligned_key()
        with on_host():
            fresh = jax.jit(lambda: side.init(arguments, key, batch))
            held = fresh.lower().compile(_QUICK)()
            self.params = {path: np.asarray(one) for path, one in held.params.items()}
            self.state = {path: np.asarray(one) for path, one in held.state.items()}
            random = held.random

            def loss(given: tuple[Arrays, Arrays], state: Arrays) -> tuple[jax.Array, Arrays]:
                ran = side.run(arguments, Held(given[0], {**state, **given[1]}, random), batch, key)
                return ran.loss, ran.held.state

            def step(params: Arrays, state: Arrays) -> tuple[Any, Any]:
                overwritten = {path: one for path, one in state.items() if is_overwritten(path)}
                (value, after), (gradients, new) = jax.value_and_grad(loss, has_aux=True)(
                    (params, overwritten), state
                )
                return (value, {**after, **new}), gradients

            traced = jax.jit(step).trace(self.params, self.state)
            self._run = traced.lower().compile(_QUICK)
        uses = order.first_uses(traced.jaxpr)
        self.is_random = order.draws(traced.jaxpr)
        leaves = jax.tree.leaves(({path: path for path in self.params},
                                  {path: path for path in self.state}))  # fmt: skip
        last = len(leaves)
        self.places = {
            path: last if use is None else use
            for path, use in zip(leaves, uses[-last:] if last else [], strict=True)
        }

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the parameters, by path."""
        return {path: array.shape for path, array in self.params.items()}

    def run(self, params: Values, state: Values) -> Tried:
        """What these values give."""
        with on_host():
            (loss, after), gradients = self._run(params, state)
        return Tried(float(loss), _wide(gradients), _wide(after))

    def seen(self, evidence: Values) -> dict[str, Seen]:
        """Arrays with where they are first used."""
        return {path: Seen(array, float(self.places[path])) for path, array in evidence.items()}


def on_host() -> AbstractContextManager[object]:
    """Computes on a CPU, with every product in float32."""
    stack = ExitStack()
    with suppress(RuntimeError):  # a process may have been told of accelerators alone
        stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
    stack.enter_context(jax.default_matmul_precision("float32"))
    return stack


def _wide(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    return {path: np.asarray(jnp.asarray(one, jnp.float32)) for path, one in arrays.items()}
