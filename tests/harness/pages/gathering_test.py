from pathlib import Path
from typing import Any

import pytest
from compared_records import Record, imported, make, write

from harness.cases.reading import case_names
from harness.pages import gathering
from harness.pages.gathering import Collection, Group


def run(run_id: str, impl: str, hour: int, **changes: Any) -> Record:
    made = make(impl=impl, run_id=run_id)
    made["environment"]["time"] = f"2026-11-03T{hour:02d}:00:00+00:00"
    return made | changes


def gathered(folder: Path, *records: Record) -> Collection:
    for record in records:
        write(folder, record)
    return gathering.gather([folder])


def only_group(collection: Collection) -> Group:
    (group,) = [group for case in collection.cases for group in case.groups]
    return group


def ids(runs: Any) -> list[str]:
    return [one.record["run_id"] for one in runs]


def test_every_case_of_the_project_is_there_and_told_from_its_file(tmp_path: Path) -> None:
    collection = gathered(tmp_path)
    assert [case.name for case in collection.cases] == sorted(case_names())
    assert all(case.header.title and case.header.measures for case in collection.cases)
    assert (collection.runs, collection.others, collection.warnings) == ([], [], [])


def test_runs_of_one_experiment_on_one_kind_of_devices_are_a_group(tmp_path: Path) -> None:
    other = run("other", "linen", 9)
    other["environment"]["device_count"] = 8
    collection = gathered(tmp_path, run("b", "nnx", 2), run("a", "linen", 1), other)
    (case,) = [case for case in collection.cases if case.groups]
    assert case.name == "03_dropout"
    assert [(group.label, ids(group.runs)) for group in case.groups] == [
        ("full, 8 x TPU v6 lite", ["other"]),
        ("full, 32 x TPU v6 lite", ["a", "b"]),
    ]


def test_the_newest_of_each_implementation_are_compared(tmp_path: Path) -> None:
    older = [run("old-linen", "linen", 1), run("old-nnx", "nnx", 2)]
    failed = run("failed", "nnx", 9, status="failed", error="no")
    group = only_group(
        gathered(tmp_path, *older, run("new-linen", "linen", 3), run("new-nnx", "nnx", 4), failed)
    )
    assert group.names == ("linen", "nnx")
    assert group.pair is not None
    assert (ids(group.pair.a), ids(group.pair.b)) == (["new-linen"], ["new-nnx"])


def test_those_alike_in_all_else_come_before_newer_ones(tmp_path: Path) -> None:
    newer = run("newer", "nnx", 5)
    newer["environment"]["jax"] = "0.12"
    group = only_group(gathered(tmp_path, run("a", "linen", 1), run("b", "nnx", 2), newer))
    assert group.pair is not None
    assert ids(group.pair.b) == ["b"]


def test_enough_repeats_are_compared_together(tmp_path: Path) -> None:
    runs = [run(f"{impl}-{n}", impl, n) for impl in ("linen", "nnx") for n in range(6)]
    group = only_group(gathered(tmp_path, *runs))
    assert group.pair is not None
    assert (len(group.pair.a), len(group.pair.b)) == (6, 6)
    assert group.pair.found.speed.by == "runs"


def test_one_implementation_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    assert only_group(gathered(tmp_path, run("a", "linen", 1))).pair is None


def test_compiled_and_published_runs_are_no_measurements(tmp_path: Path) -> None:
    told = imported(run_id="told")
    sides = [run(f"{impl}-compiled", impl, 3, status="preflight") for impl in ("linen", "nnx")]
    collection = gathered(tmp_path, told, *sides)
    (case,) = [case for case in collection.cases if case.preflights]
    assert ids(case.published) == ["told"]
    assert list(case.preflights) == ["v6e-32"]
    assert case.preflights["v6e-32"].keys() == {"linen", "nnx"}
    assert case.preflight_pairs["v6e-32"].found.programs.same
    assert not case.groups


@pytest.mark.parametrize(
    ("recipe", "topology", "name"),
    [("reference", "v6e-8", "v6e-8"), ("fast", "v6e-8", "v6e-8, fast"), (None, None, "no slice")],
)
def test_a_compilation_is_named_by_slice_and_recipe(
    recipe: str | None, topology: str | None, name: str
) -> None:
    made = run("a", "linen", 1, recipe=recipe)
    made["environment"]["topology"] = topology
    assert gathering.compiled_for(made) == name


def test_a_run_of_no_case_is_one_of_the_others(tmp_path: Path) -> None:
    made = run("a", "linen", 1)
    made["case"]["name"] = None
    assert ids(gathered(tmp_path, made).others) == ["a"]
