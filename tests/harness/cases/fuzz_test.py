"""Damaged case files and settings: each is read, or refused in one line."""

import random
from pathlib import Path

import pytest

from harness.cases import reading
from harness.terminal.errors import UserError

CASES = [path.read_text() for path in sorted(reading.CASES.glob("*.yaml"))]
KEYS = [*reading.flatten(reading.load("01_baseline", "tiny")), "model", "model.", ".", "", "x.y"]
ODD = (
    *("2020-01-01", "2020-99-99", "!!timestamp x", "1:30:60", "9" * 400, "1e999", ".inf", ".nan"),
    *("!!int ''", "!!float ''", "!!int 0x", "!!int _", "!!bool x", "!!null x", "!!binary '%%'"),
    *("0x", "0b12", "0o8", "1_000", "-", "=", "~", "''", "true", "-1", "0", "1e-400", "tiny"),
    *("{}", "[]", "[[]]", "{a: b}", "&a [*a]", "*b", "<<: *x", "<<: 3", "? a", "- a", "!!set {a}"),
    *("!!omap [a]", "!!pairs [a]", "!!python/object:os.system x", '"\\ud800"', "\ud800", "\x00"),
    *("\ufeff", "[" * 3000, "{a: " * 2000, "x" * 20_000),
)


def mutated(chance: random.Random) -> bytes:
    """A case file after one to three of the things that happen to files."""
    lines = chance.choice(CASES).split("\n")
    for _ in range(chance.randint(1, 3)):
        place, value = chance.randrange(len(lines)), chance.choice(ODD)
        line = lines[place]
        match chance.randrange(6):
            case 0 if ":" in line:
                lines[place] = f"{line.partition(':')[0]}: {value}"
            case 1:
                lines.insert(place, f"  {value}: {chance.choice(ODD)}")
            case 2:
                lines[place] = line[: chance.randrange(len(line) + 1)]
            case 3:
                lines.insert(place, chance.choice(lines))
            case 4:
                cut = chance.randrange(len(line) + 1)
                lines[place] = line[:cut] + value[:50] + line[cut:]
            case _:
                lines.insert(place, value)
    text = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    if chance.random() < 0.1:
        text[chance.randrange(len(text))] = chance.randrange(256)
    return bytes(text)


def read_or_refused(case: str, *settings: str) -> bool:
    """Whether a case is read; what is refused is one line that can be shown."""
    try:
        case_ = reading.load(case, "tiny", settings)
        reading.flat_text(case_)
        reading.case_hash(case_, "tiny", "reference")
    except UserError as error:
        told = str(error)
    else:
        return True
    assert told.isprintable()
    assert len(told) <= 2000
    return False


@pytest.mark.parametrize(
    "count", [60, pytest.param(3500, marks=pytest.mark.fuzz)], ids=["few", "many"]
)
def test_no_case_file_ends_in_anything_but_a_line(count: int, tmp_path: Path) -> None:
    chance, path = random.Random(count), tmp_path / "case.yaml"
    read = 0
    for _ in range(count):
        path.write_bytes(mutated(chance))
        read += read_or_refused(str(path))
    assert 0 < read < count


@pytest.mark.parametrize(
    "count", [200, pytest.param(2500, marks=pytest.mark.fuzz)], ids=["few", "many"]
)
def test_no_setting_ends_in_anything_but_a_line(count: int) -> None:
    chance = random.Random(count)
    read = 0
    for _ in range(count):
        between = chance.choice(("=", "=", "=", " = ", "==", ""))
        read += read_or_refused("01_baseline", chance.choice(KEYS) + between + chance.choice(ODD))
    assert 0 < read < count


def test_a_file_of_many_keys_is_soon_read(tmp_path: Path) -> None:
    path = tmp_path / "case.yaml"
    path.write_text("model:\n" + "".join(f"  k{number}: 1\n" for number in range(5000)))
    assert not read_or_refused(str(path))
