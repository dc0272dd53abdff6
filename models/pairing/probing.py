"""A model that is tried out: one loss and gradient of values that are given."""

from collections.abc import Mapping, Sequence
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
    """What came of values: the loss, its gradients by path, the state after the step, metrics.

    is_random: whether it rests on numbers that were drawn at random.
    """

    loss: float
    gradients: Values
    state: Values
    metrics: Mapping[str, float]
    is_random: bool


class Probe:
    """One side's model, small, on the host; draws are those of `draws.aligned_key`.

    batches: of one shape; the first is the one that a fresh model is made with. ignored: what the
    step takes nothing of, of the batch; unused: of the parameters. metrics: those that it tells.
    drawn: parameters that a usual key makes, which draws nothing twice.
    written: parameters that the model itself changes when it is called; altered: see Ran.
    """

    def __init__(self, side: Side, arguments: Arguments, batches: Sequence[Batch]) -> None:
        key = draws.aligned_key()
        self.batches, self._arguments, batch = batches, arguments, batches[0]
        with on_host():
            usual = jax.random.key(0, impl="threefry2x32")
            fresh = jax.jit(
                lambda: (
                    side.init(arguments, key, batch),
                    side.init(arguments, usual, batch).params,
                )
            )
            held, drawn = fresh.lower().compile(_QUICK)()
            self.drawn = {path: np.asarray(one) for path, one in drawn.items()}
            self.params = {path: np.asarray(one) for path, one in held.params.items()}
            self.state = {path: np.asarray(one) for path, one in held.state.items()}
            random = self.random = held.random

            def step(params: Arrays, state: Arrays, batch: Batch) -> tuple[Any, Any, Any, Any]:
                def loss(given: tuple[Arrays, Arrays]) -> tuple[jax.Array, tuple[Any, ...]]:
                    held = Held(given[0], {**state, **given[1]}, random)
                    ran = side.run(arguments, held, batch, key)
                    self.altered = ran.altered
                    return ran.loss, (
                        ran.held.state,
                        ran.metrics,
                        _other(ran.held.params, given[0]),
                    )

                overwritten = {path: one for path, one in state.items() if is_overwritten(path)}
                (value, (after, metrics, other)), (gradients, new) = jax.value_and_grad(
                    loss, has_aux=True
                )((params, overwritten))
                return (value, {**after, **new}), gradients, metrics, other

            traced = jax.jit(step).trace(self.params, self.state, batch)
            self._run = traced.lower().compile(_QUICK)
        self.metrics = frozenset(traced.out_info[2])
        self.written = self._find_written() if traced.out_info[3] else frozenset[str]()
        self.is_random = order.draws(traced.jaxpr)
        inputs = [sorted(one) for one in (self.params, self.state, batch)]
        starts = [0, len(inputs[0]), last := len(inputs[0]) + len(inputs[1])]
        every = last + len(batch)
        uses, taken = (found(traced.jaxpr)[-every:] for found in (order.first_uses, order.taken))
        self.places = {
            path: last if use is None else use
            for path, use in zip([*inputs[0], *inputs[1]], uses[:last], strict=True)
        }
        self.unused, _, self.ignored = (
            frozenset(name for name, is_taken in zip(names, taken[start:], strict=False)
                      if not is_taken)
            for names, start in zip(inputs, starts, strict=True)
        )  # fmt: skip

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the parameters, by path."""
        return {path: array.shape for path, array in self.params.items()}

    def run(self, params: Values, state: Values, number: int = 0) -> Tried:
        """What these values give with a batch, the first or another one."""
        with on_host():
            (loss, after), gradients, metrics, _ = self._run(params, state, self.batches[number])
        told = _numbers(metrics)
        return Tried(float(loss), _wide(gradients), _wide(after), told, self.is_random)

    def _find_written(self) -> frozenset[str]:
        """Which parameters it changes, far from 0, so that a bound shows too."""
        far = {path: (100 * one + 0.3).astype(one.dtype) for path, one in self.params.items()}
        with on_host():
            other = self._run(far, self.state, self.batches[0])[3]
        return frozenset(path for path, is_other in other.items() if is_other)

    def evaluated(self, evaluator: Side, params: Values, state: Values) -> Tried:
        """What these values give as the model is evaluated, which has no gradients."""

        def forward(params: Arrays, state: Arrays, batch: Batch) -> tuple[Any, Arrays, Any]:
            held = Held(params, state, self.random)
            ran = evaluator.run(self._arguments, held, batch, draws.aligned_key())
            return ran.loss, ran.held.state, ran.metrics

        given = params, state, self.batches[0]
        with on_host():
            traced = jax.jit(forward).trace(*given)
            loss, after, metrics = traced.lower().compile(_QUICK)(*given)
        is_random = order.draws(traced.jaxpr)
        return Tried(float(loss), {}, _wide(after), _numbers(metrics), is_random)

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


def _other(after: Arrays, before: Arrays) -> dict[str, jax.Array]:
    """Of what is not the very same array as before, whether its numbers are others."""
    return {
        path: ~jnp.array_equal(one, jax.lax.stop_gradient(before[path]), equal_nan=True)
        for path, one in after.items()
        if one is not before[path]
    }


def _numbers(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    return {name: float(one) for name, one in metrics.items()}


def _wide(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    return {path: np.asarray(jnp.asarray(one, jnp.float32)) for path, one in arrays.items()}
