"""Damaged documents: each is read, or refused in one line; no number comes from nowhere."""

import contextlib
import gzip
import json
import random
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import DATA, NAMES, content

from harness import published
from harness.published.document import Document, parse
from harness.records import figures
from harness.records import record as record_module
from harness.records.record import Record
from harness.terminal.errors import UserError

FIELD = DATA / "field"
METRICS = "".join(
    json.dumps(
        {
            "learning/loss": 10.8 - step / 7,
            "learning/raw_grad_norm": 5.08 / (step + 1),
            "perf/step_time_seconds": 0.2 + step / 1000,
            "perf/per_device_tokens": 2048,
            "step": float(step),
        }
    )
    + "\n"
    for step in range(12)
)
TOKEN = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
INSERTED = (
    b"\n", b"\r", b"nan", b"-", b"9" * 400, b"1e999", b"0", b"'", b".", b" | ", b"\xc2\x85", b"3: ",
    b"\x1b[31m", b"[default0]:", b"completed step: 3, ", b"iteration 3/ 9 | ", b'{"message": "',
)  # fmt: skip
REPLACED = (b"0", b"-1", b"nan", b"inf", b"999999999", b"1e300", b"", b"None", b"3", b"[16]")


def in_json(text: bytes) -> bytes:
    lines = text.decode().split("\n")
    return "\n".join(json.dumps({"textPayload": line}) for line in lines).encode()


WRAPPED: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    in_json,
    lambda text: text.decode().encode("utf-16"),
    lambda text: b"".join(
        b"%d: %s\n" % (at % 2, line) for at, line in enumerate(text.split(b"\n"))
    ),
)


def mutated(random_: random.Random, whole: bytes) -> bytes:
    """A document after one to four of the things that happen to documents."""
    text = bytearray(whole)
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(text) + 1)
        length = random_.choice((1, 2, 5, 20, 300, 3000))
        match random_.randrange(7):
            case 0:
                del text[place:]
            case 1:
                del text[place : place + length]
            case 2:
                text[place:place] = text[place : place + length] * random_.randint(1, 3)
            case 3:
                text[place : place + 1] = bytes([random_.randrange(256)])
            case 4:
                text[place:place] = random_.choice(INSERTED)
            case 5:
                numbers = list(re.finditer(rb"[0-9][0-9.]*", text))
                if numbers:
                    number = random_.choice(numbers)
                    text[number.start() : number.end()] = random_.choice(REPLACED)
            case 6:
                other = text[random_.randrange(len(text) + 1) :][:length]
                text[place : place + length] = other
    return bytes(text)


def documents(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged documents of all kinds, in several wrappings."""
    random_ = random.Random(seed)
    wholes = [(name, content(name)) for name in NAMES]
    wholes += [(path.name, path.read_bytes()) for path in sorted(FIELD.glob("*.txt"))]
    wholes.append(("metrics", METRICS.encode()))
    for number in range(count):
        name, whole = wholes[number % len(wholes)]
        damaged = mutated(random_, whole)
        if random_.random() < 0.2:
            with contextlib.suppress(UnicodeDecodeError):
                damaged = random_.choice(WRAPPED)(damaged)
            if random_.random() < 0.3:
                damaged = mutated(random_, damaged)
        yield name, damaged


def check(record: Record, document: Document) -> None:
    """Raises when the record is not valid, or holds a figure that the text does not."""
    record_module.validate(record)
    json.dumps(record, allow_nan=False)
    samples, timing = figures.step_samples(record), record["timing"]["step_seconds"]
    assert timing["samples"] in (None, len(samples))
    assert timing["median"] == (pytest.approx(statistics.median(samples)) if samples else None)
    numbers = {float(token) for token in TOKEN.findall(document.text)}
    told: set[float | None] = {*numbers, *(value / 1e3 for value in numbers), None}
    for step in record["steps"]:
        for key, value in step.items():
            if key not in ("step", "after_save"):
                assert value in told, (key, value)
        assert step["step"] in told or step["step"] + 1 in told
    for entry in record.get("evals", ()):
        assert entry["loss"] in told
    for name in ("tflops_per_device", "tokens_per_second_per_device"):
        assert set(record["source"].get(name, ())) <= told


def survive(count: int, seed: int, folder: Path) -> None:
    accepted, refusals = 0, []
    for name, damaged in documents(count, seed):
        try:
            document = parse(name, damaged)
            for record in published.read(document).records:
                check(record, document)
            accepted += 1
        except UserError as error:
            refusals.append(str(error))
        except BaseException:
            (folder / name).write_bytes(damaged)  # to be looked at
            raise
    assert accepted > count / 4
    assert len(refusals) > count / 50
    assert not [line for line in refusals if not line.isprintable() or len(line) > 500]


def test_damaged_documents_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    survive(250, 0, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(1, 6))
def test_thousands_of_damaged_documents(seed: int, tmp_path: Path) -> None:
    survive(1000, seed, tmp_path)
