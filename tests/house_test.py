"""The plan of the house: who may import what from whom, told by the imports alone."""

import ast
import functools
import graphlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
LONGEST = 300  # lines of a file


# Modules without a test file of their name: where they are tested instead, and why.
TESTED_AS = {
    "harness/__main__.py": "harness/main_test.py",
    # An exception's name is all that is in them.
    "harness/terminal/errors.py": "harness/run_test.py",
    "harness/saving/faults.py": "harness/saving/restoring_test.py",
    # What a command does, once nothing is left to be refused.
    "harness/bisecting/answering.py": "harness/bisect_test.py",
    "harness/slices/answering.py": "harness/preflight_test.py",
    "harness/saving/looking.py": "harness/checkpoints_test.py",
    "harness/training/machine.py": "harness/doctor_test.py",
    "harness/training/options.py": "harness/run_test.py",
    # Twins are judged together.
    "models/decoder/linen.py": "models/decoder/twins_test.py",
    "models/decoder/nnx.py": "models/decoder/twins_test.py",
    "models/examples/gpt2/linen.py": "models/examples/gpt2/twins_test.py",
    "models/examples/gpt2/nnx.py": "models/examples/gpt2/twins_test.py",
    # The parts of a reader: what they are for shows when a whole document is read.
    "harness/published/axlearn_*.py": "harness/published/axlearn_config_test.py",
    "harness/published/megatron_*.py": "harness/published/megatron_log_test.py",
    "harness/published/max*.py": "harness/published/maxtext_test.py",
    "harness/published/event_file.py": "harness/published/metric_rows_test.py",
    "harness/published/prefixes.py": "harness/published/arrival_test.py",
    "harness/published/attempts.py": "harness/published/arrival_test.py",
    "harness/published/telling.py": "harness/published/field_test.py",
    "harness/published/document.py": "harness/published/fuzz_test.py",
    # What only a comparison, a page or a command shows.
    "harness/cases/case_files.py": "harness/cases/reading_test.py",
    # The steps of finding whose array is whose: what they are for shows in a whole pair.
    "models/pairing/*.py": "models/pair_test.py",
    "models/examples/own/*.py": "models/pair_test.py",
    # What the twins of a family share shows in the twins.
    "models/honeycrisp/*.py": "models/honeycrisp/twins_test.py",
    "models/gpt/*.py": "models/gpt/twins_test.py",
    "models/shared/flops.py": "models/decoder/family_test.py",
    "models/shared/grouped.py": "models/honeycrisp/twins_test.py",
    "models/shared/losses.py": "models/honeycrisp/twins_test.py",
    "models/shared/tables.py": "models/decoder/parameters_test.py",
    # What only a compiled program shows.
    "harness/slices/forecast*.py": "harness/preflight_test.py",
    "harness/slices/rows.py": "harness/preflight_test.py",
    "harness/slices/search_text.py": "harness/preflight_test.py",
    "harness/slices/playing.py": "harness/slices/prediction_test.py",
    "harness/bisecting/asking.py": "harness/bisect_test.py",
    "harness/bisecting/computing.py": "harness/bisect_test.py",
    "harness/bisecting/examining.py": "harness/training/checking_test.py",
    "harness/bisecting/telling.py": "harness/bisect_test.py",
    # What only a whole run shows.
    "harness/training/beginning.py": "harness/training/train_step_test.py",
    "harness/training/loop.py": "harness/run_test.py",
    "harness/training/attempt.py": "harness/run_test.py",
    "harness/training/session.py": "harness/run_test.py",
    # What only a whole pipeline shows.
    "harness/training/parallel/stage.py": "harness/training/parallel/pipeline_test.py",
}


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = [path for top in ("harness", "models", "scripts") for path in (ROOT / top).rglob("*.py")]
PACKAGES = [named(path) for path in FILES if path.name == "__init__.py"]


@dataclass(frozen=True)
class Import:
    """A module takes `name` (None: all of it) from another one, and calls it `alias`."""

    by: str
    module: str
    name: str | None
    alias: str


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module of the project by its name; those of scripts/ by their paths."""
    return {named(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


@functools.cache
def imports() -> tuple[Import, ...]:
    """All of them, also those within functions and for the type checker alone."""
    return tuple(one for by, tree in modules().items() for one in imports_of(by, tree))


def imports_of(by: str, tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(by, name.name, None, name.asname or name.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{by}: a relative import"
            for name in node.names:
                whole, alias = f"{node.module}.{name.name}", name.asname or name.name
                is_module = whole in modules()
                yield (
                    Import(by, whole, None, alias)
                    if is_module
                    else Import(by, str(node.module), name.name, alias)
                )


@functools.cache
def attributes(module: str) -> dict[str, set[str]]:
    """What a module takes by a dot, by what stands before it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            found[ast.unparse(node.value)].add(node.attr)
    return found


def taken(one: Import) -> set[str]:
    """The names that an import brings into use."""
    names = {one.name} if one.name else attributes(one.by).get(one.alias, set())
    return {name for name in names if not name.startswith("__")}


def room(module: str) -> str:
    """The folder below harness/ or models/ that a module lies in; itself where it lies in none."""
    head = ".".join(module.split(".")[:2])
    return head if head in PACKAGES else module


@functools.cache
def face(package: str) -> frozenset[str]:
    """What a package's `__all__` lists."""
    for node in modules()[package].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


@functools.cache
def defined(package: str) -> frozenset[str]:
    """The names of a package that are no modules, though some are called as one of its modules."""
    names = {one.alias for one in imports() if one.by == package and one.name}
    for node in modules()[package].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.add(ast.unparse(node.targets[0]))
    return frozenset(names)


def test_a_room_offers_what_its_face_lists() -> None:
    behind = []
    for one in imports():
        if room(one.module) not in PACKAGES or room(one.by) == room(one.module):
            continue
        steps = one.module.split(".")
        for depth in range(2, len(steps)):
            package, module = ".".join(steps[:depth]), steps[depth]
            if module not in face(package) - defined(package):
                behind.append(f"{one.by} reaches into {package}: {module}")
        if one.module in PACKAGES:
            hidden = taken(one) - face(one.module)
            behind += [f"{one.by} takes {name} of {one.module}" for name in hidden]
    assert not behind


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_face_lists_is_there(package: str) -> None:
    assert ast.get_docstring(modules()[package])
    own = {name for name in face(package) if f"{package}.{name}" in modules()}
    taken_in = {one.alias for one in imports() if one.by == package}
    assert face(package) <= own | taken_in | defined(package)


def test_what_is_private_stays_where_it_is() -> None:
    crossing = [
        f"{one.by} takes {name} of {one.module}"
        for one in imports()
        if one.module in modules()
        for name in taken(one)
        if name.startswith("_")
    ]
    assert not crossing


def test_models_know_nothing_of_the_harness_and_it_nothing_of_frameworks() -> None:
    tops = {(one.by.partition(".")[0], one.module.partition(".")[0]) for one in imports()}
    forbidden = {("models", "harness"), ("models", "scripts"), ("harness", "scripts")}
    assert not tops & {*forbidden, ("harness", "flax")}
    assert ("harness", "models") in tops


@pytest.mark.parametrize("of", ["modules", "rooms"])
def test_nothing_imports_itself_by_way_of_others(of: str) -> None:
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for one in imports():
        by, module = (one.by, one.module) if of == "modules" else (room(one.by), room(one.module))
        if one.module in modules() and by != module:
            graph[by].add(module)
    assert len(graph) > 10
    assert [*graphlib.TopologicalSorter(graph).static_order()]  # CycleError names the circle


def test_a_file_is_short() -> None:
    lengths = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_every_module_has_a_test_file() -> None:
    """Under its own name, in the folder of tests/ that mirrors its own."""
    untested, needless = [], set(TESTED_AS)
    for path in FILES:
        module = path.relative_to(ROOT)
        if module.parts[0] == "scripts" or module.name == "__init__.py":
            continue
        own = TESTS / module.with_name(f"{module.stem}_test.py")
        patterns = [pattern for pattern in TESTED_AS if module.match(pattern)]
        if not own.exists():
            needless -= set(patterns)
            others = [TESTS / TESTED_AS[pattern] for pattern in patterns]
            untested += [] if others and all(map(Path.exists, others)) else [str(module)]
    assert not untested
    assert not needless, "they have test files of their own, or are gone"
