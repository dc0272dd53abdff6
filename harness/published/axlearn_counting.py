"""Counts a model's parameters layer by layer, as AXLearn builds it from a configuration.

A class without a rule makes the whole model uncountable, and so does one that no rule reaches:
nothing is guessed.
"""

from dataclasses import dataclass, field

from harness.published.axlearn_arrays import nothing
from harness.published.axlearn_layer import Layer, Uncountable
from harness.published.axlearn_lines import Group, groups_within
from harness.published.axlearn_rules import RULES

# What makes arrays larger or more: a group that holds one of these must have been counted.
_SIZES = (
    "bias", "dim", "hidden_dim", "input_dim", "klass", "num_embeddings", "num_experts",
    "num_heads", "num_kv_heads", "num_layers", "output_dim", "vocab_size",
)  # fmt: skip

_FAMILIES = {"audio": "speech", "vision": "vision"}


@dataclass
class Count:
    """A model's parameters, and the paths of its layers that name no class: taken for plain."""

    parameters: int = 0
    assumed: set[str] = field(default_factory=set)
    visited: set[str] = field(default_factory=set)


def count(groups: Group) -> Count:
    """Counts the model of a configuration; raises Uncountable, or UserError for a wrong size."""
    counted = Count()
    model = Layer("", groups, {}).child("model", "Model")
    if model.told_class not in (None, "Model") or not model.has("decoder"):
        raise Uncountable(f"{_described(model)}: no decoder of text alone")
    counted.parameters = _numbers(model, counted)
    for path, group in groups_within(model.settings, model.path):
        layer = Layer(path, group, {})
        without = RULES.get(layer.told_class or "") is nothing
        if path not in counted.visited and not without:
            for name in _SIZES:
                if group.get(name) not in (None, False):
                    raise Uncountable(f"{path}.{name} is part of no layer that is known here")
    return counted


def _numbers(layer: Layer, counted: Count) -> int:
    counted.visited.add(layer.path)
    if not layer.times:
        return 0
    name = layer.told_class or layer.plain
    if layer.told_class is None:
        counted.assumed.add(layer.path)
    rule = RULES.get(name or "")
    if rule is None:
        what = f"is a {name}, which is not known here" if name else "names no class"
        raise Uncountable(f"{layer.path} {what}")
    parts = (part if isinstance(part, int) else _numbers(part, counted) for part in rule(layer))
    return layer.times * sum(parts)


def _described(model: Layer) -> str:
    """What kind of model it is, in words."""
    name = model.value("klass")
    if not isinstance(name, str):
        return "the model names no class"
    family = next((word for part, word in _FAMILIES.items() if f".{part}." in name), None)
    return f"the model is a {family} model, {name}" if family else f"the model is {name}"
