"""What the dataclasses of settings share; imports nothing, so that a case is read at once."""

from typing import Any, Literal

Quantization = Literal["none", "int8", "fp8"]


def require(settings: Any, name: str, holds: bool, allowed: str) -> None:
    """Raises ValueError "FIELD=VALUE: ALLOWED" unless `holds`."""
    if not holds:
        raise ValueError(f"{name.rstrip('_')}={getattr(settings, name)!r}: {allowed}")


def attention_for(
    platform: str, sequence_length: int, head_dim: int
) -> Literal["splash", "cudnn", "xla"]:
    """What "auto" stands for: the fastest attention that a platform has for these shapes."""
    if platform == "tpu" and sequence_length % 128 == 0 and head_dim % 128 == 0:
        return "splash"
    if platform == "gpu" and sequence_length % 64 == 0 and head_dim in (64, 128):
        return "cudnn"
    return "xla"
