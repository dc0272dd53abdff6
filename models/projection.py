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
    Site.LOGITS: ("embed_vocab", "vocab"),
}
_NEVER_QUANTIZED = Site.LOGITS
QUANTIZED = tuple(site.name.lower() for site in _KERNEL_AXES if site != _NEVER_QUANTIZED)


def projection(config: ModelConfig, site: Site) -> Projection:
    """The `dot_general` of one matmul."""
    return Projection(
        quantization="none" if site == _NEVER_QUANTIZED else config.quantization,
        axes=_KERNEL_AXES[site],
        site=site,
        stochastic_rounding=config.stochastic_rounding,
    )
