"""The command that looks into checkpoints."""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from checkpoint_states import CASE, bits, make_state

from harness import checkpoints
from harness.cases.settings import Checkpoint
from harness.saving import digest, files, folders
from harness.saving.checkpointer import Checkpointer
from harness.terminal import cli, console, installing
from harness.terminal.errors import UserError
from models.shared.trees import named_leaves


def _save(directory: Path, step: int, state: dict, impl: str = "linen") -> Path:
    checkpointer = Checkpointer(directory, Checkpoint(async_=False), {"case": CASE, "impl": impl})
    checkpointer.open(resume=True)
    checkpointer.save(step, state)
    return directory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _save(tmp_path / "run", 0, make_state(0))
    return _save(tmp_path / "run", 5, make_state(5))


def test_inspect_shows_every_array(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoints.main(["inspect", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}/5: step 5, 03_dropout, linen"
    assert lines[1].split() == ["array", "type", "shape", "bytes"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-2]}
    state = make_state(5)
    assert list(rows) == sorted(named_leaves(state))
    assert rows["params/logits/kernel"] == ["float32", "[64,", "64]", "16,384"]
    total = sum(map(len, bits(state).values()))
    assert lines[-2] == f"{len(rows)} arrays, {total:,} bytes"
    assert lines[-1] == f"digest: {digest.combined(digest.array_digests(state))}"


def test_what_takes_long_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = files.read_arrays

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        return read(*arguments)

    monkeypatch.setattr(files, "read_arrays", slow)
    monkeypatch.setattr(console, "_RENEWED_SECONDS", 0.01)
    monkeypatch.setattr(console, "_LOG_SECONDS", 0.02)
    assert checkpoints.main(["verify", str(folder)]) == 0
    told = capsys.readouterr().out
    assert re.search(rf"^verify {folder}/5: 0 s so far; \d+ of 12 done", told, re.MULTILINE)


def test_two_implementations_with_equal_states_do_not_differ(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = _save(tmp_path / "other", 5, make_state(5, devices=2), impl="nnx")
    assert checkpoints.main(["diff", str(folder), str(other / "5")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"b: {other}/5: step 5, 03_dropout, nnx"
    assert lines[2:] == ["12 of 12 arrays are equal bit for bit"]


def test_diff_tells_which_arrays_and_by_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = make_state(5), make_state(5)
    one["params"]["decoder"]["scale"] = jnp.ones(16)
    other["params"]["decoder"]["scale"] = jnp.ones(16).at[3].set(1.5).at[7].set(0.75)
    del one["params"]["logits"]
    other["params"]["decoder"]["kernel"] = jnp.ones(16, jnp.bfloat16)
    paths = [_save(tmp_path / "a", 5, one), _save(tmp_path / "b", 5, other)]
    assert checkpoints.main(["diff", *map(str, paths)]) == 1
    assert capsys.readouterr().out.splitlines()[2:] == [
        "params/decoder/kernel: float32[64, 64] in a, bfloat16[16] in b",
        # 1 is 0x3F800000, 1.5 is 0x3FC00000 and 0.75 is 0x3F400000: one bit and two.
        "params/decoder/scale: 2 of 16 elements, 3 bits, by at most 0.5",
        "params/logits/kernel: only in b",
        "9 of 12 arrays are equal bit for bit",
    ]


def test_verify_looks_at_every_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkpoints.main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/{step}: good, all 12 arrays are as they were saved" for step in (0, 5)
    ]


def test_verify_names_the_damaged_arrays_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = bits(make_state(0))["['params']['logits']['kernel']"]
    needle = part[: 8 * 4]  # the first row of the first device's part
    (file,) = [file for file in (folder / "0").rglob("d/*") if needle in file.read_bytes()]
    content = file.read_bytes()
    place = content.index(needle)
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    shutil.rmtree(folder / "5" / "metadata")
    assert checkpoints.main(["verify", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/0: damaged: changed since saved: params/logits/kernel",
        f"{folder}/5: damaged: incomplete: its metadata is missing",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["0", "5"]


def test_damage_met_on_the_way_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "5" / "metadata")
    assert checkpoints.main(["inspect", str(folder)]) == 1
    assert capsys.readouterr().err == f"error: {folder}/5: incomplete: its metadata is missing\n"


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_a_path_without_checkpoints(tmp_path: Path, verb: str) -> None:
    with pytest.raises(UserError, match="nowhere: does not exist; give a folder of checkpoints"):
        checkpoints.main([verb, str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    "arguments", [[], ["look", "x"], ["diff", "x"], ["inspect"], ["verify", "x", "y"]]
)
def test_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(UserError):
        checkpoints.main(arguments)


@pytest.fixture
def no_gcsfs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "gcsfs" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_a_bucket_without_its_extra_is_one_line(
    no_gcsfs: None,
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["checkpoints", verb, "gs://bucket/run"])
    with pytest.raises(SystemExit) as ended:
        cli.main(checkpoints.main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: gs://bucket/run: needs gcsfs: {installing.command('gcs')}"


def test_a_run_that_saves_to_a_bucket_fails_where_its_record_tells_of_it(no_gcsfs: None) -> None:
    checkpointer = Checkpointer("gs://bucket/run", Checkpoint(), {"case": CASE})
    with pytest.raises(UserError, match=r"^gs://bucket/run: needs gcsfs"):
        checkpointer.open()


def test_a_bucket_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __truediv__(self, name: str) -> "Unreachable":
            return self

        def is_dir(self) -> bool:
            raise RuntimeError("no such bucket,\n  or no access")

    monkeypatch.setattr(folders, "place", lambda path: Unreachable())
    with pytest.raises(UserError, match=r"^gs://bucket/run: no such bucket, or no access$"):
        checkpoints.main(["inspect", "gs://bucket/run"])


def test_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.checkpoints", "verify", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}: holds no checkpoint")
    assert done.stderr.count("\n") == 1
