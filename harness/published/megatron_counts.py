"""What a Megatron-LM run should hold, counted from its arguments: parameters and optimizer bytes.

For GPT-like models without experts or multi-latent attention. Megatron's own estimate, which its
logs print, leaves out biases, positions and what the layers of one shard hold beyond a fair share;
`rank_parameters` counts everything. An argument that a version does not print yet has the meaning
that this version had without it: layer norms, biases everywhere, learned positions.
"""

from collections.abc import Collection, Mapping
from typing import Any

Arguments = Mapping[str, Any]

_SIZES = (
    "num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "kv_channels",
    "tensor_model_parallel_size", "pipeline_model_parallel_size",
)  # fmt: skip
# What a model may have that is not counted here.
_OTHERS = (
    "attention_output_gate", "embed_layernorm",
    "experimental_attention_variant", "glu_activation", "heterogeneous_layers_config_path",
    "hybrid_attention_ratio", "hybrid_mlp_ratio", "hybrid_override_pattern", "is_hybrid_model",
    "mtp_num_layers", "multi_latent_attention",
)  # fmt: skip
# Whose value must have been understood before anything is counted.
_DECISIVE = frozenset((
    *_SIZES, *_OTHERS, "add_bias_linear", "add_position_embedding", "add_qkv_bias",
    "group_query_attention", "max_position_embeddings", "normalization", "num_experts",
    "num_query_groups", "position_embedding_type", "qk_layernorm", "softmax_type", "swiglu",
    "untie_embeddings_and_output_weights", "use_rotary_position_embeddings",
))  # fmt: skip


def why_not_counted(arguments: Arguments, unread: Collection[str], vocab: int) -> str | None:
    """Why the counts below do not hold for a model with these arguments, None when they do."""
    if not arguments:
        return "the log does not list the arguments"
    if not vocab:
        return "the log does not tell the padded vocabulary"
    sizes = [*_SIZES]
    if arguments.get("group_query_attention"):
        sizes.append("num_query_groups")
    if _has_positions(arguments):
        sizes.append("max_position_embeddings")
    for key in sizes:
        if type(arguments.get(key)) is not int or arguments[key] < 1:
            return f"the log does not tell {key}"
    not_understood = sorted(_DECISIVE.intersection(unread))
    if not_understood:
        return f"the value of {not_understood[0]} is not understood"
    if _experts(arguments):
        return "the model is a mixture of experts"
    other = next((key for key in _OTHERS if _is_on(arguments.get(key))), None)
    if other or arguments.get("softmax_type", "vanilla") not in ("vanilla", None):
        return f"what {other or 'softmax_type'} adds is not counted here"
    uneven = arguments["num_layers"] % arguments["pipeline_model_parallel_size"] or any(
        _is_on(arguments.get(key))
        for key in (
            "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split",
            "decoder_first_pipeline_num_layers", "decoder_last_pipeline_num_layers",
        )
    )  # fmt: skip
    return "the pipeline's stages hold different numbers of layers" if uneven else None


def lies_on_one_rank(arguments: Arguments) -> bool:
    """Whether each rank holds the whole model, so that its own count is the model's."""
    split = ("tensor_model_parallel_size", "pipeline_model_parallel_size")
    whole = all(arguments.get(key) == 1 for key in split)
    # A mixture's experts may lie apart; only newer versions say.
    return whole and (not _experts(arguments) or arguments.get("expert_model_parallel_size") == 1)


def rank_parameters(arguments: Arguments, padded_vocab: int, stage: int) -> int:
    """What one rank of a pipeline stage holds: its part of its layers, and of what the ends have.

    A norm and a bias that follows a split matrix are whole on every rank.
    """
    parts = arguments["tensor_model_parallel_size"]
    stages = arguments["pipeline_model_parallel_size"]
    hidden = arguments["hidden_size"]
    norm = hidden * _norm_arrays(arguments)
    count = arguments["num_layers"] // stages * _layer(arguments, norm, parts)
    embedding = padded_vocab * hidden // parts
    if stage == 0:
        count += embedding
        if _has_positions(arguments):
            count += arguments["max_position_embeddings"] * hidden
    if stage == stages - 1:
        # With several stages a tied embedding lies on both ends, as a copy.
        shared = stages == 1 and not arguments.get("untie_embeddings_and_output_weights")
        count += norm + (0 if shared else embedding)
    return int(count)


def total_parameters(arguments: Arguments, padded_vocab: int) -> int:
    """Parameters of the model, each once."""
    whole = {**arguments, "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1}
    return rank_parameters(whole, padded_vocab, 0)


def theory(arguments: Arguments, padded_vocab: int) -> dict[str, float]:
    """Megatron's own estimate, by the log's words: billions, and MiB of one rank."""
    hidden, layers = arguments["hidden_size"], arguments["num_layers"]
    parts, stages = (
        arguments["tensor_model_parallel_size"],
        arguments["pipeline_model_parallel_size"],
    )
    heads = arguments["num_attention_heads"]
    groups = _groups(arguments)
    width = arguments["kv_channels"] * heads / hidden  # of all heads, in hidden sizes
    wide = arguments["ffn_hidden_size"] / hidden * (1.5 if arguments.get("swiglu") else 1)
    block = 2 * layers * hidden**2 * (
        (1 + groups / heads) * width + wide + 2 / hidden + 1 / (layers * hidden)
    )  # fmt: skip
    embedding = padded_vocab * hidden
    ends = embedding * (2 if arguments.get("untie_embeddings_and_output_weights") else 1)
    largest = (block / stages + embedding) / parts
    if stages == 1:
        largest = (block + ends) / parts
    estimates = {
        "Number of parameters in transformer block in billions": block / 1e9,
        "Number of parameters in embedding layers in billions": ends / 1e9,
        "Total number of parameters in billions": (block + ends) / 1e9,
        "Number of parameters in most loaded shard in billions": largest / 1e9,
        "Number of parameters in other shards in billions": block / stages / parts / 1e9,
    }
    copies = arguments.get("data_parallel_size")
    if copies:
        # Half precision: 2 bytes of weight, 4 of gradient, 12 of single precision copy and moments.
        each = 6 + 12 / copies if arguments.get("use_distributed_optimizer") else 18
        estimates["Theoretical memory footprints: weight and optimizer"] = largest * each / 2**20
    return estimates


def _layer(arguments: Arguments, norm: int, parts: int) -> int:
    hidden, ffn = arguments["hidden_size"], arguments["ffn_hidden_size"]
    width = arguments["kv_channels"]
    queries, keys = arguments["num_attention_heads"] * width, _groups(arguments) * width
    inputs = 2 * ffn if arguments.get("swiglu") else ffn
    split = hidden * (queries + 2 * keys) + queries * hidden + hidden * inputs + ffn * hidden
    biases = 0
    if arguments.get("add_bias_linear", True):
        biases = (queries + 2 * keys + inputs) // parts + 2 * hidden
    elif arguments.get("add_qkv_bias"):
        biases = (queries + 2 * keys) // parts
    head_norms = 2 * width * _norm_arrays(arguments) if arguments.get("qk_layernorm") else 0
    return int(split // parts + biases + head_norms + 2 * norm)


def _norm_arrays(arguments: Arguments) -> int:
    """A scale, and a shift where the norm is no root mean square."""
    return 2 if arguments.get("normalization", "LayerNorm") == "LayerNorm" else 1


def _groups(arguments: Arguments) -> int:
    key = "num_query_groups" if arguments.get("group_query_attention") else "num_attention_heads"
    return int(arguments[key])


def _has_positions(arguments: Arguments) -> bool:
    """Whether the embedding has an array of learned positions."""
    kind = arguments.get("position_embedding_type")
    if kind is None:
        kind = "rope" if arguments.get("use_rotary_position_embeddings") else "learned_absolute"
    return kind == "learned_absolute" and arguments.get("add_position_embedding", True) is True


def _experts(arguments: Arguments) -> bool:
    """Whether there are several experts; DeepSpeed lists one of a model without any."""
    return bool(arguments.get("num_experts")) and arguments["num_experts"] != 1


def _is_on(value: Any) -> bool:
    return value not in (None, False, 0, "none")
