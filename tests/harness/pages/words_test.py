from typing import Any

import pytest
from markupsafe import Markup

from harness.pages import words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 s"),
        (0.0713, "71.3 ms"),
        (4.277, "4.277 s"),
        (175.0, "175 s"),
        (600.0, "10 min"),
        (7200.0, "2 h"),
        (4.1e-5, "41 µs"),
        (1e-12, "1e-06 µs"),
    ],
)
def test_a_time_is_shown_in_the_unit_that_suits_it(value: float, shown: str) -> None:
    assert words.seconds(value) == shown


def test_a_percent_sign_stays_with_its_number_and_no_text_is_markup() -> None:
    assert words.unbroken("<b> -3.0 %\x00") == "&lt;b&gt; -3.0&nbsp;%\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("wall_seconds", 2.5, "2.5 s"),
        ("total_bytes", 2**30, "1.000 GiB"),
        ("bytes", 2048, "2.000 KiB"),
        ("bytes_per_second", 2**20, "1.000 MiB/s"),
        ("mfu_percent", 1.1479, "1.15 %"),
        ("parameters", 1_104_218_112, "1,104,218,112"),
    ],
)
def test_a_value_has_the_unit_of_its_key_and_all_its_digits(
    key: str, value: float, shown: str
) -> None:
    assert words.value(key, value) == Markup(f'<data value="{float(value)!r}">{shown}</data>')


@pytest.mark.parametrize("value", [None, 10**400, -(10**400), "1.5", True, [1], {"a": 1}])
def test_what_is_no_number_is_never_shown_as_one(value: Any) -> None:
    assert "data" not in words.FILTERS["plain"](value)


@pytest.mark.parametrize("text", ["<b>", "\x00", "\ud800", "\u202e", "x" * 10**6, "", "a\nb"])
def test_a_text_is_shown_as_text(text: str) -> None:
    shown = words.value("error", text)
    assert "<" not in shown
    assert len(shown) < 3000
    shown.encode("utf-8")
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_names_of_pages_are_safe_and_differ() -> None:
    identities = [
        "../../etc",
        "a/b",
        "a_b",
        "a b",
        "",
        ".",
        "..",
        "\ud800",
        "x" * 10**5,
        "NUL",
        "é",
    ]
    names = [words.file_name(identity) for identity in identities]
    assert len(set(names)) == len(names)
    for name in names:
        assert set(name.removesuffix(".html")) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )
        assert len(name) < 100


@pytest.mark.parametrize(
    ("values", "unit", "shown"),
    [
        ([3.7325, 3.733, 3.7335], "", ["3.7325", "3.7330", "3.7335"]),
        ([0.0078, 0.008, 0.0082], "s", ["7.8 ms", "8.0 ms", "8.2 ms"]),
        ([2.0**30, 2.0**31], "bytes", ["1 GiB", "2 GiB"]),
        ([1e99, 2e99], "", ["1e+99", "2e+99"]),
        ([5.0], "", ["5"]),
    ],
)
def test_numbers_side_by_side_have_one_unit_and_differ(
    values: list[float], unit: str, shown: list[str]
) -> None:
    assert words.alike(values, unit) == shown


@pytest.mark.parametrize(
    ("tflop", "shown"),
    [(13.5871, "13.59 TFLOP"), (0.8, "800 GFLOP"), (4.0894e-5, "40.89 MFLOP"), (4e-9, "4 kFLOP")],
)
def test_operations_in_the_unit_that_suits_them(tflop: float, shown: str) -> None:
    assert words.flop(tflop) == shown
