"""What of an AXLearn configuration means the same as a setting of ours, under our keys."""

from typing import TypeGuard

from harness.published.axlearn_layer import Layer, Uncountable
from harness.published.axlearn_lines import UNREAD, Group, Settings, Value, groups_within
from harness.published.axlearn_rules import heads

_OPTIMIZER = "learner.optimizer"
# Their weight decay is multiplied by the schedule alone, ours by the learning rate too.
_DECOUPLED = ("adastar_optimizer", "adamw_decoupled_optimizer")


def of_ours(settings: Settings) -> dict[str, Value]:
    """The settings that ours has too, at our keys; what is not told is left out."""
    flat = settings.flat
    update, clip = (_part(settings.groups, name) for name in ("learning_rate", "max_norm"))
    schedule = update.child("update_schedule")
    rate, peak = update.value("learning_rate"), schedule.value("peak_lr")
    b2 = update.value("gradient_square_ema_decay")
    found = {
        **_sizes(Layer("", settings.groups, {}).child("model")),
        "checkpoint.keep_every": flat.get("checkpointer.keep_every_n_steps"),
        "checkpoint.keep_last": flat.get("checkpointer.keep_last_n"),
        "checkpoint.period": flat.get("checkpointer.save_policy.n"),
        "data.global_batch": flat.get("input.batcher.global_batch_size"),
        "model.dropout_rate": flat.get("model.decoder.dropout_rate"),
        "model.dtype": _dtype(flat.get("train_dtype")),
        "model.norm_epsilon": flat.get("model.decoder.output_norm.eps"),
        "model.weight_dtype": _dtype(flat.get("model.dtype")),
        "optim.b2": update.value("b2") if b2 is None else b2,
        "optim.clip_norm": clip.value("max_norm"),
        "optim.final_fraction": schedule.value("alpha"),
        "optim.learning_rate": _product(rate, 1.0 if peak is None else peak),
        "optim.schedule_steps": schedule.value("max_step"),
        "optim.warmup_fraction": _share(schedule.value("warmup_steps"), flat.get("max_step")),
        "optim.weight_decay": update.value("weight_decay"),
        "run.steps": flat.get("max_step"),
    }
    return {
        key: value
        for key, value in sorted(found.items())
        if value is not None and value != UNREAD and not isinstance(value, dict)
    }


def decay_is_apart(settings: Settings) -> bool:
    """Whether the update's weight decay is known not to be multiplied by the learning rate."""
    name = _part(settings.groups, "learning_rate").value("fn")
    return isinstance(name, str) and name.rpartition(".")[2] in _DECOUPLED


def _sizes(model: Layer) -> dict[str, Value]:
    """The sizes of a decoder of text; those of its layers only where all are equal."""
    decoder = model.child("decoder")
    stack = decoder.child("transformer")
    found: dict[str, Value] = {}
    try:
        if model.told_class not in (None, "Model"):
            return {}
        dim = decoder.size("dim")
        found |= {"model.embed": dim, "model.vocab": decoder.size("vocab_size")}
        found["model.layers"] = stack.size("num_layers")
        layer = stack.child("layer")
        attention = layer.child("self_attention").child("attention", query_dim=dim)
        number, width = heads(attention)
        projection = attention.child("input_linear")
        rotation = projection.child("rope_pos_emb_layer").value("theta")
        if projection.has("input_linear"):
            projection = projection.child("input_linear")
        found |= {
            "model.heads": number,
            "model.head_dim": width,
            "model.kv_heads": projection.size("num_kv_heads", number),
            "model.rope_timescale": rotation if isinstance(rotation, float) else None,
            "model.mlp": layer.child("feed_forward", input_dim=dim).size("hidden_dim"),
        }
    except Uncountable:
        pass  # what comes after it is not told, or not one number for all layers
    return found


def _part(groups: Group, name: str) -> Layer:
    """The one part of the optimizer that has a setting of this name, empty if none or several."""
    whole = Layer("", groups, {})
    for step in _OPTIMIZER.split("."):
        whole = whole.child(step)
    candidates = [(_OPTIMIZER, whole.settings), *groups_within(whole.settings, _OPTIMIZER)]
    parts = [Layer(path, group, {}) for path, group in candidates if name in group]
    return parts[0] if len(parts) == 1 else Layer(_OPTIMIZER, {}, {})


def _dtype(text: Value) -> str | None:
    return text.rpartition(".")[2] if isinstance(text, str) else None


def _product(one: Value | Group, other: Value | Group) -> float | None:
    return float(one * other) if _is_number(one) and _is_number(other) else None


def _share(part: Value | Group, whole: Value) -> float | None:
    return float(part / whole) if _is_number(part) and _is_number(whole) and whole else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) in (int, float)
