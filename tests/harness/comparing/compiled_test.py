"""The programs of two runs, read from their folders."""

import gzip
from pathlib import Path

import pytest
from compared_records import make, write

from harness import hlo
from harness.comparing import compiled
from harness.records import finding
from harness.records.finding import Found

HLO = "HloModule m\nENTRY main {\n  ROOT x = f32[8] parameter(0)\n}\n"


def programs(results: Path) -> tuple[Found, Found]:
    """Two runs of different programs, whose texts lie beside their records."""
    runs = []
    for name, text in (("one", HLO), ("other", HLO.replace("f32", "bf16"))):
        made = make(run_id=name)
        made["program"]["optimized_sha256"] = hlo.fingerprint(hlo.parse(text))
        folder = write(results, made)
        (folder / "program.txt.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        runs.append(finding.load(folder / "record.json"))
    return runs[0], runs[1]


def test_the_texts_of_programs_are_read_where_they_differ(tmp_path: Path) -> None:
    a, b = programs(tmp_path)
    read, warnings = compiled.read(a, b)
    assert (None in read, warnings) == (False, [])
    assert compiled.read(a, a) == ((None, None), [])
    (a.path.parent / "program.txt.gz").unlink()
    read, warnings = compiled.read(a, b)
    assert (read[0], warnings) == (None, [])


def test_a_program_beyond_what_is_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b = programs(tmp_path)  # the second has a letter more
    monkeypatch.setattr(compiled, "_LONGEST_PROGRAM", len(HLO))
    read, (warning,) = compiled.read(a, b)
    assert [program is None for program in read] == [False, True]
    told = f"program.txt.gz: not used: holds more than {len(HLO)} letters: too long to be compared"
    assert warning.endswith(told)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(HLO.encode(), mtime=0)[:-9],
        gzip.compress(HLO.encode(), mtime=0)[:12] + b"\xff" * 20,
        gzip.compress(b"\xff\xfe", mtime=0),
        gzip.compress(b"not a program", mtime=0),
        gzip.compress(HLO[:30].encode(), mtime=0),
        gzip.compress(HLO.replace("8", "9").encode(), mtime=0),
        gzip.compress(HLO.replace("parameter(0)", "negate(%gone)").encode(), mtime=0),
    ],
)
def test_a_damaged_program_is_told(tmp_path: Path, content: bytes) -> None:
    a, b = programs(tmp_path)
    (a.path.parent / "program.txt.gz").write_bytes(content)
    read, (warning,) = compiled.read(a, b)
    assert read[0] is None
    assert read[1] is not None
    assert warning.startswith(f"{a.path.parent / 'program.txt.gz'}: not used: ")
