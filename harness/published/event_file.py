"""TensorBoard's file of events, as MaxText and Megatron-LM write it."""

import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.published import metric_rows
from harness.published.document import Document, Imported
from harness.published.metric_rows import Row
from harness.terminal import installing
from harness.terminal.errors import UserError

KIND = "TensorBoard events"

_HEAD = struct.Struct("<QI")  # a record's length and its sum; after the content, that one's sum
_SUM = struct.Struct("<I")
_FLOAT, _DOUBLE = 1, 2  # types of tensors
_PARAMETERS = "num_model_parameters/text_summary"
_MOST_STEPS = 10**9


def read(document: Document) -> Imported:
    """The record of such a file; raises UserError where it holds no step, or without the extra."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError(
            f"{document.name}: TensorBoard's events need tensorboardX: "
            + installing.command("tensorboard")
        )
    file = _File()
    for content in _records(document.events, file.notes):
        file.add(content)
    notes = list(dict.fromkeys(file.notes))
    return metric_rows.read(document, KIND, file.rows, notes, file.parameters, file.begun)


@dataclass
class _File:
    """What the events of a file say so far; begun: seconds since 1970."""

    rows: list[Row] = field(default_factory=list)
    latest: dict[int, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parameters: int | None = None
    begun: float | None = None

    def add(self, content: bytes) -> None:
        """Takes over what an event tells."""
        from google.protobuf.message import DecodeError
        from tensorboardX.proto.event_pb2 import Event

        event = Event()
        try:
            event.ParseFromString(content)
        except DecodeError:
            self.notes.append("events that cannot be read are left out")
            return
        self.begun = event.wall_time if self.begun is None else self.begun
        for value in event.summary.value:
            if value.tag == _PARAMETERS:
                self.parameters = _count(value)
            number = _number(value)
            # Megatron-LM writes the same figures again by samples.
            tag = value.tag.replace(" ", "_")  # as some writers do
            is_step = 0 <= event.step < _MOST_STEPS and "_vs_" not in tag
            if number is not None and is_step:
                self._put(event.step, tag, number)

    def _put(self, step: int, tag: str, number: float) -> None:
        row = self.latest.get(step)
        if row is None or tag in row.values:  # what comes again is another attempt's
            row = self.latest[step] = Row(step)
            self.rows.append(row)
        row.values[tag] = number


def _records(content: bytes, notes: list[str]) -> Iterator[bytes]:
    """The content of each record up to the first that is cut or damaged, which `notes` tell."""
    from tensorboardX.record_writer import masked_crc32c

    place = 0
    while place < len(content):
        if place + _HEAD.size > len(content):
            notes.append("the file ends inside an event, which is left out")
            return
        length, head_sum = _HEAD.unpack_from(content, place)
        begin, end = place + _HEAD.size, place + _HEAD.size + length
        if masked_crc32c(content[place : place + 8]) != head_sum:
            notes.append(f"the file is damaged at byte {place:,}; what lies before it is read")
            return
        if end + _SUM.size > len(content):
            notes.append("the file ends inside an event, which is left out")
            return
        if masked_crc32c(content[begin:end]) != _SUM.unpack_from(content, end)[0]:
            notes.append(f"the file is damaged at byte {begin:,}; what lies before it is read")
            return
        yield content[begin:end]
        place = end + _SUM.size


def _number(value: Any) -> float | None:
    """A scalar, in either form in which writers put it."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    tensor = value.tensor
    if tensor.dtype == _FLOAT:
        if len(tensor.float_val) == 1:
            return float(tensor.float_val[0])
        return struct.unpack("<f", tensor.tensor_content)[0] if _holds(tensor, 4) else None
    if tensor.dtype == _DOUBLE:
        if len(tensor.double_val) == 1:
            return float(tensor.double_val[0])
        return struct.unpack("<d", tensor.tensor_content)[0] if _holds(tensor, 8) else None
    return None


def _holds(tensor: Any, size: int) -> bool:
    return len(tensor.tensor_content) == size and not tensor.tensor_shape.dim


def _count(value: Any) -> int | None:
    """A whole number that was written as a text."""
    texts = value.tensor.string_val
    text = bytes(texts[0]) if len(texts) == 1 else b""
    return int(text) if text.isdigit() and len(text) < 16 else None
