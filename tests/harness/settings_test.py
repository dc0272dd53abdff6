import re
from pathlib import Path

import pytest

from harness import settings
from harness.terminal.errors import UserError


def test_a_part_is_told_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.main(["optim.b1"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^  (\S+) = (\S+), a finite number \(in \[0, 1\)\)$", told, re.M) == [
        ("optim.b1", "0.9"),
        ("optim.b1", "0.9"),
    ]
    assert "\n      Decay of the mean of gradients" in told
    assert "mine.yaml" in told


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("optim.lr", r"no such section or key \(nearest: optim.learning_rate\); .*, optim.b1"),
        (
            "optimizer",
            r"no such section or key \(nearest: optim.name\); known are checkpoint, data",
        ),
    ],
)
def test_what_is_not_there_is_one_line(part: str, told: str) -> None:
    with pytest.raises(UserError, match=f"^{part}: {told}"):
        settings.main([part])


def test_a_page_is_a_table_for_each_section(tmp_path: Path) -> None:
    path = tmp_path / "settings.md"
    assert settings.main(["data", "--markdown", str(path)]) == 0
    lines = path.read_text().splitlines()
    assert "## data" in lines
    assert "| `data.microbatches` | `1` | a whole number (at least 1) | Into how many " in "".join(
        line for line in lines if "microbatches" in line
    )
    with pytest.raises(UserError, match="No such file or directory"):
        settings.main(["--markdown", str(tmp_path / "none" / "settings.md")])
