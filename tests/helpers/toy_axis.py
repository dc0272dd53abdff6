"""A mesh axis in one file: the toy family, its wide features divided over an axis of their own."""

from toy_family import IMPLEMENTATIONS, SIZES, ModelConfig, linen, loss, nnx_

__all__ = ["IMPLEMENTATIONS", "SIZES", "ModelConfig", "linen", "loss", "mesh_axes", "nnx_", "rules"]

mesh_axes = ("lane",)
rules = {"mlp": "lane"}
