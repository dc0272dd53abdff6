"""Damaged submissions and what their runs left: collected, or refused in one line."""

import json
import random
import shutil
from pathlib import Path

import collect
import damage
import pytest
import run_folders

from harness.records import sealing
from harness.terminal.errors import UserError

FEW, MANY = 12, pytest.param(800, marks=pytest.mark.fuzz)


@pytest.mark.parametrize("count", [FEW, MANY], ids=["few", "many"])
def test_no_submission_ends_in_anything_but_lines(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, output, path = random.Random(count), tmp_path / "output", tmp_path / "submission.json"
    run_folders.completed(output)
    home = output / run_folders.RUN
    workloads = [{"name": name, "case": "03_dropout", "impl": "nnx"} for name in (home.name, "b")]
    submission = {"format": 1, "output": str(output), "chips": 8, "workloads": workloads}
    contents = {name: (home / name).read_bytes() for name in ("record.json", "status.json")}
    collected = 0
    for number in range(count):
        damaged = chance.choice([*contents, path.name])
        if damaged == path.name:
            path.write_bytes(damage.written(chance, damage.changed(chance, submission)))
        else:
            path.write_text(json.dumps(submission))
            value = damage.changed(chance, sealing.parse(contents[damaged]))
            (home / damaged).write_bytes(damage.written(chance, value))
        try:
            assert collect.main([str(path), "--results-dir", str(tmp_path / str(number))]) in (0, 1)
            collected += 1
        except UserError as error:
            damage.check_line(str(error))
        told = capsys.readouterr()
        assert all(line.isprintable() for line in told.out.splitlines())
        assert not told.err
        for name, content in contents.items():
            (home / name).write_bytes(content)
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
    assert collected > count / 4
