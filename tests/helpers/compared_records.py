"""Records as a run leaves them, made up: the tests of comparing change one thing at a time."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.cases import reading
from harness.comparing.model import Limits
from harness.records import figures, record

Record = dict[str, Any]
STRICT = Limits(slowdown_percent=1, memory_percent=0, loss_difference=0)
_NUMBERS = itertools.count()

CONFIG = {
    "checkpoint.async": True,
    "data.tokens": None,
    "model.dropout_rate": 0.1,
    "model.embed": 64,
    "run.seed": 0,
    "run.steps": 33,
}
ENVIRONMENT = {
    "time": "2026-11-03T14:22:33+00:00",
    "git_commit": "1" * 40,
    "git_dirty": False,
    "python": "3.11.7",
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "libtpu": "0.0.42",
    "flax": "0.12.8",
    "optax": "0.2.8",
    "orbax": "0.12.8",
    "platform": "tpu",
    "device_kind": "TPU v6 lite",
    "device_count": 32,
    "process_count": 8,
    "topology": "v6e-32",
    "hostname": "host-0",
}
PROGRAM = {
    "stablehlo_sha256": "a" * 64,
    "optimized_sha256": "b" * 64,
    "fusion_cycles": 1e7,
    "wire_bytes": 6.25e9,
    "collectives": {"all-gather": {"count": 16, "bytes": 6.25e9}},
    "quantized": [],
}


def noise(seed: int, count: int = 30, percent: float = 2.0) -> np.ndarray:
    return 1 + percent / 100 * np.random.default_rng(seed).standard_normal(count)


def make(
    seed: int = 0,
    impl: str | None = "linen",
    run_id: str | None = None,
    seconds: Sequence[float] | np.ndarray | None = None,
    scale: float = 1.0,
) -> Record:
    """A completed run: `seconds` are its samples, after a slow first step and warm-up."""
    samples = list(scale * 0.07 * (noise(seed) if seconds is None else np.asarray(seconds)))
    made = record.blank(
        run_id or f"run-{next(_NUMBERS)}", "completed", impl=impl, size="full", recipe="reference"
    )
    made["init"] = "shared"
    made["nonfinite_steps"] = 0
    config = {**CONFIG, "run.steps": 3 + len(samples)}
    case_hash = reading.config_hash(config, "full", "reference")
    made["case"] = {"name": "03_dropout", "hash": case_hash, "config": config}
    made["environment"] |= ENVIRONMENT
    made["model"] |= {"parameters": 1_104_218_112, "attention": "splash"}
    made["memory"] |= {"total_bytes": 860_000_000, "peak_in_use_bytes": 900_000_000}
    made["program"] |= {**PROGRAM, "collectives": {"all-gather": {"count": 16, "bytes": 6.25e9}}}
    made["checkpoint"] |= {"arrays": 39, "bytes": 13_250_617_344, "digest": "d" * 64}
    made["checkpoint"]["saves"] = [save(0, 0.9), save(9, 0.7)]
    made["timing"] |= {
        "compile_seconds": 40.0,
        "first_step_seconds": 4.3,
        "host_dispatch_seconds": 0.0002,
        "tokens_per_second_per_device": 128 / float(np.median(samples)),
        "step_seconds": figures.summarise(samples),
    }
    made["steps"] = [step(n, s) for n, s in enumerate([4.3, 1.4, 0.03, *samples])]
    return made


def other(seed: int = 1, **made: Any) -> Record:
    """A run of another program than `make`'s."""
    run = make(seed, **made)
    run["program"]["optimized_sha256"] = "e" * 64
    return run


def in_turns(
    ratio: float, pairs: int = 40, percent: float = 1.0, names: Sequence[str | None] = (None, None)
) -> tuple[Record, Record]:
    """Two runs that were slow or fast alone by chance, and their blocks beside each other."""
    a = make(0, "linen", names[0], scale=2.2)
    b = other(1, impl="nnx", run_id=names[1])
    weather = np.cumprod(noise(2, pairs, 20.0))  # what the machine did to both
    for record_, partner, factor, seed in ((a, b, 1.0, 3), (b, a, ratio, 4)):
        seconds = factor * 0.07 * weather * noise(seed, pairs, percent)
        record_["turns"] = {
            "partner": partner["run_id"],
            "order": "ABBA" * (pairs // 2),
            "block_steps": 5,
            "blocks": [{"first_step": 5 * n, "seconds_per_step": s} for n, s in enumerate(seconds)],
        }
    return a, b


def step(number: int, seconds: float | None = 0.07) -> Record:
    return {
        "step": number,
        "loss": 10.889 - 0.1 * number,
        "grad_norm": 1.5,
        "learning_rate": 3e-5,
        "step_seconds": seconds,
        "total_weights": 4096,
        "after_save": False,
    }


def save(number: int, seconds: float) -> Record:
    return {
        "step": number,
        "bytes": 13_250_617_344,
        "bytes_per_second": 1e9,
        "blocking_seconds": seconds,
        "background_seconds": 12.0,
        "waited_for_previous_seconds": 0.0,
    }


def imported(**changes: Any) -> Record:
    """What a log tells: losses and times of three digits."""
    made = make(**changes)
    made |= {"status": "imported", "recipe": None, "init": None, "nonfinite_steps": None}
    made["case"] = {"name": "03_dropout", "hash": None, "config": {}}
    made["checkpoint"]["digest"] = None
    made["program"] = record.blank("x", "imported")["program"]
    made["timing"]["step_seconds"] = figures.summarise([]) | {"samples": None}
    for entry in made["steps"]:
        entry |= {"grad_norm": None, "learning_rate": None, "loss": round(entry["loss"], 3)}
        entry["step_seconds"] = round(entry["step_seconds"], 3)
    return made


def sensible(made: Record) -> Record:
    """The record with the hash of its case, and a word of why it did not complete."""
    case = made["case"]
    if case["hash"] is not None:
        case["hash"] = reading.config_hash(case["config"], made["size"], made["recipe"])
    if made["status"] in ("failed", "preempted"):
        made["error"] = made["error"] or "it was stopped"
    elif made["status"] == "completed":
        made["error"] = None
    return made


def write(results: Path, made: Record) -> Path:
    made = sensible(made)
    folder = results / made["run_id"]
    folder.mkdir(parents=True)
    record.write(folder / "record.json", made)
    return folder


def changed(key: str, value: Any, **made: Any) -> Record:
    """A run whose record has another value at a dotted path."""
    record = make(**made)
    where: Any = record
    *parents, last = key.split(".")
    if key.startswith("case.config."):
        parents, last = ["case", "config"], key.removeprefix("case.config.")
    for parent in parents:
        where = where[parent]
    where[last] = value
    return record
