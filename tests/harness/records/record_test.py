import copy
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cases import reading
from harness.records import record
from harness.records.record import RecordError

Record = dict[str, Any]

CORE = {
    "case": "name hash config",
    "environment": "time git_commit git_dirty python jax jaxlib libtpu flax optax orbax platform "
    "device_kind device_count process_count topology xla_flags libtpu_init_args hostname",
    "model": "parameters parameters_per_device tflop_per_step_per_device attention_tflop_percent",
    "memory": "argument_bytes output_bytes temp_bytes alias_bytes generated_code_bytes total_bytes "
    "in_use_after_init_bytes peak_in_use_bytes capacity_bytes",
    "timing": "import_seconds init_seconds trace_seconds lower_seconds compile_seconds "
    "first_step_seconds wall_seconds tokens_per_second_per_device tflops_per_device mfu_percent "
    "host_dispatch_seconds goodput_percent",
    "timing.step_seconds": "median p10 p90 samples",
    "checkpoint": "arrays bytes digest saves restored_from",
    "program": "stablehlo_sha256 optimized_sha256 fusion_cycles wire_bytes collectives quantized",
    "prediction": "step_seconds",
}
CORE_KEYS = [
    *("schema_version", "run_id", "status", "impl", "size", "recipe", "warnings", "error", "steps"),
    *(f"{section}.{key}" for section, keys in CORE.items() for key in keys.split()),
]

STEP = {
    "step": 0,
    "loss": 10.889,
    "grad_norm": 1.5,
    "learning_rate": 0.0,
    "step_seconds": 0.071,
    "total_weights": 4096,
    "after_save": False,
}


@pytest.fixture
def full_record() -> Record:
    made = record.blank("a-run", "completed", impl="nnx", size="tiny", recipe="reference")
    made["warnings"] = ["a warning"]
    made["case"] = {"name": "03_dropout", "config": {"model.embed": 64}}
    made["case"]["hash"] = reading.config_hash(made["case"]["config"], "tiny", "reference")
    made["program"]["collectives"] = {"all-gather": {"count": 16, "bytes": 1e9}}
    made["prediction"] = {"step_seconds": 0.07, "wire_seconds": 0.06}
    made["steps"] = [STEP, STEP | {"step": 1, "loss": None}]
    return made


def change(tree: Any, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree[int(parent)] if isinstance(tree, list) else tree[parent]
    tree[last] = value


def values_of(tree: object) -> list[object]:
    if isinstance(tree, dict | list):
        children = tree.values() if isinstance(tree, dict) else tree
        return [value for child in children for value in values_of(child)]
    return [tree]


def test_a_blank_record_is_valid_and_holds_every_core_key() -> None:
    made = record.blank("a-run", "failed")
    record.validate(made)
    for key in CORE_KEYS:
        value: Any = made
        for part in key.split("."):
            assert part in value, key
            value = value[part]
    known = [made.pop(key) for key in ("schema_version", "run_id", "status")]
    assert known == [2, "a-run", "failed"]
    assert set(values_of(made)) == {None}


def test_blank_records_share_nothing() -> None:
    record.blank("a-run", "failed")["steps"].append(STEP)
    assert record.blank("a-run", "failed")["steps"] == []


def test_a_written_record_reads_back_equal(tmp_path: Path, full_record: Record) -> None:
    path = tmp_path / "record.json"
    record.write(path, full_record)
    assert record.read(path) == full_record
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("loss", [10.889, 6.981234073638916, 1e-45, 3.4028234663852886e38])
def test_losses_keep_every_bit(tmp_path: Path, full_record: Record, loss: float) -> None:
    full_record["steps"][0]["loss"] = loss
    record.write(tmp_path / "record.json", full_record)
    assert record.read(tmp_path / "record.json")["steps"][0]["loss"] == loss


def test_a_record_lists_one_step_per_line(tmp_path: Path, full_record: Record) -> None:
    record.write(tmp_path / "record.json", full_record)
    lines = (tmp_path / "record.json").read_text().splitlines()
    assert [line for line in lines if '"after_save"' in line] == [
        f"    {json.dumps(full_record['steps'][0])},",
        f"    {json.dumps(full_record['steps'][1])}",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("status", "done", r"status must be one of \['completed'"),
        ("run_id", "../escape", "run_id must match pattern"),
        ("run_id", "a\n", "run_id must match pattern"),
        ("schema_version", 0, "schema_version must be"),
        ("schema_version", True, "schema_version must be integer"),
        ("surprise", 1, r"the record must not contain \{'surprise'\}"),
        ("environment.surprise", 1, r"environment must not contain \{'surprise'\}"),
        ("timing.step_seconds", 0.07, "timing.step_seconds must be object"),
        ("timing.step_seconds.median", "fast", "timing.step_seconds.median must be number or null"),
        ("timing.compile_seconds", -1.0, "timing.compile_seconds must be bigger"),
        ("memory.temp_bytes", 1.5, "memory.temp_bytes must be integer or null"),
        ("case.hash", "abc", "case.hash must match pattern"),
        ("case.config", {"model": {"embed": 64}}, "case.config.model must be"),
        (
            "program.collectives",
            {"all-gather": {"count": 1}},
            "program.collectives.all-gather must contain",
        ),
        ("steps.1.loss", "nan", r"steps\[1\].loss must be number or null"),
        ("steps.1.after_save", None, r"steps\[1\].after_save must be boolean"),
        ("steps", {}, "steps must be array"),
    ],
)
def test_a_broken_rule_is_named_with_its_key(
    full_record: Record, key: str, value: object, message: str
) -> None:
    broken = copy.deepcopy(full_record)
    change(broken, key, value)
    with pytest.raises(RecordError, match=f"^{message}"):
        record.validate(broken)


@pytest.mark.parametrize("key", CORE_KEYS)
def test_no_core_key_may_be_missing(full_record: Record, key: str) -> None:
    *parents, last = key.split(".")
    parent = full_record
    for part in parents:
        parent = parent[part]
    del parent[last]
    with pytest.raises(RecordError, match=f"must contain .*{last}|no schema_version"):
        record.validate(full_record)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_and_the_old_record_kept(
    tmp_path: Path, full_record: Record, value: object
) -> None:
    path = tmp_path / "record.json"
    record.write(path, full_record)
    with pytest.raises(RecordError, match=r"record.json: not written: .*not JSON compliant"):
        record.write(path, full_record | {"steps": [STEP | {"loss": value}]})
    assert record.read(path) == full_record
    assert os.listdir(tmp_path) == ["record.json"]


def test_an_invalid_record_is_not_written(tmp_path: Path, full_record: Record) -> None:
    with pytest.raises(RecordError, match="not written: status must be"):
        record.write(tmp_path / "record.json", full_record | {"status": "done"})
    assert not os.listdir(tmp_path)


def test_a_failure_while_writing_keeps_the_old_record(
    tmp_path: Path, full_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    record.write(path, full_record)

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RecordError, match=r"not written: No space left on device$"):
        record.write(path, full_record | {"error": "later"})
    assert record.read(path) == full_record
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_folder_that_is_none_is_one_line(tmp_path: Path, full_record: Record) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match=r"not written: Not a directory$"):
        record.write(tmp_path / "file" / "record.json", full_record)


def write_text(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "truncated or not JSON, at line 1 column 1"),
        ('{"schema_version": 1, "run_', "truncated or not JSON, at line 1 column"),
        ("completed step: 3", "truncated or not JSON"),
        ("[]", "not a record: no schema_version"),
        ('{"loss": 1}', "not a record: no schema_version"),
        ('{"schema_version": 3}', "schema_version 3 is newer than this program, which reads 2"),
        ('{"schema_version": 1}', "the record must contain"),
        ('{"schema_version": NaN}', "not a record: NaN is not a finite number"),
        ('{"schema_version": 1e999}', "not a record: Out of range float values"),
        ("[" * 100_000, "not a record"),
        (b"\xff\xfe\x00", "not a record: 'utf-8' codec"),
        ('{"schema_version": 1, "\\u001b[31m\\n": 1}', "the record must contain"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_record_is_one_line_with_the_path(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write_text(tmp_path / "record.json", text)
    with pytest.raises(RecordError) as caught:
        record.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "message"), [("absent.json", "No such file or directory"), ("", "Is a directory")]
)
def test_a_path_without_a_record_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(RecordError, match=f"{message}$"):
        record.read(tmp_path / name)


def test_hostile_text_cannot_lengthen_or_break_a_message(
    tmp_path: Path, full_record: Record
) -> None:
    text = json.dumps(full_record | {"\x1b[31m\n" + "x" * 10_000: 1})
    with pytest.raises(RecordError) as caught:
        record.read(write_text(tmp_path / "record.json", text))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_every_truncation_of_a_record_is_a_record_error(
    tmp_path: Path, full_record: Record
) -> None:
    record.write(tmp_path / "record.json", full_record)
    text = (tmp_path / "record.json").read_text().rstrip()
    for length in range(0, len(text), 37):
        with pytest.raises(RecordError):
            record.read(write_text(tmp_path / "cut.json", text[:length]))


def test_run_ids_sort_by_time_differ_and_are_legal_names() -> None:
    now = datetime(2026, 11, 3, 14, 22, 33, tzinfo=UTC)
    first = record.new_run_id("03_dropout", "nnx", now)
    assert re.fullmatch(r"20261103-142233-03_dropout-nnx-[a-z0-9]{5}", first)
    assert record.new_run_id("01_baseline", "linen", now + timedelta(seconds=1)) > first
    assert len({record.new_run_id("03_dropout", "nnx", now) for _ in range(100)}) == 100
    for case_name in ("03_dropout", "../x y\n", "é" * 300):
        record.check_run_id(record.new_run_id(case_name))


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "../a", "-a", "a b", "a\n", "a" * 101])
def test_run_ids_that_are_no_safe_folder_name_are_refused(run_id: str) -> None:
    with pytest.raises(RecordError, match=r"^run id .*: must be 1 to 100 letters"):
        record.check_run_id(run_id)
