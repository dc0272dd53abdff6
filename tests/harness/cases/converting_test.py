from typing import Any, Literal

import pytest

from harness.cases.converting import convert
from harness.errors import UserError

Mode = Literal["one", "two"]


@pytest.mark.parametrize(
    ("value", "allowed", "expected"),
    [
        ("3", int, 3),
        (3, int, 3),
        ("3e-5", float, 3e-5),
        (3, float, 3.0),
        ("true", bool, True),
        ("false", bool, False),
        (True, bool, True),
        ("two", Mode, "two"),
        ("text", str, "text"),
        ("null", int | None, None),
        ("none", int | None, None),
        ("", str | None, ""),
        (None, float | None, None),
        ("7", int | None, 7),
    ],
)
def test_a_text_is_read_as_the_settings_type(value: Any, allowed: Any, expected: Any) -> None:
    found = convert(value, allowed, "a.b", None)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "allowed", "told"),
    [
        ("3.5", int, "a.b='3.5': must be a whole number"),
        (True, int, "a.b=True: must be a whole number"),
        (True, float, "a.b=True: must be a finite number"),
        ("nan", float, "a.b='nan': must be a finite number"),
        ("1e999", float, "a.b='1e999': must be a finite number"),
        ("yes", bool, "a.b='yes': must be true or false"),
        (1, bool, "a.b=1: must be true or false"),
        ("three", Mode, "a.b='three': must be one of one, two"),
        (3, str, "a.b=3: must be a text"),
        ("x", int | None, "a.b='x': must be a whole number or null"),
    ],
)
def test_anything_else_is_one_line(value: Any, allowed: Any, told: str) -> None:
    with pytest.raises(UserError) as refused:
        convert(value, allowed, "a.b", None)
    assert str(refused.value) == told
