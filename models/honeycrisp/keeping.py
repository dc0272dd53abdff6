"""What a layer of the Honeycrisp keeps for its backward pass."""

from collections.abc import Callable

import jax

from models.honeycrisp.config import ModelConfig
from models.shared.grouped import CONTEXT

# AXLearn's names of what its configuration keeps; queries and keys as they are before their norms.
QUERY, KEY, VALUE, OUT = "q_proj", "k_proj", "v_proj", "o_proj"
_PROJECTIONS = (QUERY, KEY, VALUE, CONTEXT, OUT)


def remat_policy(config: ModelConfig) -> Callable[..., bool] | None:
    """The policy of `config.remat`; None: nothing but the layer's input is kept.

    A kernel's result is not that of a matrix product; it is kept with them, by its name.
    """
    policies = jax.checkpoint_policies
    kept: dict[str, Callable[..., bool]] = {
        "projections": policies.save_only_these_names(*_PROJECTIONS),
        "dots": policies.save_from_both_policies(
            policies.dots_saveable, policies.save_only_these_names(CONTEXT)
        ),
    }
    return kept.get(config.remat)
