"""What the dataclasses of settings share; imports nothing that takes time."""

import re
from dataclasses import replace
from typing import Any, Literal, TypeVar

Config = TypeVar("Config", bound=Any)
Quantization = Literal["none", "int8", "fp8"]
_NEEDS = {"splash": "tpu", "cudnn": "gpu"}  # attention -> the platform that has it


def require(settings: Any, name: str, holds: bool, allowed: str) -> None:
    """Raises ValueError "FIELD=VALUE: ALLOWED" unless `holds`."""
    if not holds:
        raise ValueError(f"{name.rstrip('_')}={getattr(settings, name)!r}: {allowed}")


def is_pattern(text: str) -> bool:
    """Whether a text is a regular expression."""
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def attention_for(
    platform: str, sequence_length: int, head_dim: int
) -> Literal["splash", "cudnn", "xla"]:
    """What "auto" stands for: the fastest attention that a platform has for these shapes."""
    if platform == "tpu" and sequence_length % 128 == 0 and head_dim % 64 == 0:
        return "splash"
    if platform == "gpu" and sequence_length % 64 == 0 and head_dim in (64, 128):
        return "cudnn"
    return "xla"


def resolve_attention(config: Config, platform: str, sequence_length: int) -> Config:
    """The config with the fastest attention that a platform has for these shapes, if "auto".

    Raises ValueError "attention=VALUE: ..." for one that the platform lacks.
    """
    if config.attention == "auto":
        best = attention_for(platform, sequence_length, config.head_dim)
        return replace(config, attention=best)
    needs = _NEEDS.get(config.attention, platform)
    if platform != needs:
        raise ValueError(f"attention={config.attention}: needs a {needs}, this is a {platform}")
    return config
