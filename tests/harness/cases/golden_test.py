"""Every change of a case or of the parameters shows in a reviewed file."""

from pathlib import Path

import jax
import pytest

import models
from harness.cases import reading
from harness.training.parallel import mesh
from models.decoder.config import ModelConfig
from models.decoder.parameters import logical_axes

GOLDEN = reading.CASES.parent / "golden"


def compare(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.exists(), f"{path} is missing; make golden writes it"
    assert path.read_text() == text, f"{path} differs; make golden rewrites it"


@pytest.mark.parametrize("name", reading.case_names())
def test_flattened_case(name: str, request: pytest.FixtureRequest) -> None:
    compare(GOLDEN / f"{name}.txt", reading.flat_text(reading.load(name)), request)


@pytest.mark.parametrize("impl", models.IMPLEMENTATIONS)
def test_parameter_table(impl: str, request: pytest.FixtureRequest) -> None:
    full = ModelConfig(attention="xla")
    shapes = jax.eval_shape(lambda: models.get(impl).init(full, jax.random.key(0)))
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    axes = jax.tree.leaves(logical_axes(full), is_leaf=lambda leaf: isinstance(leaf, tuple))
    lines = ["path | shape | dtype | logical axes | physical axes\n"]
    for (path, leaf), names in zip(leaves, axes, strict=True):
        columns = [
            jax.tree_util.keystr(path, simple=True, separator="/"),
            str(list(leaf.shape)),
            str(leaf.dtype),
            ", ".join(names),
            ", ".join(str(mesh.RULES[name]) for name in names),
        ]
        lines.append(" | ".join(columns) + "\n")
    compare(GOLDEN / "parameters.txt", "".join(lines), request)


def test_no_golden_file_without_a_case() -> None:
    names = {path.stem for path in GOLDEN.glob("*.txt")}
    assert names == {*reading.case_names(), "parameters"}
