from dataclasses import replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

from models.decoder.config import ModelConfig
from models.decoder.parameters import logical_axes
from models.decoder.sites import Site, projection, remat_policy
from models.shared.projection import GATHERED

INT8 = ModelConfig(quantization="int8")
MATMULS = [site for site in Site if site >= Site.QUERY]


def test_the_numbers_of_the_sites_are_part_of_every_random_key() -> None:
    assert [(site.name, int(site)) for site in Site] == [
        ("EMBEDDING_DROPOUT", 0),
        ("MLP_DROPOUT", 1),
        ("LAYER_DROPOUT", 2),
        ("HEAD_DROPOUT", 3),
        ("QUERY", 4),
        ("KEY", 5),
        ("VALUE", 6),
        ("OUT", 7),
        ("WI_0", 8),
        ("WI_1", 9),
        ("WO", 10),
        ("LOGITS", 11),
    ]


@pytest.mark.parametrize("site", MATMULS)
def test_every_matmul_but_the_heads_is_quantised(site: Site) -> None:
    made = projection(INT8, site)
    assert made.quantization == ("none" if site == Site.LOGITS else "int8")
    assert made.site == site
    assert projection(ModelConfig(), site).quantization == "none"


@pytest.mark.parametrize("site", MATMULS)
def test_a_kernel_lies_as_the_parameter_table_says(site: Site) -> None:
    axes = logical_axes(INT8)["decoder"]
    if site == Site.LOGITS:
        stacked = axes["logits_dense"]["kernel"]
    else:
        block = "mlp" if site.name.startswith("W") else "self_attention"
        stacked = axes["layers"][block][site.name.lower()]["kernel"]
    assert projection(INT8, site).axes == tuple(axis for axis in stacked if axis != "layers")


def test_the_settings_of_int8_reach_every_matmul() -> None:
    for name in ("stochastic_rounding", "use_fwd_quant"):
        for value in (True, False):
            setting: dict[str, Any] = {name: value}
            assert getattr(projection(replace(INT8, **setting), Site.WO), name) is value


def test_only_the_gathered_weights_are_kept_for_the_backward_pass() -> None:
    def sines(remat: Literal["full", "weights"]) -> int:
        """How often the gathered value is computed, forward and backward."""

        def loss(x: jax.Array) -> jax.Array:
            return jnp.square(checkpoint_name(jnp.sin(x), GATHERED))

        kept = jax.checkpoint(loss, policy=remat_policy(replace(INT8, remat=remat)))
        return str(jax.make_jaxpr(jax.grad(kept))(1.0)).count(" sin ")

    assert (sines("full"), sines("weights")) == (2, 1)
