"""A checkpoint under other names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_states import CASE, make_state

from harness.cases.settings import Checkpoint
from harness.saving import files, renaming
from harness.saving.checkpointer import Checkpointer
from harness.terminal.errors import UserError
from models.shared.trees import named_leaves


def saved(directory: Path) -> tuple[files.StoredStep, dict[str, Any]]:
    state = make_state(0)
    checkpointer = Checkpointer(directory, Checkpoint(async_=False), {"case": CASE, "impl": "nnx"})
    checkpointer.open(resume=False)
    checkpointer.save(0, state)
    return files.read_step(directory / "0"), named_leaves(state)


def test_every_tree_of_parameters_is_renamed_and_the_rest_kept(tmp_path: Path) -> None:
    step, state = saved(tmp_path / "run")
    params = {name.removeprefix("params/") for name in state if name.startswith("params/")}

    def rename(arrays: Mapping[str, Any]) -> dict[str, Any] | None:
        if arrays.keys() != params:
            return None
        return {f"mine/{name}": one for name, one in arrays.items()}

    count, kept = renaming.write(step, rename, tmp_path / "out")
    found = files.read_step(tmp_path / "out")
    arrays = files.read_arrays(found, files.described(found))
    assert count == len(arrays) == len(state)
    assert kept == len(state) - 3 * len(params)  # parameters and two moments are renamed
    for name in params:
        np.testing.assert_array_equal(arrays[f"params/mine/{name}"], state[f"params/{name}"])
        assert f"opt_state/0/mu/mine/{name}" in arrays
    with pytest.raises(UserError, match="out: is there already"):
        renaming.write(step, rename, tmp_path / "out")
    with pytest.raises(UserError, match="holds the parameters of neither side"):
        renaming.write(step, lambda arrays: None, tmp_path / "other")
