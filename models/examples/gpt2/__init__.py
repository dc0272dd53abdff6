"""A GPT-2 in Linen and in NNX: `--twins models.examples.gpt2`.

Learned positions, LayerNorm, GELU, biases, a head tied to the embedding, and layers that are
written out one after the other: no scan, so each has parameters of its own.

In float32, the default, the two are equal bit for bit. With model.dtype=bfloat16 the logits still
are and the gradients are not, which `harness bisect` shows, with the first tensor.
"""

from models.examples.gpt2.config import SIZES, ModelConfig, evaluated, parts, tflop_per_step

__all__ = ["SIZES", "ModelConfig", "evaluated", "parts", "tflop_per_step"]
