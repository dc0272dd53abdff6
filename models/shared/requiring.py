"""How a dataclass of settings refuses a value: one line that says what is allowed."""

from typing import Any


def require(settings: Any, name: str, holds: bool, allowed: str) -> None:
    """Raises ValueError "FIELD=VALUE: ALLOWED" unless `holds`."""
    if not holds:
        raise ValueError(f"{name.rstrip('_')}={getattr(settings, name)!r}: {allowed}")
