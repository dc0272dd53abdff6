"""The parameter table: the path, shape and logical axes of every array of the Honeycrisp."""

from typing import Any

from models.honeycrisp.config import ModelConfig
from models.shared.partitioning import Axes
from models.shared.tables import Parameter, axes_of

LAYER_AXIS = 0  # where the scanned layers are stacked in every array under repeat/layer

# The logical axes of the weights, those of the layers as one layer sees them.
TABLE: Axes = ("table_rows", "table_columns")
QKV: Axes = ("embed", "heads", "kv")
OUT: Axes = ("embed", "heads", "kv")  # the output first
WIDEN: Axes = ("embed", "mlp")
NARROW: Axes = ("mlp", "embed")


def parameter_table(config: ModelConfig) -> dict[str, Any]:
    """Every parameter, as the tree that both implementations hold."""
    D, L, F, V = config.embed, config.layers, config.mlp, config.vocab
    N, K, H = config.heads, config.kv_heads, config.head_dim

    def stacked(name: str, shape: tuple[int, ...], axes: Axes) -> dict[str, Parameter]:
        return {name: Parameter((L, *shape), ("layers", *axes))}

    norm = stacked("scale", (D,), ("norm",))
    head_norm = {"norm": stacked("scale", (H,), ("norm",))}
    layer = {
        "self_attention": {
            "norm": norm,
            "attention": {
                "i_proj": {"i_proj": {"qkv_proj": stacked("weight", (D, N + 2 * K, H), QKV)}},
                "scale_query": head_norm,
                "scale_key": head_norm,
                "o_proj": stacked("weight", (D, N, H), OUT),
            },
        },
        "feed_forward": {
            "norm": norm,
            "linear1_0": stacked("weight", (D, F), WIDEN),
            "linear1_1": stacked("weight", (D, F), WIDEN),
            "linear2": stacked("weight", (F, D), NARROW),
        },
    }
    return {
        "decoder": {
            "emb": {"token_emb": {"weight": Parameter((V, D), TABLE)}},
            "transformer": {"repeat": {"layer": layer}},
            "output_norm": {"scale": Parameter((D,), ("norm",))},
        }
    }


def logical_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with a tuple of logical axis names in place of each array."""
    return axes_of(parameter_table(config))
