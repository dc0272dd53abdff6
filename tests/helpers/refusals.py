"""Settings that a dataclass refuses."""

from typing import Any

import pytest


def assert_refused(settings: type[Any], field: str, value: Any, allowed: str) -> None:
    """Asserts that this value of one field is refused, by this text and no other."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (the whole text is compared)
        settings(**{field: value})
    assert str(refused.value) == f"{field}={value!r}: {allowed}"
