"""MaxText's own decoder as a pair, its Linen form and its NNX form: README.md says how.

Configuration, models, mesh, rules and loss are MaxText's, called as its train.py calls them. What
the environment has as MAXTEXT_SETTINGS, such as "dropout_rate=0.1 quantization=int8", is recorded
in model.settings with the size's own; whose array is whose is found under these.
"""

import functools
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import maxtext  # type: ignore[import-not-found,unused-ignore]
import numpy as np
import yaml
from flax import linen
from flax.linen import partitioning
from maxtext.configs import pyconfig  # type: ignore[import-not-found,unused-ignore]
from maxtext.trainers.pre_train import train  # type: ignore[import-not-found,unused-ignore]
from maxtext.utils import (  # type: ignore[import-not-found,unused-ignore]
    maxtext_utils,
    maxtext_utils_nnx,
    model_creation_utils,
)

from models.pair import Pair

_BASE = Path(maxtext.__file__).parent / "configs" / "base.yml"
_MOST = 512  # examples of a device: its loss drops what of a batch is beyond
_SETTINGS = f"""run_name=pair hardware=cpu dataset_type=synthetic enable_checkpointing=False
 skip_jax_distributed_system=True override_model_config=True per_device_batch_size={_MOST}"""
_FULL = "max_target_length=128"  # of 1,104,218,112 parameters, as its base.yml has it
_TINY = """base_emb_dim=64 base_num_decoder_layers=2 base_num_query_heads=4 base_num_kv_heads=4
 head_dim=16 base_mlp_dim=128 vocab_size=256 max_target_length=64"""
_OWN = os.environ.get("MAXTEXT_SETTINGS", "")
_LINEN = "pure_nnx=False enable_nnx=False pure_nnx_decoder=False"


@functools.cache
def _config(settings: str) -> Any:
    return pyconfig.initialize(["", str(_BASE), *f"{_SETTINGS} {settings}".split()])


def _mesh(devices: Any, settings: str) -> jax.sharding.Mesh:
    mesh: jax.sharding.Mesh = maxtext_utils.get_mesh_from_config(_config(settings), devices)
    return mesh


def _axes() -> dict[str, tuple[str, ...]]:
    """On which axes of that mesh MaxText's rules lay an axis: of several, the first."""
    rules = reversed(yaml.safe_load(_BASE.read_text())["logical_axis_rules"])
    return {name: (over,) if isinstance(over, str) else tuple(over) for name, over in rules}


def _linen(mesh: jax.sharding.Mesh, settings: str) -> Any:
    return model_creation_utils.from_config(_config(f"{settings} {_LINEN}"), mesh=mesh)


def _nnx(rngs: Any, mesh: jax.sharding.Mesh, settings: str) -> Any:
    config = _config(settings)
    own = maxtext_utils_nnx.create_nnx_rngs(config, rng_key=rngs())
    return model_creation_utils.from_config(config, mesh=mesh, rngs=own)


def _batch(rng: Any, size: int, settings: str) -> dict[str, Any]:
    config = _config(settings)
    length = config.max_target_length
    tokens = rng.integers(0, config.vocab_size, (size, length + 1))
    position, segmentation = np.tile(np.arange(length), (size, 1)), np.ones((size, length), "int32")
    each = {"position": position, "segmentation": segmentation}
    about = {f"{of}_{what}": one for of in ("inputs", "targets") for what, one in each.items()}
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]} | about


def _loss(model: Any, batch: Any, key: jax.Array, *, is_train: bool = True) -> Any:
    loss_of = functools.partial(train.loss_fn, is_train=is_train)
    mesh = jax.sharding.use_abstract_mesh(model.mesh.abstract_mesh)
    with mesh, partitioning.axis_rules(model.config.logical_axis_rules):
        if not isinstance(model, linen.Module):
            loss, about = loss_of(model, model.config, dict(batch), None, None)
        elif model.is_initializing():
            model(batch["inputs"], batch["inputs_position"], batch["inputs_segmentation"])
            return jnp.float32(0)
        else:  # its loss applies the module itself
            module, variables = model.unbind()
            loss, about = loss_of(module, model.config, dict(batch), key, variables)
    return loss, {"total_weights": about["total_weights"].astype("float32")}


def _tflop(config: Any, examples: int) -> float:
    """As MaxText counts them, of the most examples."""
    counted = maxtext_utils.calculate_tflops_training_per_device
    return float(counted(_config(config.settings), log=False)[0]) * examples / _MOST


PAIR = Pair(
    linen=_linen,
    nnx=_nnx,
    batch=_batch,
    loss=_loss,
    evaluation=lambda model, batch, key: _loss(model, batch, key, is_train=False),
    tflop_per_step=_tflop,
    mesh=_mesh,
    axes=_axes(),
    sizes={
        "full": {"settings": f"{_FULL} {_OWN}"},
        "tiny": {"settings": f"{_TINY} {_OWN}"},
    },
)
