"""MaxText's own decoder as a pair, its Linen form and its NNX form: README.md says how.

Configuration, models and loss are MaxText's, called as its train.py calls them; it is tiny. What
the environment has as MAXTEXT_SETTINGS, such as "dropout_rate=0.1 quantization=int8", is recorded
as model.settings; whose array is whose is found under these.
"""

import functools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import maxtext  # type: ignore[import-not-found,unused-ignore]
import numpy as np
from flax import linen
from flax.linen import partitioning
from maxtext.configs import pyconfig  # type: ignore[import-not-found,unused-ignore]
from maxtext.trainers.pre_train import train  # type: ignore[import-not-found,unused-ignore]
from maxtext.utils import (  # type: ignore[import-not-found,unused-ignore]
    maxtext_utils_nnx,
    model_creation_utils,
)

from models.pair import Pair

_VOCAB, _T = 256, 64
# Its loss drops what of a batch is beyond per_device_batch_size.
_SETTINGS = f"""run_name=pair hardware=cpu dataset_type=synthetic enable_checkpointing=False
 skip_jax_distributed_system=True override_model_config=True per_device_batch_size=512
 base_emb_dim=64 base_num_decoder_layers=2 base_num_query_heads=4 base_num_kv_heads=4 head_dim=16
 base_mlp_dim=128 vocab_size={_VOCAB} max_target_length={_T}"""
_LINEN = "pure_nnx=False enable_nnx=False pure_nnx_decoder=False"


@functools.cache
def _config(settings: str) -> Any:
    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    return pyconfig.initialize(["", str(base), *f"{_SETTINGS} {settings}".split()])


def _devices() -> list[jax.Device]:
    """Over which MaxText lays a mesh of its own: those of the mesh in force, else one."""
    return jax.devices()[: max(1, jax.sharding.get_abstract_mesh().size)]


def _linen(settings: str) -> Any:
    return model_creation_utils.from_config(_config(f"{settings} {_LINEN}"), _devices())


def _nnx(rngs: Any, settings: str) -> Any:
    config = _config(settings)
    own = maxtext_utils_nnx.create_nnx_rngs(config, rng_key=rngs())
    return model_creation_utils.from_config(config, _devices(), rngs=own)


def _batch(rng: Any, size: int) -> dict[str, Any]:
    tokens = rng.integers(0, _VOCAB, (size, _T + 1))
    position, segmentation = np.tile(np.arange(_T), (size, 1)), np.ones((size, _T), "int32")
    each = {"position": position, "segmentation": segmentation}
    about = {f"{of}_{what}": one for of in ("inputs", "targets") for what, one in each.items()}
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]} | about


def _loss(model: Any, batch: Any, key: jax.Array) -> Any:
    mesh = jax.sharding.use_abstract_mesh(model.mesh.abstract_mesh)
    with mesh, partitioning.axis_rules(model.config.logical_axis_rules):
        if not isinstance(model, linen.Module):
            loss, about = train.loss_fn(model, model.config, dict(batch), None, None)
        elif model.is_initializing():
            model(batch["inputs"], batch["inputs_position"], batch["inputs_segmentation"])
            return jnp.float32(0)
        else:  # its loss applies the module itself
            module, variables = model.unbind()
            loss, about = train.loss_fn(module, model.config, dict(batch), key, variables)
    return loss, {"total_weights": about["total_weights"].astype("float32")}


PAIR = Pair(
    linen=_linen,
    nnx=_nnx,
    batch=_batch,
    loss=_loss,
    sizes={"full": {"settings": os.environ.get("MAXTEXT_SETTINGS", "")}},
)
