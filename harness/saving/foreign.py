"""Checkpoints of other programs, as Orbax writes them: where their arrays lie, and their names.

A step's arrays lie in the step's folder itself (StandardCheckpointer), or in folders within it,
one for each item (CheckpointManager). `_METADATA` names the arrays; where it is missing, as in old
checkpoints, the storage itself is asked.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.saving.faults import Damaged
from harness.terminal.errors import UserError
from harness.terminal.text import one_line

_TREE, _ROOT = "_METADATA", "_CHECKPOINT_METADATA"
_PACKED = "manifest.ocdbt"  # of arrays that share files; else each has a folder of its own
_COMMITTED = "commit_success.txt"
_TEMPORARY = ".orbax-checkpoint-tmp"
OTHER_METADATA = (_TREE, "data.json")  # where ours, or its absence, would be looked for
_STEP = re.compile(r"(?:[A-Za-z][A-Za-z_-]*)?([0-9]{1,18})")

# Linen's collection name, which MaxText keeps in its paths and ours have not.
_COLLECTION = re.compile(r"^(params|opt_state/\d+/[mn]u)/params/")
_EXTRAS = "nnx_aux/"  # states of random generators, of no use here

# Forms that are known by their files' names, and not read.
_NOT_READ = (
    ("*.safetensors", "safetensors, as Hugging Face's libraries write them"),
    ("gda", "a checkpoint of AXLearn's own form"),
    ("step_*/gda", "checkpoints of AXLearn's own form"),
    ("*.msgpack", "a checkpoint of Flax's msgpack form"),
    ("checkpoint", "a checkpoint of Flax's or an old Orbax's msgpack form"),
    ("*.distcp", "a checkpoint of PyTorch's"),
    ("*.pt", "a checkpoint of PyTorch's"),
    ("pytorch_model*.bin", "a checkpoint of PyTorch's"),
)


@dataclass(frozen=True)
class Place:
    """Where an array lies: a folder, the key in it, and in which of TensorStore's forms."""

    folder: Any
    key: str
    driver: str = "zarr"
    packed: bool = True

    def spec(self) -> dict[str, Any]:
        """What TensorStore needs to open it."""
        store = _store(self.folder, self.packed, self.key + "/")
        return {"driver": self.driver, "kvstore": store, "fill_missing_data_reads": False}


def is_step(path: Any) -> bool:
    """Whether a folder is one step, in a form that can be read."""
    return bool(_items(path))


def step_folders(directory: Any) -> list[Any]:
    """The steps in a folder by number, whatever their names begin with, without temporary ones.

    A number alone is always a step; a name with a number only where a step lies there.
    """
    if not directory.is_dir():
        return []
    found = []
    for path in directory.iterdir():
        match = _STEP.fullmatch(path.name)
        if match and path.is_dir() and (path.name.isdecimal() or is_step(path)):
            found.append((int(match[1]), path.name, path))
    return [path for _, _, path in sorted(found, key=lambda entry: entry[:2])]


def places(path: Any) -> dict[str, Place]:
    """Where each array of a step lies, by its path in the tree; several items' after their names.

    Raises Damaged when the names cannot be read.
    """
    items = _items(path)
    found: dict[str, Place] = {}
    for item, folder in items.items():
        before = f"{item}/" if len(items) > 1 else ""
        found |= {before + name: place for name, place in _places_in(folder).items()}
    kept = {name: place for name, place in found.items() if not name.startswith(_EXTRAS)}
    renamed = {_COLLECTION.sub(r"\1/", name): place for name, place in kept.items()}
    return renamed if len(renamed) == len(kept) else kept


def expects(path: Any, item: str) -> bool:
    """Whether Orbax's own note at a step says that an item of this name was saved."""
    try:
        handlers = json.loads((path / _ROOT).read_text())["item_handlers"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return False
    return isinstance(handlers, dict) and item in handlers


def refuse(path: Any) -> UserError:
    """What to say of a path at which no checkpoint of a form that can be read lies."""
    for pattern, words in _NOT_READ:
        found = path.glob(pattern) if path.is_dir() else [path] if path.match(pattern) else []
        if any(entry.is_file() or entry.name == "gda" for entry in found):
            return UserError(
                f"{path}: {words}: not read here, convert it to an Orbax checkpoint first"
            )
    reason = "holds no checkpoint" if path.exists() else "does not exist"
    return UserError(f"{path}: {reason}; give a folder of checkpoints, or one step in it")


def _items(path: Any) -> dict[str, Any]:
    """The folders with arrays of a step: itself, under no name, or those of its items."""
    if not path.is_dir() or _TEMPORARY in path.name:
        return {}
    if _holds_arrays(path):
        return {"": path}
    return {
        inner.name: inner
        for inner in sorted(path.iterdir(), key=lambda inner: str(inner.name))
        if not inner.name.isdecimal() and not (inner / _ROOT).exists() and _holds_arrays(inner)
    }


def _holds_arrays(folder: Any) -> bool:
    """Whether there are arrays, or were: a description alone makes none."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()} - {_COMMITTED}
    return _PACKED in names or (_TREE in names and len(names) > 1)


def _places_in(folder: Any) -> dict[str, Place]:
    packed = (folder / _PACKED).is_file()
    if not (folder / _TREE).is_file():
        return dict(_listed(folder))
    try:
        stored = json.loads((folder / _TREE).read_text())
        driver = "zarr3" if stored.get("use_zarr3") else "zarr"
        packed = stored.get("use_ocdbt", packed)
        names = [tuple(map(str, name)) for name in _array_names(stored["tree_metadata"])]
    except (OSError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:
        raise Damaged(f"its {_TREE} cannot be read: {one_line(error)}") from error
    return {"/".join(name): Place(folder, ".".join(name), driver, packed) for name in names}


def _array_names(tree: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The path of each array in a tree's description; texts and empty branches have none."""
    for entry in tree.values():
        about = entry["value_metadata"]
        if not about["skip_deserialize"] and about.get("value_type") != "string":
            yield [part["key"] for part in entry["key_metadata"]]


def _listed(folder: Any) -> Iterator[tuple[str, Place]]:
    """The arrays that a storage without a description of its tree holds."""
    import tensorstore

    try:
        keys = tensorstore.KvStore.open(_store(folder, True)).result().list().result()
    except Exception as error:  # TensorStore's own are of many kinds
        raise Damaged(f"its arrays cannot be listed: {one_line(error)}") from error
    for key in keys:
        name, _, file = key.decode(errors="replace").rpartition("/")
        if file in (".zarray", "zarr.json"):
            driver = "zarr3" if file == "zarr.json" else "zarr"
            yield name.replace(".", "/"), Place(folder, name, driver)


def _store(folder: Any, packed: bool, key: str = "") -> Any:
    """TensorStore's description of a folder, or of what lies in it under a key."""
    path = str(folder).rstrip("/") + "/"
    if not packed:
        return path + key if "://" in path else {"driver": "file", "path": path + key}
    base = path if "://" in path else {"driver": "file", "path": path}
    return {"driver": "ocdbt", "base": base, "path": key}
