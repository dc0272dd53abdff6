"""What the lines of a MaxText log beside its steps say, of one run."""

import re
from datetime import UTC, datetime
from typing import Any

from harness.cases import reading
from harness.published import maxtext_steps
from harness.published.document import NUMBER, amount, first, number

SIGN = re.compile(rf"{maxtext_steps.SIGN.pattern}|System Information: Jax Version: ")

_TOTALS = re.compile(
    rf"Per train step(?:, total TFLOPs will be |:\s{{1,9}}Total TFLOPs: ){NUMBER}(?:,|\s)"
)
_VERSION = r"([0-9]{1,4}(?:\.[0-9]{1,4}){1,3}(?:\.?(?:dev|rc)[0-9]{1,12})?)(?![\w.])"
_JAX = re.compile(rf"System Information: Jax Version: {_VERSION}")
_JAXLIB = re.compile(rf"System Information: Jaxlib Version: {_VERSION}")
_ORBAX = re.compile(rf"orbax-checkpoint version: {_VERSION}")
_DEVICE_KIND = re.compile(r"\bTFRT (TPU ?v?[0-9]{1,2}(?: lite|[epx])?)(?!\w)")
_DEVICES = re.compile(r"Num_devices: ([0-9]{1,7}), shape")
_STARTED = re.compile(
    r"XPK Start: [A-Z][a-z]{2} ([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) UTC ([0-9]{4})"
)
_ENDED = re.compile(r"XPK End: [A-Z][a-z]{2} ([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) UTC ([0-9]{4})")
_FIRST_TIME = re.compile(
    r"(?<!\S)([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})[.,][0-9]"
    r"{1,9}(?![0-9]| ?(?!UTC)[A-Z]{3,4}\b)"
)
_IMPL = re.compile(r"/(linen|nnx)_ckpt_")
_SHAPE = re.compile(
    r"(?<=[ \t])(?:params/){0,2}((?:[A-Za-z0-9_.-]{1,80}/){1,12}[A-Za-z0-9_.-]{1,80})"
    r"\s{1,9}Shape:\s{1,9}(bfloat16|float(?:8_\w{1,9}|16|32|64)|int8)"
    r"\[([0-9]{1,9}(?:,[0-9]{1,9}){0,7})?\]"
)
_INPUTS = re.compile(
    r"attentions/inputs_q Logical: (bfloat16|float32)\[([0-9]{1,7}),([0-9]{1,7}),[0-9]{1,7}\]"
)
_BILLIONS = re.compile(rf"number parameters: {NUMBER} billion")
_COMPILED = re.compile(
    rf"Total (?:estimated )?memory size: {NUMBER} GB, (?:estimated o|O)utput size: {NUMBER} GB, "
    rf"(?:estimated t|T)emp size: {NUMBER} GB, (?:estimated a|A)rgument size: {NUMBER} GB"
)
_IN_USE = re.compile(rf"Using \(GB\) {NUMBER} / {NUMBER} \({NUMBER}%\) on TPU_([0-9]{{1,7}})\(")
_ARRAYS = re.compile(r"Scheduling D2H of ([0-9]{1,7}) prioritized jax.Array")
_INTERVAL = re.compile(r"FixedIntervalPolicy\(interval=([0-9]{1,9})\)")
_SAVE = re.compile(r"\{'step': ([0-9]{1,9}), 'event_type': 'save', ")
_WAITED = re.compile(rf"'wait_for_prev_duration_secs': {NUMBER}")
_BLOCKED = re.compile(rf"'checkpointer_blocking_duration_secs': {NUMBER}")
_WRITTEN = re.compile(r"Background save thread done\. Time taken: ([0-9]{1,9}\.[0-9]{1,9})s")
_LONGEST_SAVE_ENTRY = 3000


def case_name(text: str) -> str | None:
    """Which of our cases a run is named after, by the folder of its checkpoints."""
    names = "|".join(map(re.escape, reading.case_names()))
    return first(re.compile(rf"_({names})/checkpoints"), text)


def implementation(text: str) -> str | None:
    """Which twin ran, by the folder of its checkpoints."""
    return first(_IMPL, text)


def jax_version(text: str) -> str | None:
    """The version of JAX that a log names."""
    return first(_JAX, text)


def memory_percent(text: str) -> list[float]:
    """What each device had in use after init, of its memory."""
    return [value for match in _IN_USE.finditer(text) if (value := number(match[3])) is not None]


def environment(text: str) -> dict[str, Any]:
    """The record's `environment`, as far as the log knows it, but for the time."""
    kind, devices = first(_DEVICE_KIND, text), _whole(_DEVICES, text)
    local = len({match[4] for match in _IN_USE.finditer(text)})
    return {
        "jax": jax_version(text),
        "jaxlib": first(_JAXLIB, text),
        "orbax": first(_ORBAX, text),
        "platform": "tpu" if kind else None,
        "device_kind": kind,
        "device_count": devices or None,
        "process_count": (devices // local or None) if devices and local else None,
        "topology": f"v6e-{devices}" if kind == "TPU v6 lite" and devices else None,
    }


def start(text: str) -> tuple[datetime | None, bool]:
    """When the run began, and whether the log tells the time zone, too; else UTC is assumed."""
    begun = _moment(_STARTED, text, "%b %d %H:%M:%S %Y")
    if begun is not None:
        return begun, True
    return _moment(_FIRST_TIME, text, "%Y-%m-%d %H:%M:%S"), False


def wall_seconds(text: str) -> float | None:
    """From the first to the last line that the launcher wrote around the run."""
    form = "%b %d %H:%M:%S %Y"
    begun, ended = _moment(_STARTED, text, form), _moment(_ENDED, text, form)
    if begun is None or ended is None or ended < begun:
        return None
    return (ended - begun).total_seconds()


def arrays(text: str) -> int | None:
    """How many arrays a checkpoint holds."""
    return _whole(_ARRAYS, text)


def saves(text: str) -> list[dict[str, Any]]:
    """One entry per save, from the lines in which Orbax sums it up."""
    written = [float(match[1]) for match in _WRITTEN.finditer(text)]
    entries = {}
    for place, match in enumerate(_SAVE.finditer(text)):
        entry = text[match.start() : match.start() + _LONGEST_SAVE_ENTRY].partition("}")[0]
        waited, blocked = _value(_WAITED, entry), _value(_BLOCKED, entry)
        background = written[place] if place < len(written) else None
        entries[int(match[1])] = {
            "step": int(match[1]),
            "bytes": None,
            "bytes_per_second": None,
            # Ours holds the wait for the save before, the log's does not.
            "blocking_seconds": None if blocked is None else blocked + (waited or 0.0),
            "background_seconds": 0.0 if "'synchronous': True" in entry else background,
            "waited_for_previous_seconds": waited,
        }
    return [entries[step] for step in sorted(entries)]


def save_settings(text: str) -> dict[str, Any]:
    """How a run that saves does it, under our keys."""
    interval = _whole(_INTERVAL, text)
    period = {"checkpoint.period": interval} if interval else {}
    return {"checkpoint.async": "'synchronous': True" not in text, **period}


def shapes(text: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each parameter that the log lists."""
    return {
        match[1].removesuffix("/value"): (match[2], tuple(map(int, (match[3] or "1").split(","))))
        for match in _SHAPE.finditer(text)
    }


def inputs(text: str) -> tuple[str, int, int] | None:
    """Of what attention gets: the type, sequences of the whole batch, and their length."""
    match = _INPUTS.search(text)
    return (match[1], int(match[2]), int(match[3])) if match else None


def billion_parameters(text: str) -> float | None:
    """As the log counts them, rounded."""
    return _value(_BILLIONS, text)


def total_tflop(text: str) -> float | None:
    """Of one device and step, as the log counts it, rounded."""
    return _value(_TOTALS, text)


def compiled_gib(text: str) -> dict[str, float | None]:
    """What the step was compiled for, by the record's key."""
    match = _COMPILED.search(text)
    names = ("total_bytes", "output_bytes", "temp_bytes", "argument_bytes")
    return {name: number(match[place]) for place, name in enumerate(names, 1)} if match else {}


def in_use_gib(text: str) -> list[float]:
    """What each device of one process had in use after init."""
    return [value for match in _IN_USE.finditer(text) if (value := number(match[1])) is not None]


def _moment(pattern: re.Pattern[str], text: str, form: str) -> datetime | None:
    match = pattern.search(text)
    try:
        return (
            datetime.strptime(" ".join(match.groups()), form).replace(tzinfo=UTC) if match else None
        )
    except ValueError:
        return None


def _value(pattern: re.Pattern[str], text: str) -> float | None:
    found = first(pattern, text)
    return None if found is None else amount(number(found))


def _whole(pattern: re.Pattern[str], text: str) -> int | None:
    found = first(pattern, text)
    return None if found is None else int(found)
