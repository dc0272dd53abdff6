import json
import os
from pathlib import Path
from typing import Any

import pytest
from compared_records import make, write

from harness.pages import sources
from harness.pages.sources import Run
from harness.terminal.errors import UserError


def of(**changes: Any) -> Run:
    made = make(run_id="20261103-142233-03_dropout-nnx-ab1c2", impl="nnx")
    for key, value in changes.items():
        made["environment"][key] = value
    return Run(made, "page", None)


def test_a_run_has_a_short_name_and_a_commit() -> None:
    assert (of().impl, of().short) == ("nnx", "nnx ab1c2")
    assert of().commit == "1111111"
    assert of(git_dirty=True).commit == "1111111+"
    assert of(git_commit=None).commit == "?"
    plain = make(run_id="published-a-log", impl=None)
    assert (Run(plain, "", None).short, Run(plain, "", None).impl) == ("a-log", "run")


def test_a_source_that_tells_nothing_is_null_in_all() -> None:
    source = of().source
    assert source.pop("figures") == []
    assert source
    assert set(source.values()) == {None}


def test_each_record_is_read_once_and_has_a_page_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "one", make(run_id="a"))
    write(tmp_path / "two", make(run_id="a"))
    listed = [make(run_id="b"), {"no": "record"}, make(run_id="c")]
    (tmp_path / "records.json").write_text(json.dumps(listed))
    runs, warnings = sources.load([tmp_path, tmp_path / "one", tmp_path / "records.json"])
    assert sorted(run.record["run_id"] for run in runs) == ["a", "a", "b", "c"]
    assert len({run.page for run in runs}) == 4
    folders = {run.record["run_id"]: run.folder for run in runs}
    assert (folders["b"], folders["a"] is None) == (None, False)
    (warning,) = warnings
    assert "records.json, entry 1: " in warning


@pytest.mark.parametrize("content", ["{}", "[", "[" * 100_000])
def test_a_list_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "records.json").write_text(content)
    runs, (warning,) = sources.load([tmp_path])
    assert runs == []
    assert "not a list of records" in warning


def test_a_list_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "records.json")
    runs, (warning,) = sources.load([tmp_path])
    assert runs == []
    assert "is not a plain file" in warning


def test_a_path_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        sources.load([tmp_path / "nowhere"])
