"""The arguments of a Megatron-LM run, as its log lists them."""

import re
from typing import Any

from harness.errors import UserError
from harness.published.document import Document, number

BEGIN = re.compile(r"--------- arguments ---------")

_END = re.compile(r"--------- end of arguments ---------")
_ARGUMENT = re.compile(r"(?m)^  ([a-z][A-Za-z0-9_]{0,79}) (?:\.{1,80})? ?(\S{1,40})$")
# The arguments taken over; everything else stays in the log.
_TAKEN = frozenset((
    "adam_beta1", "adam_beta2", "adam_eps", "add_bias_linear", "add_position_embedding",
    "apply_layernorm_1p", "attention_dropout", "bf16", "clip_grad", "context_parallel_size",
    "data_parallel_size", "expert_model_parallel_size", "ffn_hidden_size", "fp16", "fp8",
    "global_batch_size", "group_query_attention", "hidden_dropout", "hidden_size", "hysteresis",
    "init_method_std", "initial_loss_scale", "kv_channels", "loss_scale_window", "lr",
    "lr_decay_iters", "lr_decay_style", "lr_warmup_fraction", "lr_warmup_iters",
    "make_vocab_size_divisible_by", "max_position_embeddings", "micro_batch_size",
    "min_loss_scale", "min_lr", "multi_latent_attention", "norm_epsilon", "normalization",
    "num_attention_heads", "num_experts", "num_layers", "num_layers_per_virtual_pipeline_stage",
    "num_query_groups", "optimizer", "overlap_p2p_comm", "params_dtype",
    "pipeline_model_parallel_size", "position_embedding_type", "recompute_granularity",
    "rotary_base", "save_interval", "seed", "seq_length", "sequence_parallel", "swiglu",
    "tensor_model_parallel_size", "train_iters", "transformer_impl",
    "untie_embeddings_and_output_weights", "use_distributed_optimizer", "use_flash_attn",
    "virtual_pipeline_model_parallel_size", "weight_decay", "world_size",
))  # fmt: skip
# The only words that a value may be; anything else is a number, or not taken.
_WORDS: dict[str, Any] = {
    "True": True, "False": False, "None": None,
    **{word: word for word in (
        "LayerNorm", "RMSNorm", "adam", "sgd", "cosine", "linear", "constant",
        "inverse-square-root", "WSD", "learned_absolute", "rope", "none", "selective", "full",
        "local", "transformer_engine", "torch.float16", "torch.bfloat16", "torch.float32",
        "hybrid", "e4m3",
    )},
}  # fmt: skip
_NEEDED = (
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
    "train_iters",
)
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_FLOAT = re.compile(r"-?[0-9]{1,15}\.?[0-9]{0,20}(?:[eE][+-]?[0-9]{1,3})?")


def read(document: Document) -> dict[str, Any]:
    """The arguments taken over: known by name, and numbers or known words."""
    begin = BEGIN.search(document.text)
    end = _END.search(document.text, begin.end()) if begin else None
    if begin is None or end is None:
        raise UserError(f"{document.name}: the list of arguments has no end: cut short?")
    found = {}
    for match in _ARGUMENT.finditer(document.text, begin.end(), end.start()):
        name, text = match[1], match[2]
        if name not in _TAKEN:
            continue
        if text in _WORDS:
            found[name] = _WORDS[text]
        elif _INTEGER.fullmatch(text):
            found[name] = int(text)
        elif _FLOAT.fullmatch(text):
            found[name] = number(text)
    for name in _NEEDED:
        if type(found.get(name)) is not int or not 1 <= found[name] < 10**9:
            raise UserError(f"{document.name}: argument {name}: must be there, a positive number")
    if found["world_size"] % found["pipeline_model_parallel_size"]:
        raise UserError(f"{document.name}: world_size is no multiple of the pipeline's stages")
    return dict(sorted(found.items()))


def our_settings(arguments: dict[str, Any], vocab: int) -> dict[str, Any]:
    """The arguments that mean the same as settings of ours, under our keys."""
    get = arguments.get
    heads = arguments["num_attention_heads"]
    dtype = "bfloat16" if get("bf16") else "float16" if get("fp16") else "float32"
    settings = {
        "checkpoint.period": get("save_interval"),
        "data.global_batch": get("global_batch_size"),
        "data.sequence_length": get("seq_length"),
        "model.dropout_rate": get("hidden_dropout"),
        "model.dtype": dtype,
        "model.embed": get("hidden_size"),
        "model.head_dim": get("kv_channels"),
        "model.heads": heads,
        "model.kv_heads": get("num_query_groups") if get("group_query_attention") else heads,
        "model.layers": get("num_layers"),
        "model.mlp": get("ffn_hidden_size"),
        "model.norm_epsilon": get("norm_epsilon"),
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
