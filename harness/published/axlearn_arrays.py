"""AXLearn's layers that hold arrays alone, or nothing: how many numbers follow from their sizes."""

import math
from collections.abc import Callable, Iterator

from harness.published.axlearn_layer import Layer

Contents = Iterator[int | Layer]


def _heads_in(layer: Layer) -> Contents:
    out = layer.size("num_heads") * layer.size("per_head_dim")
    yield layer.size("model_dim") * out + layer.is_on("bias") * out


def _heads_out(layer: Layer) -> Contents:
    dim = layer.size("model_dim")
    yield layer.size("num_heads") * layer.size("per_head_dim") * dim + layer.is_on("bias") * dim


def _linear(layer: Layer) -> Contents:
    out = layer.size("output_dim")
    yield layer.size("input_dim") * out + layer.is_on("bias") * out


def _norm(layer: Layer) -> Contents:
    yield layer.size("input_dim")


def _norm_with_bias(layer: Layer) -> Contents:
    yield 2 * layer.size("input_dim")


def _table(layer: Layer) -> Contents:
    yield layer.size("num_embeddings") * layer.size("dim")


def _positions(layer: Layer) -> Contents:
    shape = layer.child("shape")
    yield math.prod(shape.size(part) for part in layer.elements("shape")) * layer.size("dim")


def _output_table(layer: Layer) -> Contents:
    yield layer.size("vocab_size") * layer.size("embedding_dim")


def _per_dimension(layer: Layer) -> Contents:
    yield layer.size("dim")


def nothing(_: Layer) -> Contents:
    """A layer without arrays."""
    yield from ()


ARRAYS: dict[str, Callable[[Layer], Contents]] = {
    "Embedding": _table,
    "LearnedPositionalEmbedding": _positions,
    "LmHead": _output_table,
    "Linear": _linear,
    "MultiheadInputLinear": _heads_in,
    "MultiheadOutputLinear": _heads_out,
    "PerDimScale": _per_dimension,
    "RMSNorm": _norm,
    "LayerNorm": _norm_with_bias,
    **dict.fromkeys(
        (
            "ALiBiAttentionLogitBiasLayer", "AuxLossMetrics", "CausalAttentionLogitBiasLayer",
            "CompositeLossMetrics", "ConstantInitializer", "CrossEntropyLossMetrics",
            "DecodingLayer", "DefaultInitializer", "Dropout", "FullAttentionLogitBiasLayer",
            "GPipeSchedule", "GaussianInitializer", "KVCache", "RMSNormStateless",
            "LayerNormStateless", "RoFormerSinusoidalPositionalEmbedding",
            "SinusoidalPositionalEmbedding", "StochasticDepth", "StreamSchedule",
            "SymmetricALiBiAttentionLogitBiasLayer", "Top2Gating", "TopKDropFreeGating",
            "TopKGating", "WeightInitializer", "_TransformerPipeline", "_TransformerRepeat",
        ),
        nothing,
    ),
}  # fmt: skip
