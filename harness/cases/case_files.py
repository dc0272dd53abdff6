"""Case files: which there are, and what stands in one."""

from collections import Counter
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.terminal import inputs
from harness.terminal.errors import UserError
from harness.terminal.text import nearest, safe

CASES = Path(__file__).parents[2] / "configs" / "cases"
_LARGEST = 2**20  # bytes of a case file
PAIR_CASE = "00_pair"  # stands in where a pair of a user's own comes without a case


def case_names() -> list[str]:
    """The names of the cases that come with the project; not of that for pairs of others."""
    return sorted(path.stem for path in CASES.glob("*.yaml") if path.stem != PAIR_CASE)


def given(case: str | None, twins: str | None) -> str:
    """The case that a command is told of; UserError where one is missing."""
    if case is not None:
        return case
    if twins is None:
        raise UserError(f"--case is missing; known are {', '.join(case_names())}")
    return PAIR_CASE


def shown(case: str, twins: str | None) -> str:
    """What a reader calls a case: of a pair that came without one, the pair's module."""
    return twins if case == PAIR_CASE and twins is not None else case


def find(case: str) -> Path:
    """The file of a case by its name, or as it is given."""
    path = Path(case) if case.endswith((".yaml", ".yml")) else CASES / f"{case}.yaml"
    if not path.is_file():
        raise UserError(
            f"--case {case}: no such case{choices(case, case_names())}, or a .yaml file"
        )
    return path


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, of which the last would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))
        for key, count in counts.items():
            if count > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep=deep)


def read(path: Path) -> dict[str, tuple[Any, str]]:
    """A file's settings by dotted key, each with where it was said."""
    try:
        text = inputs.content(path, _LARGEST).decode()
        document = yaml.load(text, _UniqueKeyLoader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:  # PyYAML raises what its own conversions do: dates, numbers, depth
        told = safe(" ".join(str(error).split()), 300)
        raise UserError(f"{path}: not readable as YAML: {told}") from None
    settings: dict[str, tuple[Any, str]] = {}
    for section, values in _mapping(document, f"{path}").items():
        for key, value in _mapping(values, f"{path}: {section}").items():
            settings[f"{section}.{key}"] = (value, str(path))
    return settings


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: must be a mapping of keys, not {safe(repr(value))}")
    return value


# What other trainers call a setting, by its name here.
_ELSEWHERE = {
    "learning_rate": ("lr", "max_lr", "peak_lr", "lr_peak", "base_lr"),
    "b1": ("beta1", "adam_b1", "adam_beta1"),
    "b2": ("beta2", "adam_b2", "adam_beta2"),
    "epsilon": ("eps", "adam_eps", "adam_epsilon"),
    "weight_decay": ("wd",),
    "clip_norm": ("grad_clip", "clip_grad", "max_grad_norm", "gradient_clipping"),
    "steps": ("max_steps", "num_steps", "train_steps", "train_iters", "num_train_steps"),
    "per_device_batch": ("batch", "batch_size", "micro_batch_size", "per_device_batch_size"),
    "global_batch": ("global_batch_size",),
    "microbatches": ("grad_accum", "gradient_accumulation", "gradient_accumulation_steps"),
    "sequence_length": ("seq_len", "seq_length", "max_seq_len", "context_length", "max_length"),
    "embed": ("d_model", "dim", "emb_dim", "hidden_size", "model_dim", "n_embd"),
    "mlp": ("d_ff", "ffn_dim", "intermediate_size", "mlp_dim", "hidden_dim"),
    "layers": ("depth", "n_layer"),
    "heads": ("n_head",),
    "tensor": ("tp", "model"),
    "stage": ("pp", "pipeline"),
}
_HERE = {other: name for name, others in _ELSEWHERE.items() for other in others}


def choices(given: str, known: list[str]) -> str:
    """What is allowed in place of something that is not, the nearest first.

    Nearest is also what other trainers call so: optim.lr is optim.learning_rate. Of dotted keys
    those of the same section are told or, where the section is unknown, the sections.
    """
    section, dot, name = given.rpartition(".")
    meant = f"{section}{dot}{_HERE.get(name, name)}"
    near = [one for one in known if dot and one.startswith(f"{section}.")]
    told = dict.fromkeys(near or [one.partition(".")[0] for one in known])
    return f"{nearest(meant, known)}; known are {', '.join(told)}"
