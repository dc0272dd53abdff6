"""Every change of a case or of the parameters shows in a reviewed file."""

from pathlib import Path

import jax
import pytest

from harness import settings
from harness.cases import catalogue, families, reading
from harness.training import beginning, checking
from harness.training.parallel import mesh
from models.seam import USUAL_NAMES
from models.shared.partitioning import mesh_axes
from models.shared.trees import named_leaves

GOLDEN = reading.CASES.parent / "golden"


def compare(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert path.exists(), f"{path} is missing; make golden writes it"
    assert path.read_text() == text, f"{path} differs; make golden rewrites it"


@pytest.mark.parametrize("name", reading.case_names())
def test_flattened_case(name: str, request: pytest.FixtureRequest) -> None:
    compare(GOLDEN / f"{name}.txt", reading.flat_text(reading.load(name)), request)


@pytest.mark.parametrize(
    ("family", "impl"), [(name, impl) for name in families.names() for impl in USUAL_NAMES]
)
def test_parameter_table(family: str, impl: str, request: pytest.FixtureRequest) -> None:
    """Both implementations hold the parameters of one file."""
    found = families.load(None, family)
    full = found.resolve(found.config(), "cpu", 2048)
    implementation = found.get(impl)
    shapes = jax.eval_shape(lambda: implementation.init(full, jax.random.key(0)))
    params, _ = beginning.variables_of(shapes)
    axes = checking.named_axes(implementation.logical_axes(full))
    rules = {**mesh.RULES, **found.rules}
    lines = ["path | shape | dtype | logical axes | physical axes\n"]
    for path, leaf in named_leaves(params).items():
        over = ", ".join(" x ".join(mesh_axes(rules[name])) or "None" for name in axes[path])
        columns = [path, str(list(leaf.shape)), str(leaf.dtype), ", ".join(axes[path]), over]
        lines.append(" | ".join(columns) + "\n")
    compare(GOLDEN / f"{family}.txt", "".join(lines), request)


def test_page_of_settings(request: pytest.FixtureRequest) -> None:
    page = settings.page(catalogue.catalogue(None))
    compare(GOLDEN.parent / "settings.md", page, request)


def test_no_golden_file_without_a_case_or_a_family() -> None:
    names = {path.stem for path in GOLDEN.glob("*.txt")}
    assert names == {*reading.case_names(), *families.names()}
