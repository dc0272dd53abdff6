"""Takes lines out of the models and optimizers, one at a time, and tells which no test misses.

    python scripts/mutations/mutations.py [--count 100] [--seed 0]

Each mutation removes a statement, an argument, an entry, a decorator, a branch, or what a call or
an operator does to its first operand; where both twins have the line, from both, since their
comparison finds the rest. The tests of that file run in a copy of the project until one fails.
"""

import argparse
import importlib
import os
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from finding import ROOT, Finder, Mutation

COPIED = ("configs", "harness", "models", "scripts", "tests")
CPU_SECONDS = 600  # a mutant that needs longer hangs

FAMILIES = "tests/harness/cases/families_test.py"
# What is mutated, and the tests that must miss it, the quickest first.
TESTS = {
    "models/decoder/*.py": (FAMILIES, "tests/models/decoder"),
    "models/shared/*.py": (
        "tests/models/shared/{name}_test.py",
        "tests/models/decoder/family_test.py",
        "tests/models/decoder/parameters_test.py",
        "tests/models/gpt/twins_test.py",
        "tests/models/honeycrisp/twins_test.py",
        "tests/models/decoder/formulas_test.py",
        "tests/models/shared",
    ),
    "models/honeycrisp/*.py": (
        FAMILIES,
        "tests/models/honeycrisp/twins_test.py",
        "tests/models/honeycrisp",
    ),
    "models/gpt/*.py": (FAMILIES, "tests/models/gpt/twins_test.py", "tests/models/gpt"),
    "models/examples/gpt2/*.py": ("tests/models/examples/gpt2",),
    "harness/optimizers/*.py": ("tests/harness/optimizers",),
    "harness/training/losses.py": ("tests/harness/training/losses_test.py",),
}


def all_mutations() -> list[tuple[str, tuple[Mutation, ...]]]:
    """Every mutation, with the pattern of its tests; the facing ones of both twins are one."""
    made = []
    for pattern in TESTS:
        groups: dict[object, list[Mutation]] = defaultdict(list)
        for file in sorted(ROOT.glob(pattern)):
            seen: Counter[tuple[str, ...]] = Counter()
            twin = file.stem in ("linen", "nnx")
            for mutation in Finder(file.relative_to(ROOT)).found:
                seen[mutation.what] += 1
                group = "twins" if twin else file.stem
                groups[group, mutation.what, seen[mutation.what]].append(mutation)
        made += [(pattern, tuple(group)) for group in groups.values()]
    return made


def failing_test(tree: Path, tests: list[str]) -> str | None:
    """The first test that fails in a copy of the project, in a process of its own."""
    output = tree / "output.txt"
    child = os.fork()
    if child == 0:
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        import pytest

        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    _, status = os.waitpid(child, 0)
    if status == 0:
        return None
    text = output.read_text(errors="replace")
    told = [line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return told[0].split(" - ")[0] if told else f"exit {os.waitstatus_to_exitcode(status)}"


def main() -> int:
    """Prints each mutation with what found it; 1 when fewer than 95 % were found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", nargs="+", metavar="FILE:LINE", help="all that are there")
    arguments = parser.parse_args()
    every = all_mutations()
    chosen = random.Random(arguments.seed).sample(every, min(arguments.count, len(every)))
    if arguments.at:
        chosen = [one for one in every if {str(m).split()[0] for m in one[1]} & {*arguments.at}]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        _prepare(tree, {test for pattern, _ in chosen for test in TESTS[pattern]})
        for number, (pattern, mutations) in enumerate(chosen, 1):
            found = _found(tree, pattern, mutations)
            survived += found is None
            told = " and ".join(map(str, mutations))
            print(f"{number:3} {found or 'SURVIVES'} <- {told}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} found, of {len(every)} there are")
    return int(survived > 0.05 * len(chosen))


def _found(tree: Path, pattern: str, mutations: tuple[Mutation, ...]) -> str | None:
    """The first test that fails while these are made."""
    whole = {one.path: (tree / one.path).read_bytes() for one in mutations}
    for one in mutations:
        (tree / one.path).write_bytes(one.applied(whole[one.path]))
    tests = [test.format(name=mutations[0].path.stem) for test in TESTS[pattern]]
    found = failing_test(tree, [test for test in tests if (tree / test).exists()])
    for path, source in whole.items():
        (tree / path).write_bytes(source)
    return found


def _prepare(tree: Path, tests: set[str]) -> None:
    """Imports what every mutant needs once, and keeps what XLA compiles for the next ones."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(tree / "compiled"))
    sys.dont_write_bytecode = True
    for name in ("flax.linen", "flax.nnx", "optax", "pytest"):
        importlib.import_module(name)
    failing = failing_test(tree, sorted(test for test in tests if "{" not in test))
    if failing is not None:
        raise SystemExit(f"without any mutation: {failing}")


if __name__ == "__main__":
    sys.exit(main())
