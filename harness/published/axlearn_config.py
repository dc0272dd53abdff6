"""A golden configuration of AXLearn: one trainer, flattened to lines of `dotted.path: value`."""

import re

from harness.cases import reading
from harness.published import axlearn_counting, axlearn_lines, axlearn_settings
from harness.published.axlearn_layer import Uncountable
from harness.published.axlearn_lines import Group
from harness.published.document import Document, Imported, blank, facing, figure
from harness.terminal.errors import UserError
from harness.terminal.text import counted

KIND = "AXLearn configuration"
SIGN = re.compile(r"(?m)^[A-Za-z0-9_.]{0,80}klass: 'axlearn\.")

_BASELINE = "01_baseline"
_UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "K"))


def read(document: Document) -> Imported:
    """The record of a configuration; raises UserError for an unreadable or missing line."""
    settings = axlearn_lines.read(document)
    _check_whole(document, settings.groups)
    parameters, told = _parameters(settings.groups)
    shared = axlearn_settings.of_ours(settings)
    # Configurations of one size are many: the text's own digest tells them apart.
    record = blank(
        document,
        f"published-axlearn-{_short(parameters)}-{document.sha256[:8]}",
        KIND,
        figures=[figure("parameters", "counted from the dimensions", None, parameters)],
        explanation="A configuration, not a run: nothing in it was measured.",
        settings=shared,
    )
    record["case"]["config"] = dict(settings.flat)
    record["model"]["parameters"] = parameters
    record["warnings"] = ["a configuration, not a run: all that a run measures is null", *told]
    for number, what in (
        (settings.values_left_out, "texts that are not taken over: null in case.config"),
        (settings.paths_left_out, "texts in the path that are not taken over: left out"),
    ):
        if number:
            record["warnings"].append(f"{counted(number, 'setting')} with {what}")
    ours = reading.flatten(reading.load(_BASELINE))
    shown = "not counted" if parameters is None else f"{parameters:,}"
    findings = [
        f"parameters, from the dimensions: {shown}",
        f"settings that {_BASELINE} has too:",
        *facing(ours, shared),
    ]
    if axlearn_settings.decay_is_apart(settings):
        findings.append(
            "there the update's weight decay is not multiplied by the learning rate, ours is"
        )
    return Imported(KIND, [record], findings)


def _check_whole(document: Document, groups: Group) -> None:
    """Raises UserError for a text that ends within its model, or before it.

    The lines are sorted: a decoder's vocabulary and a model's class follow what they are made of.
    """
    model = groups.get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    ends = isinstance(model, dict) and (
        "klass" in model or (isinstance(decoder, dict) and "vocab_size" in decoder)
    )
    if list(groups)[-1] <= "model" and not ends:
        raise UserError(f"{document.name}: ends before its model does: cut short?")


def _parameters(groups: Group) -> tuple[int | None, list[str]]:
    """The model's parameters, None where they do not follow, and what to tell of them."""
    try:
        found = axlearn_counting.count(groups)
    except Uncountable as reason:
        return None, [f"parameters not counted: {reason}"]
    told = ["the parameters are counted from the dimensions: the configuration does not say them"]
    if found.assumed:
        told.append(
            f"{counted(len(found.assumed), 'layer')} without a class, counted as AXLearn's plain "
            "ones without biases, norms as RMSNorm"
        )
    return found.parameters, told


def _short(parameters: int | None) -> str:
    """A count in three digits or so, such as 2.74B."""
    if parameters is None:
        return "uncounted"
    for size, letter in _UNITS:
        if parameters >= size:
            return f"{parameters / size:.2f}{letter}"
    return str(parameters)
