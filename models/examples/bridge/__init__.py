"""The project's Linen decoder, and the same carried over: `--twins models.examples.bridge`.

The lazy way to migrate: nothing is written anew, flax wraps the Linen module as an NNX one.
"""

from models.decoder import linen
from models.decoder.config import SIZES, ModelConfig
from models.decoder.parts import PARTS

__all__ = ["IMPLEMENTATIONS", "PARTS", "SIZES", "ModelConfig", "linen"]

IMPLEMENTATIONS = ("linen", "bridge")
