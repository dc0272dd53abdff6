"""What each of AXLearn's layers holds, as it builds them from a configuration: a rule per class.

A rule gives the numbers in a layer's own arrays, and the layers within it with the sizes that it
gives them. Where a text names no class, the plain one that the rule around it says is taken.
"""

from collections.abc import Callable

from harness.published.axlearn_arrays import ARRAYS, Contents
from harness.published.axlearn_layer import Layer, Uncountable

_NORMS_OF_STRUCTURE = {"prenorm": 1, "postnorm": 1, "hybridnorm": 2, "nonorm": 0}


def heads(attention: Layer) -> tuple[int, int]:
    """An attention's heads, and the width of each."""
    number = attention.size("num_heads")
    width = attention.size("hidden_dim", attention.size("query_dim"))
    if width % number:
        raise Uncountable(f"{attention.path}: {width} is not a multiple of {number} heads")
    return number, width // number


def _model(layer: Layer) -> Contents:
    yield layer.child("decoder", "Decoder")


def _decoder(layer: Layer) -> Contents:
    vocab, dim = layer.size("vocab_size"), layer.size("dim")
    yield layer.child("emb", "TransformerTextEmbeddings", dim=dim, vocab_size=vocab)
    yield layer.child("transformer", "RepeatedTransformerLayer", input_dim=dim)
    if not _is_none(layer, "output_norm"):
        yield layer.child("output_norm", "RMSNorm", input_dim=dim)
    if layer.has("lm_head"):
        yield layer.child("lm_head", "LmHead", vocab_size=vocab, embedding_dim=dim)


def _embeddings(layer: Layer) -> Contents:
    dim = layer.size("dim")
    yield layer.child("token_emb", "Embedding", dim=dim, num_embeddings=layer.size("vocab_size"))
    for name in ("type_emb", "pos_emb"):
        if layer.has(name):
            yield layer.child(name, dim=dim)
    if layer.has("norm"):
        yield layer.child("norm", "RMSNorm", input_dim=dim)


def _stack(layer: Layer) -> Contents:
    """Equal layers, or a list of different ones."""
    dim, number = layer.size("input_dim"), layer.size("num_layers")
    different = list(layer.elements("layer"))
    if different and len(different) != number:
        raise Uncountable(f"{layer.path} lists {len(different)} of {number} layers")
    if different:
        listed = layer.child("layer")
        for name in different:
            yield listed.child(name, "TransformerLayer", input_dim=dim)
    else:
        yield layer.child("layer", "TransformerLayer", times=number, input_dim=dim)


def _pipeline(layer: Layer) -> Contents:
    """Stages of equal layers: `stage` says how a stage stacks them, `layer` what they are."""
    number, stages = layer.size("num_layers"), layer.size("num_stages")
    if number % stages:
        raise Uncountable(f"{layer.path}: {number} layers do not make {stages} equal stages")
    stage = layer.child("stage", times=0)
    if RULES.get(stage.told_class or "StackedTransformerLayer") is not _stack:
        raise Uncountable(f"{stage.path} is a {stage.told_class}, which is not known here")
    yield stage
    yield from _stack(layer)


def _transformer_layer(layer: Layer) -> Contents:
    dim = layer.size("input_dim")
    yield layer.child("self_attention", "TransformerAttentionLayer", target_dim=dim, source_dim=dim)
    if layer.has("cross_attention"):
        yield layer.child("cross_attention", "TransformerAttentionLayer", target_dim=dim)
    yield layer.child("feed_forward", "TransformerFeedForwardLayer", input_dim=dim)


def _attention_layer(layer: Layer) -> Contents:
    target, source = layer.size("target_dim"), layer.size("source_dim")
    yield from _norms(layer, target)
    yield from _gate(layer)
    yield layer.child(
        "attention",
        "MultiheadAttention",
        query_dim=target,
        key_dim=source,
        value_dim=source,
        output_dim=target,
    )


def _attention(layer: Layer) -> Contents:
    number, width = heads(layer)
    query, output = layer.size("query_dim"), layer.size("output_dim", layer.size("query_dim"))
    rotated = layer.child("input_linear").has("input_linear")
    yield layer.child(
        "input_linear",
        "RoFormerQKVLinear" if rotated else "QKVLinear",
        query_dim=query,
        key_dim=layer.size("key_dim"),
        value_dim=layer.size("value_dim"),
        num_heads=number,
        per_head_dim=width,
    )
    yield layer.child(
        "output_linear",
        "MultiheadOutputLinear",
        model_dim=output,
        num_heads=number,
        per_head_dim=width,
    )
    for name, plain in (("query_scale", "ScaleQuery"), ("key_scale", "ScaleKey")):
        yield layer.child(name, plain, per_head_dim=width)
    if layer.is_on("logit_sink"):
        yield number


def _head_scale(layer: Layer) -> Contents:
    width = layer.size("per_head_dim")
    if layer.has("norm"):
        yield layer.child("norm", "RMSNorm", input_dim=width)
    if layer.has("per_dim_scale"):
        yield layer.child("per_dim_scale", "PerDimScale", dim=width)


def _rotated_input(layer: Layer) -> Contents:
    """A projection whose queries and keys are rotated: what it holds, its inner projection does."""
    yield layer.child("input_linear", "QKVLinear", **layer.given)
    for name in ("query_scale", "key_scale"):
        if layer.has(name):
            yield layer.child(name, per_head_dim=layer.size("per_head_dim"))


def _input_projections(layer: Layer) -> Contents:
    """Separate projections of queries, keys and values."""
    number = layer.size("num_heads")
    kv_heads = layer.size("num_kv_heads", number)
    for dim, own in (("query_dim", number), ("key_dim", kv_heads), ("value_dim", kv_heads)):
        yield _input_projection(layer, layer.size(dim), own)


def _fused_input(layer: Layer) -> Contents:
    """Queries, keys and values out of one array."""
    number = layer.size("num_heads")
    yield _input_projection(
        layer, layer.size("query_dim"), number + 2 * layer.size("num_kv_heads", number)
    )


def _input_projection(layer: Layer, dim: int, number: int) -> Layer:
    return layer.child(
        "layer",
        "MultiheadInputLinear",
        model_dim=dim,
        num_heads=number,
        per_head_dim=layer.size("per_head_dim"),
    )


def _feed_forward(layer: Layer) -> Contents:
    dim, hidden = layer.size("input_dim"), layer.size("hidden_dim")
    yield from _norms(layer, dim)
    yield from _gate(layer)
    yield layer.child("linear1", "Linear", times=_inputs(layer), input_dim=dim, output_dim=hidden)
    yield layer.child("linear2", "Linear", input_dim=hidden, output_dim=dim)


def _experts(layer: Layer) -> Contents:
    """A mixture of experts: a router, and the matrices of every expert."""
    dim, hidden = layer.size("input_dim"), layer.size("hidden_dim")
    number = layer.size("num_experts")
    yield from _norms(layer, dim)
    yield from _gate(layer)
    yield dim * number + number * (_inputs(layer) + 1) * dim * hidden


def _inputs(layer: Layer) -> int:
    """The matrices that a gated activation has before it: one for each of its functions."""
    return len(list(layer.elements("activation"))) or 1


def _norms(layer: Layer, dim: int) -> Contents:
    """The norms of a residual layer, before it, after it or both."""
    structure = layer.value("structure") or "prenorm"
    if structure == "v2":
        table = layer.child("norm")
        for position in layer.elements("norm"):
            yield table.child(position, "RMSNorm", input_dim=dim)
    elif structure in _NORMS_OF_STRUCTURE:
        yield layer.child("norm", "RMSNorm", times=_NORMS_OF_STRUCTURE[structure], input_dim=dim)
    else:
        raise Uncountable(f"{layer.path}.structure is not known here")


def _gate(layer: Layer) -> Contents:
    if layer.value("residual_gate_init") is not None:  # whatever it begins with, it is one number
        yield 1


def _is_none(layer: Layer, name: str) -> bool:
    return name in layer.settings and layer.settings[name] is None


RULES: dict[str, Callable[[Layer], Contents]] = {
    "Model": _model,
    "Decoder": _decoder,
    "TransformerTextEmbeddings": _embeddings,
    "RepeatedTransformerLayer": _stack,
    "StackedTransformerLayer": _stack,
    "PipelinedTransformerLayer": _pipeline,
    "TransformerLayer": _transformer_layer,
    "TransformerAttentionLayer": _attention_layer,
    **dict.fromkeys(
        ("MultiheadAttention", "GroupedQueryAttention", "FlashAttention", "SigmoidAttention"),
        _attention,
    ),
    "RoFormerQKVLinear": _rotated_input,
    "QKVLinear": _input_projections,
    "GroupedQKVLinear": _input_projections,
    "FusedQKVLinear": _fused_input,
    "FusedGroupedQKVLinear": _fused_input,
    "ScaleQuery": _head_scale,
    "ScaleKey": _head_scale,
    "TransformerFeedForwardLayer": _feed_forward,
    "TransformerFeedForwardMoE": _experts,
    "TransformerFeedForwardDropFreeMoE": _experts,
    **ARRAYS,
}
