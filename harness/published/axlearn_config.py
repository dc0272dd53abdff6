"""A golden configuration of AXLearn: one trainer, flattened to lines of `dotted.path: value`."""

import re
from typing import Any

from harness.cases import reading
from harness.errors import UserError
from harness.published.document import Document, Imported, blank, facing, figure

KIND = "AXLearn configuration"
SIGN = re.compile(r"(?m)^[A-Za-z0-9_.]{0,80}klass: 'axlearn\.")

Flat = dict[str, Any]

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]'*$-]{0,299}")
_INTEGER = re.compile(r"-?[0-9]{1,15}")
_FLOAT = re.compile(r"-?[0-9]{1,15}\.?[0-9]{0,20}(?:e[+-]?[0-9]{1,3})?")
_WORDS = {"True": True, "False": False, "None": None}
# The settings whose value is a text, and the texts taken: no address, account or path of a user.
_TEXT_KEYS = frozenset((
    "activation", "add_value_rms_norm_summary", "batch_axis_names", "dataset_name", "description",
    "distribution", "fan", "klass", "logits_partition_spec", "mesh_axis_names", "mesh_rules",
    "mode", "model_method", "name", "names_which_can_be_saved", "offload_dst", "offload_src",
    "output_partition_spec", "param_partition_spec", "replace_newlines_with", "rules",
    "scale_by_path", "sentencepiece_model_name", "seq_axis_names", "split", "structure",
))  # fmt: skip
_TEXT_KEY_ENDS = ("fn", "dtype")
_TEXT = re.compile(r"(?![/~])(?!.*(?://|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]))[\w.*()|\[\]:/<>$-]{0,200}")

_LAYER = "model.decoder.transformer.layer."
_ATTENTION = _LAYER + "self_attention.attention."
_UPDATE = "learner.optimizer.inner."
_NEEDED = (
    "model.decoder.dim",
    "model.decoder.vocab_size",
    "model.decoder.transformer.num_layers",
    _LAYER + "feed_forward.hidden_dim",
    _ATTENTION + "num_heads",
    "train_dtype",  # the last line of every such file
)
_BASELINE = "01_baseline"


def read(document: Document) -> Imported:
    """The record of a configuration; raises UserError for a line that is none, or one missing."""
    flat, left_out = _flat(document)
    for key in _NEEDED:
        if key not in flat:
            raise UserError(f"{document.name}: no line {key!r}: cut short?")
    for key in _NEEDED[:-1]:
        if type(flat[key]) is not int or not 1 <= flat[key] < 10**9:
            raise UserError(f"{document.name}: {key}={flat[key]!r}: must be a positive number")
    parameters = count_parameters(flat)
    settings = our_settings(flat)
    record = blank(
        document,
        f"published-axlearn-{parameters / 1e9:.2f}B",
        KIND,
        figures=[figure("parameters", "counted from the dimensions", None, parameters)],
        explanation="A configuration, not a run: nothing in it was measured.",
        settings=settings,
    )
    record["case"]["config"] = flat
    record["model"]["parameters"] = parameters
    record["warnings"] = [
        "a configuration, not a run: all that a run measures is null",
        "the parameters are counted from the dimensions: the configuration does not say them",
    ]
    if left_out:
        record["warnings"].append(
            f"{left_out} settings hold texts that are not taken over: null in case.config"
        )
    ours = reading.flatten(reading.load(_BASELINE))
    findings = [
        f"parameters, from the dimensions: {parameters:,}",
        f"settings that {_BASELINE} has too:",
        *facing(ours, settings),
        "there the update's weight decay is not multiplied by the learning rate, ours is",
    ]
    return Imported(KIND, [record], findings)


def _flat(document: Document) -> tuple[Flat, int]:
    """The settings, and how many texts among them were not taken."""
    flat: Flat = {}
    left_out = 0
    for place, line in enumerate(document.text.splitlines(), start=1):
        if not line.strip():
            continue
        key, _, text = line.partition(": ")
        where = f"{document.name}: line {place:,}"
        if not text or not _KEY.fullmatch(key):
            raise UserError(f"{where}: must be `dotted.path: value`")
        if key in flat:
            raise UserError(f"{where}: {key} is given twice")
        flat[key], taken = _value(key, text.strip(), where)
        left_out += not taken
    return flat, left_out


def _value(key: str, text: str, where: str) -> tuple[Any, bool]:
    if text in _WORDS:
        return _WORDS[text], True
    if _INTEGER.fullmatch(text):
        return int(text), True
    if _FLOAT.fullmatch(text):
        value = float(text)
        return (value, True) if abs(value) < float("inf") else (None, False)
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = text[1:-1]
        name = key.rpartition(".")[2].partition("[")[0]
        known = name in _TEXT_KEYS or name.endswith(_TEXT_KEY_ENDS)
        taken = bool(known and len(inner) <= 200 and _TEXT.fullmatch(inner))
        return (inner if taken else None), taken
    raise UserError(
        f"{where}: {key}: must be a number, True, False, None or a text in quotes, whole"
    )


def count_parameters(flat: Flat) -> int:
    """Counts a decoder's parameters from its dimensions.

    Covers grouped attention, gated or plain feed-forward, norms of layers, queries and keys,
    biases, and an output projection of its own or tied to the embedding.
    """
    dim, layers = flat["model.decoder.dim"], flat["model.decoder.transformer.num_layers"]
    vocab, hidden = flat["model.decoder.vocab_size"], flat[_LAYER + "feed_forward.hidden_dim"]
    heads, kv_heads, width = _heads(flat)
    inputs = sum(key.startswith(_LAYER + "feed_forward.activation[") for key in flat) or 1
    attention = dim * (heads + 2 * kv_heads) * width + heads * width * dim
    feed_forward = inputs * dim * hidden + hidden * dim
    head_norms = sum(f"{_ATTENTION}{name}_scale.norm.klass" in flat for name in ("query", "key"))
    biases = (
        (heads + 2 * kv_heads)
        * width
        * _is_on(flat, _ATTENTION + "input_linear.input_linear.layer.bias")
        + dim * _is_on(flat, _ATTENTION + "output_linear.bias")
        + inputs * hidden * _is_on(flat, _LAYER + "feed_forward.linear1.bias")
        + dim * _is_on(flat, _LAYER + "feed_forward.linear2.bias")
    )
    layer = attention + feed_forward + 2 * dim + head_norms * width + biases
    tied = not any(key.startswith("model.decoder.lm_head.") for key in flat)
    return layers * layer + vocab * dim * (1 if tied else 2) + dim


def our_settings(flat: Flat) -> dict[str, Any]:
    """The settings that mean the same as ones of ours, under our keys."""
    heads, kv_heads, width = _heads(flat)
    schedule = _UPDATE + "update_schedule."
    peak, rate = flat.get(schedule + "peak_lr"), flat.get(_UPDATE + "learning_rate")
    warm_up, steps = flat.get(schedule + "warmup_steps"), flat.get("max_step")
    settings = {
        "checkpoint.keep_every": flat.get("checkpointer.keep_every_n_steps"),
        "checkpoint.keep_last": flat.get("checkpointer.keep_last_n"),
        "checkpoint.period": flat.get("checkpointer.save_policy.n"),
        "data.global_batch": flat.get("input.batcher.global_batch_size"),
        "model.dropout_rate": flat.get("model.decoder.dropout_rate"),
        "model.dtype": _dtype(flat.get("train_dtype")),
        "model.embed": flat["model.decoder.dim"],
        "model.head_dim": width,
        "model.heads": heads,
        "model.kv_heads": kv_heads,
        "model.layers": flat["model.decoder.transformer.num_layers"],
        "model.mlp": flat[_LAYER + "feed_forward.hidden_dim"],
        "model.norm_epsilon": flat.get("model.decoder.output_norm.eps"),
        "model.rope_timescale": flat.get(_ATTENTION + "input_linear.rope_pos_emb_layer.theta"),
        "model.vocab": flat["model.decoder.vocab_size"],
        "model.weight_dtype": _dtype(flat.get("model.dtype")),
        "optim.b2": flat.get(_UPDATE + "gradient_square_ema_decay"),
        "optim.clip_norm": flat.get("learner.optimizer.max_norm"),
        "optim.final_fraction": flat.get(schedule + "alpha"),
        "optim.learning_rate": _product(rate, 1.0 if peak is None else peak),
        "optim.schedule_steps": flat.get(schedule + "max_step"),
        "optim.warmup_fraction": _product(
            warm_up, 1 / steps if _is_number(steps) and steps else None
        ),
        "optim.weight_decay": flat.get(_UPDATE + "weight_decay"),
        "run.steps": steps,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _heads(flat: Flat) -> tuple[int, int, int]:
    heads = flat[_ATTENTION + "num_heads"]
    kv_heads = flat.get(_ATTENTION + "input_linear.input_linear.num_kv_heads")
    width = flat.get(_ATTENTION + "hidden_dim")
    total = width if type(width) is int else flat["model.decoder.dim"]
    return heads, kv_heads if type(kv_heads) is int else heads, total // heads


def _is_on(flat: Flat, key: str) -> bool:
    return flat.get(key) is True


def _dtype(text: Any) -> str | None:
    return text.rpartition(".")[2] if isinstance(text, str) else None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _product(one: Any, other: Any) -> float | None:
    return float(one * other) if _is_number(one) and _is_number(other) else None
