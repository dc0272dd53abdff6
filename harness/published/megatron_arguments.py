"""The arguments of a Megatron-LM run, as its log lists them."""

import re
from typing import Any

from harness.published.document import Document, number
from harness.terminal.errors import UserError

BEGIN = re.compile(r"------ arguments -------")

_END = re.compile(r"------ end of arguments -------")
_ARGUMENT = re.compile(
    r"(?m)^[ \t>#]{0,12}([a-z][A-Za-z0-9_]{0,79}) (?:\.{1,80})? ?(\S[^\n]{0,400}?)[ \t]{0,9}$"
)
# The arguments taken over; everything else stays in the log.
_TAKEN = frozenset((
    "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split",
    "adam_beta1", "adam_beta2", "adam_eps", "add_bias_linear", "add_position_embedding",
    "add_qkv_bias", "apply_layernorm_1p", "attention_dropout", "attention_output_gate", "bf16",
    "clip_grad", "context_parallel_size", "data_parallel_size",
    "decoder_first_pipeline_num_layers", "decoder_last_pipeline_num_layers", "embed_layernorm",
    "experimental_attention_variant", "expert_model_parallel_size",
    "expert_tensor_parallel_size", "ffn_hidden_size", "fp16", "fp8", "global_batch_size",
    "glu_activation", "group_query_attention", "heterogeneous_layers_config_path",
    "hidden_dropout", "hidden_size", "hybrid_attention_ratio", "hybrid_mlp_ratio",
    "hybrid_override_pattern", "hysteresis", "init_method_std", "initial_loss_scale",
    "is_hybrid_model", "kv_channels", "layernorm_epsilon", "log_interval", "loss_scale_window",
    "lr", "lr_decay_iters", "lr_decay_samples", "lr_decay_style", "lr_warmup_fraction",
    "lr_warmup_iters", "make_vocab_size_divisible_by", "max_position_embeddings",
    "micro_batch_size", "min_loss_scale", "min_lr", "moe_ffn_hidden_size", "moe_layer_freq",
    "moe_router_topk", "mtp_num_layers", "multi_latent_attention", "norm_epsilon",
    "normalization", "num_attention_heads", "num_experts", "num_layers",
    "num_layers_per_virtual_pipeline_stage", "num_query_groups", "optimizer",
    "overlap_p2p_comm", "padded_vocab_size", "params_dtype", "pipeline_model_parallel_size",
    "position_embedding_type", "qk_layernorm", "recompute_granularity", "rotary_base",
    "save_interval", "seed", "seq_length", "sequence_parallel", "softmax_type", "swiglu",
    "tensor_model_parallel_size", "train_iters", "train_samples", "transformer_impl",
    "untie_embeddings_and_output_weights", "use_distributed_optimizer", "use_flash_attn",
    "use_rotary_position_embeddings", "virtual_pipeline_model_parallel_size", "weight_decay",
    "world_size",
))  # fmt: skip
# The only words that a value may be; anything else is a number, or not taken.
_WORDS: dict[str, Any] = {
    "True": True, "False": False, "None": None,
    **{word: word for word in (
        "LayerNorm", "RMSNorm", "adam", "sgd", "cosine", "linear", "constant",
        "inverse-square-root", "WSD", "learned_absolute", "rope", "none", "selective", "full",
        "local", "transformer_engine", "torch.float16", "torch.bfloat16", "torch.float32",
        "hybrid", "e4m3", "geglu", "liglu", "reglu", "swiglu", "vanilla", "learnable",
    )},
    "PositionEmbeddingType.rotary": "rope", "PositionEmbeddingType.absolute": "learned_absolute",
    "PositionEmbeddingType.alibi": "alibi", "alibi": "alibi", "relative": "relative",
    "mrope": "mrope", "yarn": "yarn", "rmsnorm": "RMSNorm", "layernorm": "LayerNorm",
}  # fmt: skip
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_FLOAT = re.compile(r"-?[0-9]{1,15}\.?[0-9]{0,20}(?:[eE][+-]?[0-9]{1,3})?")
# DeepSpeed lists the experts of each layer; of all layers alike, or not taken.
_ONE_IN_A_LIST = re.compile(r"\[([0-9]{1,6})\]")
_COUNTS = (
    "world_size",
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "data_parallel_size",
    "num_layers",
    "hidden_size",
    "num_attention_heads",
    "seq_length",
    "global_batch_size",
    "micro_batch_size",
    "log_interval",
)


def read(document: Document, text: str) -> tuple[dict[str, Any], frozenset[str]]:
    """The arguments taken over: known by name, and numbers or known words; {} without a list.

    Beside them the names of those whose value is neither. Raises UserError where the list has no
    end, or a size in it cannot be one.
    """
    begin = BEGIN.search(text)
    if begin is None:
        return {}, frozenset()
    end = _END.search(text, begin.end())
    if end is None:
        raise UserError(f"{document.name}: the list of arguments has no end: cut short?")
    found: dict[str, Any] = {}
    unread = []
    for match in _ARGUMENT.finditer(text, begin.end(), end.start()):
        if match[1] in _TAKEN:
            try:
                found[match[1]] = _value(match[2])
            except ValueError:
                unread.append(match[1])
    for name in _COUNTS:
        if name in found and (type(found[name]) is not int or not 1 <= found[name] < 10**9):
            raise UserError(f"{document.name}: argument {name}: must be a positive number")
    stages = found.get("pipeline_model_parallel_size", 1)
    if found.get("world_size", stages) % stages:
        raise UserError(f"{document.name}: world_size is not a multiple of the pipeline's stages")
    return dict(sorted(found.items())), frozenset(unread)


def _value(text: str) -> Any:
    """Raises ValueError for what is no number and no known word."""
    if text in _WORDS:
        return _WORDS[text]
    one = _ONE_IN_A_LIST.fullmatch(text)
    if one or _INTEGER.fullmatch(text):
        return int(one[1] if one else text)
    if _FLOAT.fullmatch(text) is None:
        raise ValueError
    return number(text)


def our_settings(arguments: dict[str, Any], vocab: int) -> dict[str, Any]:
    """The arguments that mean the same as settings of ours, under our keys."""
    get = arguments.get
    heads = get("num_attention_heads")
    dtype = "bfloat16" if get("bf16") else "float16" if get("fp16") else "float32"
    settings = {
        "checkpoint.period": get("save_interval"),
        "data.global_batch": get("global_batch_size"),
        "data.sequence_length": get("seq_length"),
        "model.dropout_rate": get("hidden_dropout"),
        "model.dtype": dtype if arguments else None,
        "model.embed": get("hidden_size"),
        "model.head_dim": get("kv_channels"),
        "model.heads": heads,
        "model.kv_heads": get("num_query_groups") if get("group_query_attention") else heads,
        "model.layers": get("num_layers"),
        "model.mlp": get("ffn_hidden_size"),
        "model.norm_epsilon": get("norm_epsilon", get("layernorm_epsilon")),
        "model.vocab": vocab or None,
        "optim.b1": get("adam_beta1"),
        "optim.b2": get("adam_beta2"),
        "optim.clip_norm": get("clip_grad"),
        "optim.epsilon": get("adam_eps"),
        "optim.learning_rate": get("lr"),
        "optim.schedule_steps": get("lr_decay_iters"),
        "optim.warmup_fraction": get("lr_warmup_fraction"),
        "optim.weight_decay": get("weight_decay"),
        "run.seed": get("seed"),
        "run.steps": get("train_iters"),
    }
    return {key: value for key, value in settings.items() if value is not None}
