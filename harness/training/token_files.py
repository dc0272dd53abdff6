"""Token files of a case: one batch or several, checked against the model that is to read them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from harness.cases import families
from harness.cases.settings import Case
from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import safe

_ARRAYS = ("inputs", "targets", "segments")


class Tokens(NamedTuple):
    """The arrays of a batch by name, [B, T], or [batches, B, T] where there are several."""

    arrays: dict[str, np.ndarray]
    batches: int


def read(case: Case, batch: int | None = None, section: Literal["data", "eval"] = "data") -> Tokens:
    """The tokens of `data.tokens` or `eval.tokens`, in batches of so many sequences if given.

    Raises UserError for a file that is not readable, or not one of this case.
    """
    path, length = getattr(case, section).tokens, case.data.sequence_length
    where = f"{section}.tokens={path}"
    stored = _load(str(path), where)
    if isinstance(stored, np.ndarray):
        _check_shape(where, stored, (batch, length + 1), "B, data.sequence_length + 1")
        arrays = {"inputs": stored[..., :-1], "targets": stored[..., 1:]}
    else:
        arrays = dict(stored)
        _check_names(where, arrays)
        for name, array in arrays.items():
            told = f"{where}: {name}"
            _check_shape(told, array, (batch, length), "B, data.sequence_length")
            if array.shape != arrays["inputs"].shape:
                raise UserError(
                    f"{told}: is {list(array.shape)}, must be {list(arrays['inputs'].shape)}"
                    " as inputs"
                )
    _check_values(case, where, arrays)
    first = arrays["inputs"]
    stacked = first.ndim == 3
    if stacked and len(first) == 1:
        arrays = {name: array[0] for name, array in arrays.items()}
    int32 = {name: array.astype(np.int32) for name, array in arrays.items()}
    return Tokens(int32, len(first) if stacked else 1)


def _load(path: str, where: str) -> np.ndarray | Mapping[str, np.ndarray]:
    try:
        inputs.require_file(path, path)
        with open(path, "rb") as file:  # of a damaged archive np.load leaves its own file open
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                return stored
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy raises what its parsers do: of headers, archives, sizes
        told = safe(" ".join(str(error).split()) or type(error).__name__, 300)
        raise UserError(f"{where}: not readable as .npy or .npz: {told}") from None


def _check_names(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    missing = [name for name in _ARRAYS[:2] if name not in arrays]
    unknown = sorted(arrays.keys() - set(_ARRAYS))
    if missing or unknown:
        raise UserError(
            f"{where}: holds {', '.join(arrays) or 'nothing'}; must hold inputs, targets and,"
            " if need be, segments"
        )


def _check_shape(where: str, array: np.ndarray, sizes: tuple[int | None, int], told: str) -> None:
    """Holds an array to integers of [B, T], or [M, B, T], with B anything where it is None."""
    batch, length = sizes
    integer = array.dtype.kind in "iu"
    fits = array.ndim in (2, 3) and array.size and array.shape[-1] == length
    if not (integer and fits and batch in (None, array.shape[-2])):
        wanted = [("B" if batch is None else batch), length]
        raise UserError(
            f"{where}: holds {array.dtype} {list(array.shape)}, must be integers"
            f" [{wanted[0]}, {wanted[1]}] ({told}), or [M, {wanted[0]}, {wanted[1]}]"
        )


def _check_values(case: Case, where: str, arrays: Mapping[str, np.ndarray]) -> None:
    family, vocab = families.of(case), case.model.vocab
    if "segments" in arrays and not family.packed:
        raise UserError(f"{where}: segments: {case.family} takes one document a sequence")
    for name in _ARRAYS[:2]:
        array = arrays[name]
        below = array.min() < 0 and not (name == "targets" and family.packed)
        if below or array.max() >= vocab:
            raise UserError(f"{where}: {name} must lie in [0, model.vocab={vocab})")
