"""The parameter table: the path, shape and logical axes of every array of the GPT."""

from typing import Any

from models.gpt.config import ModelConfig
from models.shared.partitioning import Axes
from models.shared.tables import Parameter, axes_of

LAYER_AXIS = 0  # where the scanned layers are stacked in every array under decoder/layers


def parameter_table(config: ModelConfig) -> dict[str, Any]:
    """Every parameter, as the tree that both implementations hold, with all layers in one stage."""
    D, L, F, V, T = config.embed, config.layers, config.mlp, config.vocab, config.places
    N, H = config.heads, config.head_dim

    def stacked(shape: tuple[int, ...], axes: Axes) -> Parameter:
        return Parameter((L, 1, *shape), ("layers", "stage", *axes))

    norm = {"scale": stacked((D,), ("norm",)), "bias": stacked((D,), ("norm",))}
    layer = {
        "pre_attention_norm": norm,
        "self_attention": {
            "qkv": {
                "kernel": stacked((D, N, 3, H), ("embed", "heads", "qkv", "kv")),
                "bias": stacked((N, 3, H), ("heads", "qkv", "kv")),
            },
            "out": {
                "kernel": stacked((N, H, D), ("heads", "kv", "embed")),
                "bias": stacked((D,), ("norm",)),
            },
        },
        "pre_mlp_norm": norm,
        "mlp": {
            "wi": {
                "kernel": stacked((D, F), ("embed", "mlp")),
                "bias": stacked((F,), ("mlp",)),
            },
            "wo": {
                "kernel": stacked((F, D), ("mlp", "embed")),
                "bias": stacked((D,), ("norm",)),
            },
        },
    }
    return {
        "token_embedder": {"embedding": Parameter((V, D), ("table_rows", "embed_vocab"))},
        "position_embedder": {"embedding": Parameter((T, D), ("position", "embed_vocab"))},
        "decoder": {
            "layers": layer,
            "final_norm": {
                "scale": Parameter((D,), ("norm",)),
                "bias": Parameter((D,), ("norm",)),
            },
        },
    }


def logical_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with a tuple of logical axis names in place of each array."""
    return axes_of(parameter_table(config))
