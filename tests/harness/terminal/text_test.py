"""Plain text as every command prints it."""

import pytest

from harness.terminal import text

ROWS = [("", "A", "B"), ("step", "10", "2 s"), ("loss", "-", "1.25")]


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert text.aligned(ROWS) == ["      A   B", "step  10  2 s", "loss  -   1.25"]
    assert text.aligned(ROWS, "rest") == ["       A     B", "step  10   2 s", "loss   -  1.25"]
    assert text.aligned(ROWS, "numbers") == ["      A   B", "step  10   2 s", "loss  -   1.25"]
    assert text.aligned([]) == []


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.000 KiB"), (-(2**31), "-2.000 GiB")],
)
def test_bytes_come_in_the_unit_that_suits_them(count: float, shown: str) -> None:
    assert text.size(count) == shown


def test_a_sentence_is_broken_after_semicolons_that_no_brackets_hold() -> None:
    said = "one (a; b); two; three"
    assert text.clauses(said) == ["one (a; b)", "two", "three"]
    assert text.broken(said, 10) == ["one (a; b);", "two; three"]
    assert text.broken(said, 99) == [said]


def test_bytes_on_a_wire_have_one_unit_everywhere() -> None:
    shown = {5_926_739_788: "5.927 GB", 4.3e9: "4.300 GB", 261_964: "0.00026 GB", 0: "0.000 GB"}
    assert {count: text.wire(count) for count in shown} == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3720, "1 h 2 min")],
)
def test_seconds_come_in_the_units_that_suit_them(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(1.0, "+0.00 %"), (0.9951, "-0.49 %"), (1.05, "+5.0 %"), (2.1, "2.1 x"), (0.1, "0.1 x")],
)
def test_a_ratio_is_what_it_adds(ratio: float, shown: str) -> None:
    assert text.percent(ratio) == shown


@pytest.mark.parametrize(("ratio", "shown"), [(0.1, "0.100"), (0.01234, "0.0123"), (2e4, "2e+04")])
def test_a_ratio_is_how_many_times(ratio: float, shown: str) -> None:
    assert text.times(ratio) == shown


def test_lists_end_with_how_many_are_left_out() -> None:
    assert text.counted(1, "run") == "1 run"
    assert text.counted(1024, "run") == "1,024 runs"
    assert text.shortlist(["a", "b", "c"]) == "a, b, c"
    assert text.shortlist(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert text.capped(["a", "b"], 2) == ["  a", "  b"]
    assert text.capped(["a\x1b\n  b", "c", "d"], 1) == ["  a?", "    b", "  and 2 more"]


def test_a_foreign_text_is_made_safe_and_short() -> None:
    assert text.safe("a\x1b[31m\nb") == "a?[31m?b"
    assert text.safe("x" * 100) == "x" * 100
    assert text.safe("x" * 101) == "x" * 97 + "..."


def test_an_error_is_one_line() -> None:
    assert (
        text.one_line(ValueError("no\n  such [tensorstore_spec='{...}']")) == "ValueError: no such"
    )
    assert text.one_line(KeyError()) == "KeyError"
    assert len(text.one_line(OSError("x" * 1000))) == len("OSError: ") + 300


def test_the_nearest_name_is_a_hint() -> None:
    assert text.nearest("model.dtyp", ["run.steps", "model.dtype"]) == " (nearest: model.dtype)"
    assert text.nearest("q", iter(["run.steps"])) == ""
