"""What of a case may be set otherwise to make it faster, its mathematics left as they are."""

import dataclasses
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.cases import families, reading
from harness.cases.settings import Case
from harness.training.parallel import mesh
from models.shared.partitioning import mesh_axes

RECIPE = "recipe"
_PLATFORM = "tpu"
REMAT = "model.remat"
_CHOICES = (REMAT, "model.attention")  # of the families that have them


@dataclass(frozen=True)
class Candidate:
    """A recipe, and what is set otherwise than the case has it by that recipe, sorted by key."""

    recipe: str
    settings: tuple[tuple[str, str | int], ...] = ()

    @property
    def overrides(self) -> list[str]:
        """As `--set` takes them."""
        return [f"{key}={value}" for key, value in self.settings]


@dataclass(frozen=True)
class Change:
    """One thing that is set otherwise; `key` is that of a setting, or RECIPE."""

    key: str
    old: str | int
    new: str | int


def recipes(case: Case, own: str, may_round: bool = False) -> list[str]:
    """The recipe of a case, and others: of int8, which they round elsewhere, only where allowed."""
    rounds = getattr(case.model, "quantization", "none") == "int8"
    others = [recipe for recipe in reading.RECIPES if recipe != own]
    return [own, *([] if rounds and not may_round else others)]


class Space:
    """The candidates around a case: recipe, batch, remat, attention and mesh.

    load: the case by a recipe and with overrides; raises UserError. recipes: the first one is that
    of the case as it is.
    """

    def __init__(self, load: Callable[[str, Sequence[str]], Case], recipes: Sequence[str]) -> None:
        self._load = load
        self._given = {recipe: load(recipe, ()) for recipe in recipes}
        self.start = Candidate(recipes[0])
        is_whole = self._given[recipes[0]].data.global_batch is not None
        self.batch_key = f"data.{'global_batch' if is_whole else 'per_device_batch'}"

    def case(self, candidate: Candidate) -> Case:
        """The case as a candidate sets it; raises UserError."""
        return self._load(candidate.recipe, candidate.overrides)

    def value(self, candidate: Candidate, key: str) -> str | int:
        """What a setting is in a candidate, or which recipe it is by."""
        if key == RECIPE:
            return candidate.recipe
        return dict(candidate.settings).get(key, _value(self._given[candidate.recipe], key))

    def changed(self, candidate: Candidate, change: Change) -> Candidate:
        """The candidate with one thing set otherwise."""
        settings = dict(candidate.settings)
        recipe = candidate.recipe
        if change.key == RECIPE:
            recipe = str(change.new)
        else:
            settings[change.key] = change.new
        given = self._given[recipe]
        kept = {key: value for key, value in settings.items() if value != _value(given, key)}
        return Candidate(recipe, tuple(sorted(kept.items())))

    def changes(self, candidate: Candidate) -> list[Change]:
        """Every one thing that can be set otherwise; some of it may turn out to be impossible."""
        case = self._given[candidate.recipe]
        batch = int(self.value(candidate, self.batch_key))
        others: list[tuple[str, list[Any]]] = [
            (RECIPE, list(self._given)),
            (self.batch_key, [4 * batch, *_near(batch)]),
        ]
        others += [
            (key, self._choices(case, key)) for key in _CHOICES if hasattr(case.model, _name(key))
        ]
        for axis in _axes(case):
            key = f"parallel.{axis}"
            size = int(self.value(candidate, key))
            others.append((key, [] if size == -1 else _near(size)))
        return [
            Change(key, old, new)
            for key, values in others
            for old in [self.value(candidate, key)]
            for new in values
            if new != old
        ]

    def _choices(self, case: Case, key: str) -> list[str]:
        """The values that the family's config allows, of attention those of the platform."""
        allowed = typing.get_type_hints(type(case.model))[_name(key)]
        if typing.get_origin(allowed) is not Literal:
            return []
        values = [value for value in typing.get_args(allowed) if isinstance(value, str)]
        if key != "model.attention" or "auto" not in values:
            return values
        # "auto" is a kernel only where the platform has one for these shapes.
        own = case.model.attention
        others = (one for one in ("auto", "xla") if _resolved(case, one) != _resolved(case, own))
        return [own, *others]


def _resolved(case: Case, attention: str) -> str:
    """The attention that is computed for a setting; the setting, where the config forbids it."""
    try:
        model = dataclasses.replace(case.model, attention=attention)
        resolved = families.of(case).resolve(model, _PLATFORM, case.data.sequence_length)
    except ValueError:  # the words of the config, which come again when the case is read
        return attention
    return str(resolved.attention)


def _axes(case: Case) -> list[str]:
    """The axes of the mesh on which something of the family lies."""
    used = {axis for over in mesh.rules_of(case).values() for axis in mesh_axes(over)}
    return [axis.name for axis in dataclasses.fields(case.parallel) if axis.name in used]


def _near(size: int) -> list[int]:
    return [2 * size, *([size // 2] if size % 2 == 0 else [])]


def _name(key: str) -> str:
    return key.partition(".")[2]


def _value(case: Case, key: str) -> str | int:
    section, _, name = key.partition(".")
    value: str | int = getattr(getattr(case, section), name)
    return value
