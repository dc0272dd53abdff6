"""A run's folder as a killed and as a completed run leave it, without any training."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compared_records import make, save

from harness.cases import reading
from harness.records.ownership import Owner
from harness.records.record import blank
from harness.records.run_folder import RunFolder

RUN = "run-1"
STEPS, SAVED, EVALUATED = 20, (6, 12, 18), (4, 9, 14, 19)


def completed(results: Path) -> dict[str, Any]:
    """A run that ended; returns its record."""
    return _written(results, killed_after=None)


def killed(results: Path) -> dict[str, Any]:
    """A run that was killed after step 16, its last save that of step 12, evaluated twice before.

    Returns a record with all that is known of it.
    """
    return _written(results, killed_after=16)


def _written(results: Path, killed_after: int | None) -> dict[str, Any]:
    case = reading.load("03_dropout", "tiny", [f"run.steps={STEPS}", "eval.every=5"])
    record = make(impl="nnx", run_id=RUN, seconds=[0.07 + 0.001 * n for n in range(STEPS - 3)])
    record |= {"size": "tiny", "nnx_state": "dict"}
    record["case"] = reading.described(case, "tiny", "reference")
    steps, record["steps"], record["checkpoint"]["saves"] = record["steps"], [], []
    record["evals"] = []
    timing, record["timing"] = record["timing"], blank(RUN, "failed")["timing"]
    with Owner() as owner:
        owner.take(results / RUN)
        folder = RunFolder(results, RUN, owner)
        folder.write_config(reading.flat_text(case))
        for entry in steps:
            record["steps"].append(entry)
            folder.append_metrics(entry)
            folder.write_status("running", entry["step"])
            if entry["step"] in EVALUATED:
                record["evals"].append(evaluation(entry["step"]))
                folder.append_evaluation(record["evals"][-1])
            if entry["step"] in SAVED:
                folder.write_record(record | {"status": "failed", "error": "killed"})
                record["checkpoint"]["saves"].append(save(entry["step"], 0.5))
                folder.append_save(record["checkpoint"]["saves"][-1])
            if entry["step"] == killed_after:
                folder.close()
                return record | {"status": "failed", "error": "killed"}
        record |= {"timing": timing, "files": folder.digests()}
        folder.write_record(record)
        folder.write_status("completed", STEPS - 1, 0)
        folder.close()
    return record


def evaluation(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 9.75 - step / 8, "seconds": 0.375, "total_weights": 512.0}


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda content: b"".join(change(content.splitlines(keepends=True)))


def _digit(content: bytes) -> bytes:
    chance = random.Random(len(content))
    places = [place for place, byte in enumerate(content) if byte in b"0123456789"]
    place = chance.choice(places)
    digit = (content[place] - ord("0") + chance.randrange(1, 10)) % 10
    return content[:place] + str(digit).encode() + content[place + 1 :]


def _high_bit(content: bytes) -> bytes:
    place = len(content) // 3
    return content[:place] + bytes([content[place] | 0x80]) + content[place + 1 :]


# What may become of a file; None: it is gone.
FAULTS: dict[str, Callable[[bytes], bytes] | None] = {
    "a digit changed": _digit,
    "a high bit set": _high_bit,
    "a key changed": lambda content: re.sub(rb'[a-z](?="?: )', b"_", content, count=1),
    "a byte more": lambda content: content[:40] + b"0" + content[40:],
    "the first line gone": _lines(lambda lines: lines[1:]),
    "a line gone": _lines(lambda lines: [*lines[: len(lines) // 2], *lines[len(lines) // 2 + 1 :]]),
    "the last line gone": _lines(lambda lines: lines[:-1]),
    "a line twice": _lines(lambda lines: [lines[0], *lines]),
    "lines swapped": _lines(lambda lines: [*lines[-1:], *lines[:-1]]),
    "cut in the middle": lambda content: content[: len(content) // 2],
    "zeros": lambda content: content[:60] + b"\0" * 30 + content[90:],
    "empty": lambda content: b"",
    "gone": None,
}


def spoil(path: Path, how: str) -> bool:
    """Does to a file what the fault says; False where that leaves it as it is."""
    change, before = FAULTS[how], path.read_bytes()
    if change is None:
        path.unlink()
        return True
    path.write_bytes(change(before))
    return path.read_bytes() != before
