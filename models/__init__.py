"""The seam between the models and the harness: three functions per implementation."""

import importlib
from typing import TYPE_CHECKING, Any, Literal, cast

from models.decoder.config import SIZES, ModelConfig
from models.decoder.parts import PARTS
from models.seam import Implementation, SeamError, Twins
from models.seam import load as _load

if TYPE_CHECKING:
    from models.shared.stateful import Carrier

__all__ = [
    "IMPLEMENTATIONS",
    "PARTS",
    "SIZES",
    "Implementation",
    "ModelConfig",
    "SeamError",
    "carrier",
    "get",
    "load",
]

IMPLEMENTATIONS = ("linen", "nnx")


def get(name: str) -> Implementation:
    """The implementation called `name`; imports the framework it is written in, and no other."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"impl={name!r}: must be one of {', '.join(IMPLEMENTATIONS)}")
    return cast(Implementation, importlib.import_module(f"models.decoder.{name}"))


def load(name: str | None) -> Twins:
    """The pair that a module is, None for the project's own; raises SeamError."""
    if name is not None:
        return _load(name)
    return Twins(__name__, ModelConfig, SIZES, IMPLEMENTATIONS, get)


def carrier(
    mode: Literal["state", "jit"], config: ModelConfig, optimizer: Any, state: Any
) -> "Carrier":
    """What carries the NNX implementation's training state across jit as NNX's own objects."""
    from flax import nnx

    from models.decoder.nnx import Transformer
    from models.shared.stateful import Carrier

    return Carrier(mode, lambda: Transformer(config, nnx.Rngs(0)), optimizer, state)
