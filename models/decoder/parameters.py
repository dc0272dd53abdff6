"""The parameter table: the path, shape and logical axes of every array of the decoder."""

from typing import Any

from models.decoder.config import ModelConfig
from models.shared.tables import Parameter, axes_of

LAYER_AXIS = 1  # where the scanned layers are stacked in every array under decoder/layers


def parameter_table(config: ModelConfig) -> dict[str, Any]:
    """Every parameter, as the tree that both implementations hold."""
    D, L, F, V = config.embed, config.layers, config.mlp, config.vocab
    N, K, H = config.heads, config.kv_heads, config.head_dim
    norm = {"scale": Parameter((D, L), ("norm", "layers"))}
    key_value = Parameter((D, L, K, H), ("embed", "layers", "kv_heads", "kv_head_dim"))
    widen = Parameter((D, L, F), ("embed", "layers", "mlp"))
    return {
        "token_embedder": {"embedding": Parameter((V, D), ("vocab", "embed_vocab"))},
        "decoder": {
            "layers": {
                "pre_self_attention_layer_norm": norm,
                "self_attention": {
                    "query": {
                        "kernel": Parameter((D, L, N, H), ("embed", "layers", "q_heads", "kv"))
                    },
                    "key": {"kernel": key_value},
                    "value": {"kernel": key_value},
                    "out": {"kernel": Parameter((N, L, H, D), ("heads", "layers", "kv", "embed"))},
                },
                "post_self_attention_layer_norm": norm,
                "mlp": {
                    "wi_0": {"kernel": widen},
                    "wi_1": {"kernel": widen},
                    "wo": {"kernel": Parameter((F, L, D), ("mlp", "layers", "embed"))},
                },
            },
            "decoder_norm": {"scale": Parameter((D,), ("norm",))},
            "logits_dense": {"kernel": Parameter((D, V), ("embed_vocab", "vocab"))},
        },
    }


def logical_axes(config: ModelConfig) -> dict[str, Any]:
    """The parameters' tree with a tuple of logical axis names in place of each array."""
    return axes_of(parameter_table(config))
