"""The owner of one run's record: whoever learns something of the run notes it here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.records.cautions import Caution
from harness.records.record import Record, keys
from harness.records.sense import is_nonfinite

_FREE = ("prediction",)  # sections that hold what their maker finds
_OF_A_SAVE = (
    *("step", "bytes", "bytes_per_second"),
    *("blocking_seconds", "background_seconds", "waited_for_previous_seconds"),
)
_USUAL = ("loss", "grad_norm", "learning_rate", "total_weights")


class Recorder:
    """Fills one record. What is in it stays valid at every moment, whatever becomes of the run."""

    def __init__(self, record: Record) -> None:
        self._record = record

    @property
    def record(self) -> Record:
        """The record, to be read and written to disk; it is changed here alone."""
        return self._record

    def note(self, section: str, values: Mapping[str, Any] | None = None, **named: Any) -> None:
        """Keeps values of a section, such as timing; KeyError for a name that it does not have."""
        found = {**(values or {}), **named}
        unknown = found.keys() - keys(section)
        if unknown and section not in _FREE:
            raise KeyError(f"{section}: no such values: {', '.join(sorted(unknown))}")
        self._record[section].update(found)

    def set(self, **named: Any) -> None:
        """Keeps what the record has outside of its sections; KeyError for an unknown name."""
        unknown = named.keys() - keys()
        if unknown:
            raise KeyError(f"no such values: {', '.join(sorted(unknown))}")
        self._record.update(named)

    def warn(self, caution: Caution, **particulars: object) -> None:
        """Keeps a warning, once."""
        told = caution.told(**particulars)
        if told not in self._record["warnings"]:
            self._record["warnings"].append(told)

    def step(self, number: int, metrics: Mapping[str, float], **about: Any) -> dict[str, Any]:
        """Keeps a step and returns its entry; null stands for a metric that is not finite."""
        values = _finite(metrics)
        usual = {name: values.pop(name) for name in _USUAL}
        weights = usual.pop("total_weights")
        entry = {
            "step": number,
            **usual,
            "step_seconds": about.pop("step_seconds"),
            "total_weights": weights,
            **about,
            **values,
        }
        self._record["steps"].append(entry)
        if is_nonfinite(entry):
            self._record["nonfinite_steps"] += 1
        return entry

    def evaluation(self, step: int, metrics: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """Keeps an evaluation of the state after a step and returns its entry, as `step` does."""
        values = _finite(metrics)
        entry = {"step": step, "loss": values.pop("loss"), "seconds": seconds, **values}
        self._record.setdefault("evals", []).append(entry)
        return entry

    def earlier(
        self, steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
    ) -> None:
        """Takes over what an earlier start of the run has recorded."""
        self._record["steps"] = [dict(entry) for entry in steps]
        self._record["nonfinite_steps"] = sum(map(is_nonfinite, steps))
        if evaluations or "evals" in self._record:
            self._record["evals"] = [dict(entry) for entry in evaluations]

    def rewind(self, step: int) -> None:
        """Takes back this step and the later ones: they are run again."""
        told = self._record["steps"], self._record.get("evals", ())
        self.earlier(*([entry for entry in some if entry["step"] < step] for some in told))

    def save(self, cost: Mapping[str, Any]) -> dict[str, Any]:
        """Keeps what one save cost and returns its entry; null stands for what is not told."""
        entry = dict.fromkeys(_OF_A_SAVE) | dict(cost)
        self._record["checkpoint"]["saves"].append(entry)
        return entry


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
