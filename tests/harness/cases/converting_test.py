"""Settings of every kind: as text in a record, and from it again."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from harness.cases.converting import convert, text
from harness.terminal.errors import UserError

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


@dataclass(frozen=True)
class Inner:
    size: int = 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (jnp.bfloat16, "bfloat16"),
        (np.dtype("float32"), "float32"),
        ((1, 2), "(1, 2)"),
        (Inner(), "Inner(size=3)"),
        (None, None),
        (0.5, 0.5),
        (jnp.tanh, "jax.numpy.tanh"),
    ],
)
def test_a_setting_is_what_its_text_says(value: Any, told: Any) -> None:
    found = text(value)
    if callable(value) and not isinstance(value, type) and value is jnp.tanh:
        assert found.endswith(".tanh")
    else:
        assert found == told
    assert convert(found, type(value), "here", value) == value


def test_other_kinds_are_set_where_a_text_says_them() -> None:
    assert np.dtype(convert("float32", type(jnp.bfloat16), "here", jnp.bfloat16)) == (
        np.dtype("float32")
    )
    assert convert("(3, 4, 5)", tuple[int, ...], "here", (1, 2)) == (3, 4, 5)
    with pytest.raises(UserError, match=r"here='\?': must be 'Inner\(size=3\)', or set in the"):
        convert("?", Inner, "here", Inner())
    with pytest.raises(UserError, match=r"here='x': must be a whole number"):
        convert("x", int, "here", 3)
