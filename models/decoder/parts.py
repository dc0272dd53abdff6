"""What the parts of the decoder are called in a compiled program."""

# Part -> words of an operation's path: modules, named scopes, arrays, and JAX's own operations.
PARTS: dict[str, tuple[str, ...]] = {
    "attention": ("query", "key", "value", "out", "rope", "attention"),
    "mlp": ("wi_0", "wi_1", "wo"),
    "norm": ("norm", "scale"),
    "dropout": ("dropout",),
    "embedding": ("embedding", "gather", "scatter-add"),
    "head": ("logits", "logits_dense"),
}
