"""A disk that is full from the start: whichever file of a run finds no room, one line says so."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest

from harness import run
from harness.terminal import cli
from harness.training import devices

CASE = (
    *("--case", "toy.yaml", "--size", "tiny", "--twins", "toy_family", "--impl", "nnx_"),
    *("--steps", "2", "--run-id", "a-run", "--set", "checkpoint.enabled=false"),
)
BALLAST = 4096  # a page, as no disk can have none
Asked = Callable[[str, int], str | None]


@contextmanager
def disk(place: Path, what: str, room: int) -> Iterator[None]:
    """A disk on which there is room for so many more files, or pages of 4 KiB."""
    limit = f"nr_inodes={room + 1}" if what == "files" else f"nr_blocks={room + 1}"
    mount = ["mount", "-t", "tmpfs", "-o", limit, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs a privilege")
    try:
        if what == "pages":
            with (place / "ballast").open("wb", buffering=0) as file:
                file.write(b"\0" * BALLAST)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Asked:
    """Trains on such a disk; returns the line that says why it could not, None where it could."""
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text("data:\n  sequence_length: 16\n")
    monkeypatch.setattr(devices, "prepare", lambda *_: jax.devices()[:1])
    Path("disk").mkdir()

    def ask(what: str, room: int) -> str | None:
        with disk(Path("disk").resolve(), what, room):
            monkeypatch.setattr(sys, "argv", ["run", *CASE, "--results-dir", "disk"])
            with pytest.raises(SystemExit) as ended:
                cli.main(run.main)
        told = capsys.readouterr()
        if ended.value.code == 0:
            return None
        assert ended.value.code == 2
        said = told.out.splitlines()
        (line,) = told.err.splitlines() or [one for one in said if one.startswith("error: ")]
        assert "No space left on device" in line
        return line

    return ask


@pytest.mark.parametrize(
    ("what", "room", "where"),
    [
        ("files", 0, "disk/a-run: No space"),
        ("files", 1, "disk/a-run/owner.json"),
        ("files", 2, "disk/a-run/log.txt"),
        ("files", 3, "disk/a-run/config.txt: No"),
        ("files", 4, "disk/a-run/record.json: not written: No"),
        ("pages", 0, "disk/a-run: No"),
        ("pages", 1, "disk/a-run/config.txt: No"),
        ("pages", 2, "disk/a-run/record.json: not written: No"),
    ],
)
def test_what_is_written_first_says_where_there_is_no_room(
    what: str, room: int, where: str, asked: Asked
) -> None:
    line = asked(what, room)
    assert line is not None
    assert where in line


@pytest.mark.faults
@pytest.mark.parametrize("what", ["files", "pages"])
def test_a_little_more_room_each_time_until_all_is_written(what: str, asked: Asked) -> None:
    lines = [*itertools.takewhile(bool, (asked(what, room) for room in range(40)))]
    assert 8 <= len(lines) < 40
