"""What a run begins with: its keys, and the variables of a fresh model."""

from typing import Any

import jax

from harness.cases import families
from harness.cases.settings import Case
from harness.terminal.errors import UserError
from models.seam import OWN, Implementation, Params, Variables


def seed_key(seed: jax.Array) -> jax.Array:
    """What a fresh model is drawn from."""
    return jax.random.key(seed, impl="threefry2x32")


def step_key(seed: jax.Array, step: Any) -> jax.Array:
    """What everything random in a step follows from."""
    return jax.random.fold_in(seed_key(seed), step)


def variables_of(made: Params | Variables) -> tuple[Params, Params | None]:
    """Parameters and model state of what an implementation's `init` made; None: it has no state."""
    return (made.params, made.model_state) if isinstance(made, Variables) else (made, None)


def variables(
    initial: Implementation, implementation: Implementation, model: Any, seed: jax.Array
) -> tuple[Params, Params | None]:
    """Parameters and model state of a fresh `initial`, with what `implementation` alone holds."""
    params, model_state = variables_of(initial.init(model, seed_key(seed)))
    if initial is not implementation and hasattr(implementation, "loss"):
        own = variables_of(implementation.init(model, seed_key(seed)))[1]
        model_state = _with_own(model_state, own)
    return params, model_state


def as_fresh(case: Case, model: Any, params: Params) -> Params:
    """Given parameters as fresh ones begin: what a step's own type makes of them."""
    dtype = families.of(case).compute_dtype(model)
    if dtype is None:
        return params
    return jax.tree.map(lambda leaf: leaf.astype(dtype).astype(leaf.dtype), params)


def _with_own(shared: Params | None, own: Params | None) -> Params | None:
    """The state of one implementation, with what another one alone holds in place of its own."""
    state = {name: tree for name, tree in (shared or {}).items() if name != OWN}
    if own is not None and OWN in own:
        state[OWN] = own[OWN]
    return state or None


def resolved(case: Case, platform: str) -> Any:
    """The model with "auto" settled; UserError for what the platform lacks."""
    try:
        return families.of(case).resolve(case.model, platform, case.data.sequence_length)
    except ValueError as error:
        raise UserError(f"model.{error}") from None
