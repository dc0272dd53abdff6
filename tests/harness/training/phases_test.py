import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.training import phases
from harness.training.phases import Phases


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "linen-nnx-harness" / "seconds.json"


def took(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """A console that was told of two phases, of which the first took so long."""
    times = iter([0.0, 100.0, 100.0 + seconds, 200.0, 200.0])
    monkeypatch.setattr(phases.time, "monotonic", lambda: next(times))
    console = Mock()
    one = Phases(console, "case on 8 x chip")
    one.begin("compile", told="nnx: compile")
    one.begin("init")
    one.end()
    return console


def test_what_a_phase_took_is_told_the_next_time(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert took(90, monkeypatch).begin.call_args_list[0].args == ("nnx: compile", None, True)
    assert json.loads(kept.read_text()) == {"case on 8 x chip: compile": 90.0}
    again = took(7, monkeypatch)  # found in a cache
    assert [call.args for call in again.begin.call_args_list] == [
        ("nnx: compile", 90.0, True),
        ("init", None, True),
    ]
    again.end.assert_called_once()
    assert json.loads(kept.read_text()) == {"case on 8 x chip: compile": 90.0}


def test_what_is_short_is_not_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took(4, monkeypatch)
    assert not kept.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"case on 8 x chip: compile": "long"}', "{"])
def test_a_damaged_file_is_as_good_as_none(
    text: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.mkdir()
    kept.write_text(text)
    assert took(90, monkeypatch).begin.call_args_list[0].args == ("nnx: compile", None, True)
    assert json.loads(kept.read_text()) == {"case on 8 x chip: compile": 90.0}


def test_where_nothing_can_be_kept_it_goes_on(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.parent.write_text("a file")
    took(90, monkeypatch)
