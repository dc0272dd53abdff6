"""The dropouts and matmuls of the decoder: their keys, and how each matmul is computed."""

from collections.abc import Callable
from enum import IntEnum

import jax

from models.decoder.config import ModelConfig
from models.shared.partitioning import Axes
from models.shared.projection import GATHERED, Projection


class Site(IntEnum):
    """The dropouts and matmuls of the decoder; the last part of a random key's derivation."""

    EMBEDDING_DROPOUT = 0
    MLP_DROPOUT = 1
    LAYER_DROPOUT = 2
    HEAD_DROPOUT = 3
    QUERY = 4
    KEY = 5
    VALUE = 6
    OUT = 7
    WI_0 = 8
    WI_1 = 9
    WO = 10
    LOGITS = 11


_KERNEL_AXES: dict[Site, Axes] = {
    Site.QUERY: ("embed", "q_heads", "kv"),
    Site.KEY: ("embed", "kv_heads", "kv_head_dim"),
    Site.VALUE: ("embed", "kv_heads", "kv_head_dim"),
    Site.OUT: ("heads", "kv", "embed"),
    Site.WI_0: ("embed", "mlp"),
    Site.WI_1: ("embed", "mlp"),
    Site.WO: ("mlp", "embed"),
    Site.LOGITS: ("embed_vocab", "vocab"),
}
_NEVER_QUANTIZED = Site.LOGITS


def projection(config: ModelConfig, site: Site) -> Projection:
    """The `dot_general` of one matmul."""
    return Projection(
        quantization="none" if site == _NEVER_QUANTIZED else config.quantization,
        axes=_KERNEL_AXES[site],
        site=site,
        stochastic_rounding=config.stochastic_rounding,
        use_fwd_quant=config.use_fwd_quant,
    )


def remat_policy(config: ModelConfig) -> Callable[..., bool] | None:
    """What a layer keeps for its backward pass; None: nothing but its input."""
    if config.remat == "weights":
        policy: Callable[..., bool] = jax.checkpoint_policies.save_only_these_names(GATHERED)
        return policy
    return None
