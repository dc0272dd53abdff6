"""The parameter table against the reference's, written out."""

import numpy as np

from models.decoder.config import ModelConfig
from models.decoder.parameters import Parameter, logical_axes, parameter_table

D, L, N, H, F, V = 2048, 16, 16, 128, 7168, 32000
LAYERS, ATTENTION = "decoder/layers", "decoder/layers/self_attention"
REFERENCE = {
    "token_embedder/embedding": ((V, D), "vocab embed_vocab"),
    f"{LAYERS}/pre_self_attention_layer_norm/scale": ((D, L), "norm layers"),
    f"{ATTENTION}/query/kernel": ((D, L, N, H), "embed layers q_heads kv"),
    f"{ATTENTION}/key/kernel": ((D, L, 4, H), "embed layers kv_heads kv_head_dim"),
    f"{ATTENTION}/value/kernel": ((D, L, 4, H), "embed layers kv_heads kv_head_dim"),
    f"{ATTENTION}/out/kernel": ((N, L, H, D), "heads layers kv embed"),
    f"{LAYERS}/post_self_attention_layer_norm/scale": ((D, L), "norm layers"),
    f"{LAYERS}/mlp/wi_0/kernel": ((D, L, F), "embed layers mlp"),
    f"{LAYERS}/mlp/wi_1/kernel": ((D, L, F), "embed layers mlp"),
    f"{LAYERS}/mlp/wo/kernel": ((F, L, D), "mlp layers embed"),
    "decoder/decoder_norm/scale": ((D,), "norm"),
    "decoder/logits_dense/kernel": ((D, V), "embed_vocab vocab"),
}


def by_path(tree: object, path: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {path[1:]: tree}
    return {
        name: leaf
        for key, branch in tree.items()
        for name, leaf in by_path(branch, f"{path}/{key}").items()
    }


def test_every_parameter_has_the_references_path_shape_and_axes() -> None:
    expected = {
        path: Parameter(shape, tuple(axes.split())) for path, (shape, axes) in REFERENCE.items()
    }
    assert by_path(parameter_table(ModelConfig(kv_heads=4))) == expected


def test_the_logical_axes_are_the_tables() -> None:
    axes = {path: tuple(axes.split()) for path, (_, axes) in REFERENCE.items()}
    assert by_path(logical_axes(ModelConfig())) == axes


def test_full_size_has_the_published_number_of_parameters() -> None:
    table = by_path(parameter_table(ModelConfig()))
    assert sum(np.prod(leaf.shape) for leaf in table.values() if isinstance(leaf, Parameter)) == (
        1_104_218_112
    )
