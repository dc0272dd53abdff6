"""How each matmul of the decoder is carried out: its precision, and where its kernel lies."""

from models.config import ModelConfig
from models.ops import Site
from models.partitioning import Axes
from models.quant import Projection

_KERNEL_AXES: dict[Site, Axes] = {
    Site.QUERY: ("embed", "q_heads", "kv"),
    Site.KEY: ("embed", "kv_heads", "kv_head_dim"),
    Site.VALUE: ("embed", "kv_heads", "kv_head_dim"),
    Site.OUT: ("heads", "kv", "embed"),
    Site.WI_0: ("embed", "mlp"),
    Site.WI_1: ("embed", "mlp"),
    Site.WO: ("mlp", "embed"),
}

QUANTIZED_SITES = tuple(site.name.lower() for site in _KERNEL_AXES)  # by the kernels' names


def projection(config: ModelConfig, site: Site) -> Projection:
    """The `dot_general` of one of a layer's seven matmuls."""
    return Projection(
        quantization=config.quantization,
        axes=_KERNEL_AXES[site],
        site=site,
        stochastic_rounding=config.stochastic_rounding,
    )


def logits_projection() -> Projection:
    """The `dot_general` of the output head, which is never quantised."""
    return Projection("none", ("embed_vocab", "vocab"), site=0, stochastic_rounding=False)
