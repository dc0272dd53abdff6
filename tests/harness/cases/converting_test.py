"""Settings of every kind: as text in a record, and from it again."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from harness.cases import converting
from harness.errors import UserError


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
    found = converting.text(value)
    if callable(value) and not isinstance(value, type) and value is jnp.tanh:
        assert found.endswith(".tanh")
    else:
        assert found == told
    assert converting.convert(found, type(value), "here", value) == value


def test_other_kinds_are_set_where_a_text_says_them() -> None:
    assert np.dtype(converting.convert("float32", type(jnp.bfloat16), "here", jnp.bfloat16)) == (
        np.dtype("float32")
    )
    assert converting.convert("(3, 4, 5)", tuple[int, ...], "here", (1, 2)) == (3, 4, 5)
    with pytest.raises(UserError, match=r"here='\?': must be 'Inner\(size=3\)', or set in the"):
        converting.convert("?", Inner, "here", Inner())
    with pytest.raises(UserError, match=r"here='x': must be a whole number"):
        converting.convert("x", int, "here", 3)
