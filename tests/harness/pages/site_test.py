"""The folder of a report: made anew whole, and nothing else lost."""

import re
import time
from pathlib import Path

import pytest
from compared_records import write
from report_site import Page, pages, run

from harness import report
from harness.pages import history_page
from harness.pages.gathering import Collection
from harness.terminal import console
from harness.terminal.errors import UserError


def build(*results: Path, output: Path) -> dict[str, Page]:
    assert report.main([*map(str, results), "--output", str(output)]) == 0
    return pages(output)


def test_a_report_is_made_anew_whole(tmp_path: Path) -> None:
    write(tmp_path / "results", run("first", "linen"))
    first = build(tmp_path / "results", output=tmp_path / "site")
    again = build(tmp_path / "results", output=tmp_path / "site")
    assert {path: page.source for path, page in first.items()} == {
        path: page.source for path, page in again.items()
    }
    (tmp_path / "results" / "first").rename(tmp_path / "gone")
    assert not [
        path
        for path in build(tmp_path / "results", output=tmp_path / "site")
        if path.startswith("runs/")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "results", "site"]


def test_what_takes_long_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(path: str, collection: Collection) -> str:
        time.sleep(0.1)
        return ""

    monkeypatch.setattr(console, "_RENEWED_SECONDS", 0.01)
    monkeypatch.setattr(console, "_LOG_SECONDS", 0.02)
    monkeypatch.setattr(history_page, "page", slow)
    write(tmp_path / "results", run("first", "linen"))
    build(tmp_path / "results", output=tmp_path / "site")
    told = capsys.readouterr().out
    assert re.search(r"^write the pages: 0 s so far; 1 of \d\d done", told, re.MULTILINE)


def test_a_report_that_cannot_take_its_place_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "results", run("first", "linen"))
    former = build(tmp_path / "results", output=tmp_path / "site")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    assert "cannot be written: No space left" in refused(tmp_path / "results", tmp_path / "site")
    assert pages(tmp_path / "site").keys() == former.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]


def refused(results: Path, output: Path) -> str:
    with pytest.raises(UserError) as caught:
        report.main([str(results), "--output", str(output)])
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_nothing_is_lost_where_something_else_lies(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write(results, run("first", "linen"))
    assert "holds something other than a report" in refused(results, results)
    site = tmp_path / "site"
    site.mkdir()
    build(results, output=site)  # an empty folder is fine
    (site / "notes.txt").write_text("mine")
    assert "a report that also holds 'notes.txt', which would be lost" in refused(results, site)
    assert (site / "notes.txt").read_text() == "mine"
    (site / "notes.txt").unlink()
    (site / ".harness-report").write_text('{"not": "a list"}')
    assert "other than a report" in refused(results, site)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(results, tmp_path / "file")
    assert "cannot be written" in refused(results, tmp_path / "file" / "below")
    assert "there is no such file or folder" in refused(tmp_path / "none", tmp_path / "new")
    assert not (tmp_path / "new").exists()
