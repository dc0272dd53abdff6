"""The matrix products of a transformer with grouped heads."""

from typing import Protocol


class Dimensions(Protocol):
    """The sizes that make up the count."""

    @property
    def embed(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def mlp(self) -> int: ...
    @property
    def vocab(self) -> int: ...


def tflop_per_step(
    model: Dimensions, sequence_length: int, per_device_batch: int, matrices_of_mlp: int = 3
) -> tuple[float, float]:
    """The matrix products of one training step with causal attention, and attention's percentage.

    Each product is done once forward and twice backward. Norms, rotations, softmax and the
    optimizer are left out, as in every published MFU; of attention, the half below the diagonal.
    matrices_of_mlp: of one that is gated three, of others two.
    """
    tokens = per_device_batch * sequence_length
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    # Multiplications per token and layer: the MLP; query, key, value, out.
    layer = matrices_of_mlp * model.embed * model.mlp + model.embed * (2 * queries + 2 * keys)
    products = model.layers * layer + model.embed * model.vocab
    # Every position meets half of all positions on average, in scores and in values.
    attended = model.layers * 2 * queries * sequence_length / 2
    weights, attention = (3 * 2 * tokens * count for count in (products, attended))
    total = weights + attention
    return total / 1e12, 100 * attention / total
