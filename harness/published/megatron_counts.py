"""What a Megatron-LM run should hold, counted from its arguments: parameters and optimizer bytes.

For GPT-like models without experts or multi-latent attention. Megatron's own estimate, which its
logs print, leaves out biases, positions and what the layers of one shard hold beyond a fair share;
`rank_parameters` counts everything.
"""

from collections.abc import Mapping
from typing import Any

Arguments = Mapping[str, Any]


def is_covered(arguments: Arguments) -> bool:
    """Whether the counts below hold for a model with these arguments."""
    sizes = ["ffn_hidden_size", "kv_channels"]
    if arguments.get("group_query_attention"):
        sizes.append("num_query_groups")
    if arguments.get("position_embedding_type") == "learned_absolute":
        sizes.append("max_position_embeddings")
    return (
        all(type(arguments.get(key)) is int and arguments[key] > 0 for key in sizes)
        and arguments["num_layers"] % arguments["pipeline_model_parallel_size"] == 0
        and not any(arguments.get(key) for key in ("num_experts", "multi_latent_attention"))
    )


def rank_parameters(arguments: Arguments, padded_vocab: int, stage: int) -> int:
    """What one rank of a pipeline stage holds: its part of its layers, and of what the ends have.

    A norm and a bias that follows a split matrix are whole on every rank.
    """
    parts = arguments["tensor_model_parallel_size"]
    stages = arguments["pipeline_model_parallel_size"]
    hidden = arguments["hidden_size"]
    norm = hidden * (2 if arguments.get("normalization") == "LayerNorm" else 1)
    count = arguments["num_layers"] // stages * _layer(arguments, norm, parts)
    embedding = padded_vocab * hidden // parts
    if stage == 0:
        count += embedding + _positions(arguments)
    if stage == stages - 1:
        # With several stages a tied embedding lies on both ends, as a copy.
        shared = stages == 1 and not arguments.get("untie_embeddings_and_output_weights")
        count += norm + (0 if shared else embedding)
    return count


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
    groups = arguments["num_query_groups"] if arguments.get("group_query_attention") else heads
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
    copies = arguments["data_parallel_size"]
    # Half precision: 2 bytes of weight, 4 of gradient, 12 of single precision copy and moments.
    each = 6 + 12 / copies if arguments.get("use_distributed_optimizer") else 18
    return {
        "Number of parameters in transformer block in billions": block / 1e9,
        "Number of parameters in embedding layers in billions": ends / 1e9,
        "Total number of parameters in billions": (block + ends) / 1e9,
        "Number of parameters in most loaded shard in billions": largest / 1e9,
        "Number of parameters in other shards in billions": block / stages / parts / 1e9,
        "Theoretical memory footprints: weight and optimizer": largest * each / 2**20,
    }


def _layer(arguments: Arguments, norm: int, parts: int) -> int:
    hidden, ffn = arguments["hidden_size"], arguments["ffn_hidden_size"]
    heads = arguments["num_attention_heads"]
    groups = arguments["num_query_groups"] if arguments.get("group_query_attention") else heads
    queries, keys = heads * arguments["kv_channels"], groups * arguments["kv_channels"]
    inputs = 2 * ffn if arguments.get("swiglu") else ffn
    split = hidden * (queries + 2 * keys) + queries * hidden + hidden * inputs + ffn * hidden
    biases = 0
    if arguments.get("add_bias_linear"):
        biases = (queries + 2 * keys + inputs) // parts + 2 * hidden
    return split // parts + biases + 2 * norm


def _positions(arguments: Arguments) -> int:
    if arguments.get("position_embedding_type") != "learned_absolute":
        return 0
    count: int = arguments["max_position_embeddings"] * arguments["hidden_size"]
    return count
