"""References to runs, and what is done with files that are no good records."""

import json
import shutil
import time
from pathlib import Path

import pytest
from compared_records import Record, make, write

from harness.cases import reading
from harness.records import finding, record, sealing
from harness.records.finding import Found
from harness.records.record import RecordError
from harness.terminal.errors import UserError


def run(run_id: str, impl: str = "linen", time: str = "2026-11-03T00:00:00+00:00") -> Record:
    made = make(impl=impl, run_id=run_id)
    made["environment"]["time"] = time
    return made


def ids(found: list[Found]) -> list[str]:
    return [one.record["run_id"] for one in found]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs of each twin, and repeats of one."""
    results = tmp_path / "results"
    for made in (
        run("old-nnx", "nnx", "2026-11-01T00:00:00+00:00"),
        run("a-new-nnx", "nnx", "2026-11-02T00:00:00+00:00"),
        run("a-linen"),
        *(run(f"again-{number}") for number in (1, 2, 3)),
    ):
        write(results, made)
    return results


def test_a_run_is_found_by_id_folder_and_file(results: Path) -> None:
    for reference in ("a-linen", results / "a-linen", results / "a-linen" / "record.json"):
        found, warnings = finding.find(str(reference), results)
        assert (ids(found), warnings) == (["a-linen"], [])
        assert found[0].path == results / "a-linen" / "record.json"


def test_the_latest_run_of_a_case_is_found_by_its_time(results: Path) -> None:
    assert ids(finding.find("03_dropout:nnx", results)[0]) == ["a-new-nnx"]
    later = run("failed-nnx", "nnx", "2026-11-09T00:00:00+00:00") | {"status": "failed"}
    write(results, later)
    found, warnings = finding.find("03_dropout:nnx", results)
    assert (ids(found), warnings) == (["a-new-nnx"], ["failed-nnx: later, but not completed"])


def test_the_latest_run_of_a_case_is_of_the_twins_that_are_meant(results: Path) -> None:
    other = run("other", "bridge", "2026-11-09T00:00:00+00:00")
    other["case"]["config"]["twins"] = "mine"
    write(results, other)
    assert ids(finding.find("03_dropout:bridge", results, "mine")[0]) == ["other"]
    with pytest.raises(UserError, match=r"of that case; .* 03_dropout:bridge with --twins mine,"):
        finding.find("03_dropout:bridge", results)
    with pytest.raises(UserError, match=r"of that case of --twins mine; there are runs of"):
        finding.find("03_dropout:nnx", results, "mine")
    alone = run("alone", "bridge", "2026-11-10T00:00:00+00:00")
    alone["case"]["config"]["twins"] = "mine"
    alone["case"]["name"] = reading.PAIR_CASE
    write(results, alone)
    for reference, twins in (("mine:bridge", None), ("00_pair:bridge", "mine")):
        assert ids(finding.find(reference, results, twins)[0]) == ["alone"]
    with pytest.raises(UserError, match=r"there are runs of .* mine:bridge"):
        finding.find("mine:nnx", results)


def test_repeats_are_found_by_their_common_id_and_by_their_folder(
    results: Path, tmp_path: Path
) -> None:
    names = ["again-1", "again-2", "again-3"]
    assert ids(finding.find("again", results)[0]) == names
    for name in names:
        shutil.copytree(results / name, tmp_path / "repeats" / name)
    assert ids(finding.find(str(tmp_path / "repeats"), results)[0]) == names
    write(tmp_path / "repeats", run("other-twin", "nnx"))
    assert ids(finding.find(f"{tmp_path}/repeats:linen", results)[0]) == names
    with pytest.raises(UserError, match=r"not repeats .* differ in implementations: linen,"):
        finding.find(str(tmp_path / "repeats"), results)


def test_repeats_that_did_not_complete_are_left_out(results: Path) -> None:
    write(results, run("again-4") | {"status": "failed"})
    found, warnings = finding.find("again", results)
    assert len(found) == 3
    assert warnings == ["left out, as not completed: again-4"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("config", {"run.steps": 33, "run.seed": 1}, "case.hash: "),
        ("name", "04_int8", "cases: 03_dropout, 04_int8"),
    ],
)
def test_repeats_are_of_one_experiment(results: Path, key: str, value: str, message: str) -> None:
    other = run("again-4")
    other["case"][key] = value
    write(results, other)
    with pytest.raises(UserError, match=f"they differ in {message}"):
        finding.find("again", results)


@pytest.mark.parametrize(
    "reference",
    [
        *("", "nothing", "a-lines", "03_dropout", "03_dropout:jax", "99_no:nnx", "../x"),
        *("\0", "x" * 5000, ":", ":nnx", "\x1b[31m", "a\nb"),
    ],
)
def test_a_reference_to_nothing_is_one_line(results: Path, reference: str) -> None:
    with pytest.raises(UserError) as caught:
        finding.find(reference, results)
    assert str(caught.value).isprintable()


def test_the_nearest_run_id_is_named(results: Path) -> None:
    with pytest.raises(UserError, match=r"nearest: a-linen"):
        finding.find("a-linem", results)


def test_results_that_are_not_there_hold_no_run(tmp_path: Path) -> None:
    for reference in ("a-run", "03_dropout:nnx"):
        with pytest.raises(UserError):
            finding.find(reference, tmp_path / "none")


def spoil(path: Path, how: str) -> None:
    """Makes a good record file a bad one."""
    text = path.read_text()
    content = json.loads(text)
    if how == "edited":
        path.write_text(text.replace('"loss": 9.', '"loss": 8.', 1))
        return
    del content[sealing.SEAL]  # by someone who knows it
    if how == "truncated":
        path.write_text(text[: len(text) // 2])
    elif how == "empty":
        path.write_text("")
    elif how == "foreign":
        path.write_text('{"loss": 1.5}')
    elif how == "binary":
        path.write_bytes(b"\xff\x00" * 100)
    elif how == "future":
        path.write_text(json.dumps(content | {"schema_version": 99}))
    elif how == "twice the same step":
        path.write_text(json.dumps(content | {"steps": content["steps"] + content["steps"][-1:]}))
    elif how == "a median of no step":
        content["timing"]["step_seconds"] |= {"median": 0.001, "p10": 0.001}
        path.write_text(json.dumps(content))
    elif how == "more samples than steps":
        content["timing"]["step_seconds"]["samples"] = 10**9
        path.write_text(json.dumps(content))


BAD = {
    "edited": "has changed since it was written: its sha256 does not match what it holds",
    "truncated": "truncated or not JSON",
    "empty": "truncated or not JSON",
    "foreign": "no schema_version",
    "binary": "not a record",
    "future": "schema_version 99 is newer than this program",
    "twice the same step": "changed by hand? its steps are not in order",
    "a median of no step": "changed by hand? its median lies outside the times of its steps",
    "more samples than steps": "changed by hand? it counts more samples than steps",
}


@pytest.mark.parametrize(("how", "message"), BAD.items())
def test_a_bad_record_is_skipped_with_its_name_or_refused(
    results: Path, how: str, message: str
) -> None:
    bad = results / "a-linen" / "record.json"
    spoil(bad, how)
    found, warnings = finding.load_all([results])
    assert len(found) == 5
    (warning,) = warnings
    assert warning.startswith(f"skipped {bad}: ")
    assert message in warning
    with pytest.raises(RecordError) as caught:
        finding.find("a-linen", results)
    assert message in str(caught.value)


def test_everything_below_a_folder_is_loaded_in_order_but_not_what_lies_in_a_run(
    results: Path,
) -> None:
    inner = results / "a-linen" / "checkpoints" / "0"
    inner.mkdir(parents=True)
    (inner / "record.json").write_text("not a record")
    write(results / "reference" / "published", run("published"))
    found, warnings = finding.load_all([results, results / "a-linen" / "record.json"])
    expected = ["a-linen", "a-new-nnx", "again-1", "again-2", "again-3", "old-nnx", "published"]
    assert (ids(found), warnings) == ([*expected, "a-linen"], [])
    with pytest.raises(UserError, match="there is no such file or folder"):
        finding.load_all([results / "none"])


def test_five_hundred_long_runs_are_soon_loaded(tmp_path: Path) -> None:
    """Fifty of them here; the limit leaves room for a busy machine."""
    made = make(seconds=[0.07] * 1000)
    for number in range(50):
        write(tmp_path, made | {"run_id": f"run-{number}"})
    begun = time.process_time()
    found, warnings = finding.load_all([tmp_path])
    assert (len(found), warnings) == (50, [])
    assert time.process_time() - begun < 1.5


def test_a_record_of_another_schema_is_not_loaded(tmp_path: Path) -> None:
    assert record.SCHEMA_VERSION == 2
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(RecordError):
        finding.load(tmp_path / "record.json")
