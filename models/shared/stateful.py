"""The training state as NNX's own objects: what its ways across jit cost the host.

Plain trees are what crosses jit otherwise. Here they are made into a model and an nnx.Optimizer
once, before the steps, and taken apart again for each save. Inside the trace both are plain trees,
so that the mathematics is the very function that plain trees run through: nnx.Optimizer holds the
state, and its `update` is not called.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import optax
from flax import nnx

from models.shared.trees import named_leaves

Step = Callable[[Any, Any], tuple[Any, Any]]  # state, batch -> state, metrics


class Carrier:
    """Carries the training state, "step", "params" and what is the optimizer's, across jit.

    mode: "state", an nnx.State through jax.jit; "jit", model and optimizer through nnx.jit.
    build: makes the model, whose only variables are parameters; how these are stacked does not
    matter. init_optimizer: of parameters, the optimizer's entries of the state. state: the arrays'
    shapes and shardings, as ShapeDtypeStructs.
    """

    def __init__(
        self,
        mode: Literal["state", "jit"],
        build: Callable[[], nnx.Module],
        init_optimizer: Callable[[Any], Mapping[str, Any]],
        state: Any,
    ) -> None:
        held = optax.GradientTransformation(init_optimizer, _never_called)

        def both() -> tuple[nnx.Module, nnx.Optimizer[nnx.Module]]:
            model = build()
            return model, nnx.Optimizer(model, held, wrt=nnx.Param)

        self._mode = mode
        self._graph, shapes = nnx.split(nnx.eval_shape(both))
        self._template: Any = nnx.to_pure_dict(shapes)
        self._state = state

    def enter(self, state: Any) -> Any:
        """The state as what crosses jit."""
        leaves = named_leaves(state)
        filled = jax.tree_util.tree_map_with_path(
            lambda path, _: leaves[_name(path)], _plain(self._template)
        )
        params, step = filled.pop("params"), filled.pop("step")
        carried = nnx.merge(self._graph, {0: params, 1: {"step": step, "opt_state": filled}})
        return nnx.state(carried) if self._mode == "state" else carried

    def leave(self, carried: Any) -> Any:
        """The plain state that what crosses jit holds."""
        pure: Any = nnx.to_pure_dict(carried if self._mode == "state" else nnx.state(carried))
        leaves = named_leaves(_plain(pure))
        return jax.tree_util.tree_map_with_path(lambda path, _: leaves[_name(path)], self._state)

    def trace(self, step: Step, batch: Any, everywhere: jax.sharding.Sharding) -> Any:
        """The trace of a step of plain trees around which the state is carried; it is donated.

        The metrics end `everywhere`. `call` runs what the trace is compiled into.
        """
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self._state)

        def inside(carried: Any, batch: Any) -> tuple[Any, Any]:
            state, metrics = step(self.leave(carried), batch)
            state = jax.lax.with_sharding_constraint(state, shardings)
            return self.enter(state), jax.lax.with_sharding_constraint(metrics, everywhere)

        def update(model: nnx.Module, optimizer: nnx.Optimizer[nnx.Module], batch: Any) -> Any:
            carried, metrics = inside((model, optimizer), batch)
            nnx.update((model, optimizer), nnx.state(carried))
            return metrics

        shapes = self.enter(self._state)
        if self._mode == "state":
            return jax.jit(inside, donate_argnums=0).trace(shapes, batch)
        return nnx.jit(update, donate_argnums=(0, 1)).trace(*shapes, batch)

    def call(self, compiled: Any) -> Step:
        """A compiled step as a function of what crosses jit."""

        def step(carried: Any, batch: Any) -> tuple[Any, Any]:
            if self._mode == "state":
                return tuple(compiled(carried, batch))
            return carried, compiled(*carried, batch)  # model and optimizer are changed in place

        return step


def _never_called(*_: Any) -> Any:
    raise TypeError("the state is carried, the mathematics is the train step's")


def _plain(pure: Any) -> dict[str, Any]:
    """Model and nnx.Optimizer as the entries of the state that they hold."""
    return {"params": pure[0], "step": pure[1]["step"], **pure[1]["opt_state"]}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
