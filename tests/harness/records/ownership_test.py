"""One run, one owner: on one machine at once, between machines by who gives word of itself."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.records import ownership, storage
from harness.records.ownership import FILE, Owner
from harness.terminal.errors import UserError

HOLDS = """
import pathlib, sys, time
from harness.records.ownership import Owner
with Owner() as owner:
    owner.take(pathlib.Path(sys.argv[1]))
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("RENEW", 0.05), ("EXPIRY", 0.4), ("SETTLE", 0.05)):
        monkeypatch.setattr(ownership, f"_{name}_SECONDS", seconds)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch, soon: None, tmp_path: Path) -> Path:
    """A folder that no kernel's lock speaks of, as in a bucket."""
    monkeypatch.setattr(storage, "is_remote", lambda path: str(path).startswith(str(tmp_path)))
    monkeypatch.setattr(
        Owner, "_write", lambda self: self._path.write_text(json.dumps(self._claim))
    )
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_the_second_is_refused_at_once_and_takes_over_once_the_first_is_dead(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    begun = time.monotonic()
    with Owner() as owner, pytest.raises(UserError) as refused:
        owner.take(tmp_path / "run")
    assert time.monotonic() - begun < 0.5
    assert str(refused.value).startswith(
        f"{tmp_path}/run: is being written by process {holder.pid},"
    )
    holder.send_signal(signal.SIGSTOP)  # it may go on
    with Owner() as owner, pytest.raises(UserError, match="is being written"):
        owner.take(tmp_path / "run")
    holder.kill()
    holder.wait()
    with Owner() as owner:
        owner.take(tmp_path / "run")
        assert time.monotonic() - begun < 2
        owner.check()


def test_what_is_released_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with Owner() as owner:
            owner.take(tmp_path / "run")
            assert (tmp_path / "run" / FILE).exists()
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text("kept")
    with Owner() as owner:
        owner.take(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]


@pytest.mark.usefixtures("soon")
def test_the_owner_of_another_machine_is_refused_while_it_gives_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Owner, "_lock", lambda self: None)  # the file system knows no locks
    (tmp_path / "run").mkdir()
    with Owner() as first:
        first.take(tmp_path / "run")
        with Owner() as second, pytest.raises(UserError, match="is being written"):
            second.take(tmp_path / "run")
        first.check()


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.usefixtures("soon")
def test_a_dead_one_of_another_machine_is_replaced_and_is_told_should_it_wake(
    locked: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Owner() as first, Owner() as second:
        first.take(tmp_path / "run")
        first._ended.set()  # gives no word any more
        first._thread.join()
        if not locked:
            first._unlock()
        monkeypatch.setattr(ownership, "_kernel", lambda: "another")
        begun = time.monotonic()
        second.take(tmp_path / "run")
        assert time.monotonic() - begun > 0.4
        second.check()
        with pytest.raises(UserError, match=r"was taken over by process \d+, host .*; this"):
            first.check()


def test_in_a_bucket_too(remote: Path) -> None:
    with Owner() as first:
        first.take(remote)
        with Owner() as second, pytest.raises(UserError, match="is being written"):
            second.take(remote)
        first.check()
    assert remote.exists()
    assert not (remote / FILE).exists()
    (remote / FILE).write_text('{"token": "of one that died"}')
    with Owner() as third:
        third.take(remote)
        time.sleep(0.2)
        assert json.loads((remote / FILE).read_text())["renewed"] > 0


def test_of_two_at_once_the_later_one_stays(monkeypatch: pytest.MonkeyPatch, remote: Path) -> None:
    monkeypatch.setattr(
        time, "sleep", lambda _: (remote / FILE).write_text('{"token": "other", "host": "\\u001b"}')
    )
    with Owner() as owner, pytest.raises(UserError, match=r"is being written by host \?;"):
        owner.take(remote)
    assert (remote / FILE).exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Owner() as owner, pytest.raises(UserError, match="Not a directory"):
        owner.take(tmp_path / "file" / "run")


def test_a_damaged_word_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE).write_bytes(b"\xff{")
    with Owner() as owner:
        owner.take(tmp_path / "run")
        owner.check()
