"""Parameters given as arrays: taken as they are, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_states import CASE, abstract_state

from harness.saving import restoring
from harness.terminal.errors import UserError

GOOD = {
    "decoder/kernel": np.arange(64 * 64, dtype=np.float32).reshape(64, 64),
    "decoder/scale": np.ones(16, np.float32),
    "logits/kernel": np.zeros((64, 64), np.float32),
}


def restored(path: Path, arrays: dict[str, Any]) -> Any:
    np.savez(path, **arrays)
    return restoring.restore(path, abstract_state(), CASE)


def test_given_arrays_lie_where_the_state_does(tmp_path: Path) -> None:
    found = restored(tmp_path / "p.npz", GOOD)
    assert (found.step, found.state.keys()) == (None, {"params"})
    kernel = found.state["params"]["decoder"]["kernel"]
    np.testing.assert_array_equal(kernel, GOOD["decoder/kernel"])
    assert kernel.sharding == abstract_state()["params"]["decoder"]["kernel"].sharding


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decoder/scale": None}, "lacks decoder/scale"),
        ({"decoder/bias": np.ones(2)}, "holds, and this run has not, decoder/bias"),
        ({"decoder/scale": np.ones(8, np.float32)}, "float32[8], must be float32[16]"),
        ({"decoder/scale": np.ones(16)}, "decoder/scale is float64[16], must be float32[16]"),
    ],
)
def test_other_arrays_are_refused(changes: Any, told: str, tmp_path: Path) -> None:
    arrays = {name: value for name, value in (GOOD | changes).items() if value is not None}
    with pytest.raises(UserError) as error:
        restored(tmp_path / "p.npz", arrays)
    assert told in str(error.value)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_bytes(b"nothing")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nothing more")
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, np.ones(3))
    for name in ("text", "cut", "single", "absent"):
        path = tmp_path / f"{name}.npz"
        with pytest.raises(UserError, match=r"not readable as \.npz"):
            restoring.restore(path, abstract_state(), CASE)
