"""A side that is kept in a file, to be compared elsewhere: in another branch or version."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from harness.bisecting.capture import Node, Place, Trace
from harness.bisecting.computing import Side
from harness.terminal import inputs
from harness.terminal.errors import UserError

_VERSION = 3


def save(path: str, side: Side) -> None:
    """Keeps every value of a side, each once, with where it came from."""
    blobs: dict[bytes, int] = {}
    values: list[bytes] = []
    nodes = []
    for node in side.trace.nodes:
        if node.fingerprint not in blobs:
            blobs[node.fingerprint] = len(values)
            values.append(node.values.tobytes())
        nodes.append(
            {
                "operation": node.operation,
                "value": blobs[node.fingerprint],
                "dtype": str(node.values.dtype),
                "shape": node.values.shape,
                "inputs": [one.order for one in node.inputs],
                "literals": [float(one) for one in node.literals],
                "at": node.at[:3],
                "follows_tokens": node.follows_tokens,
                "parameters": sorted(node.parameters),
                "terms": node.terms,
                "settings": node.settings,
            }
        )
    about = {
        "version": _VERSION,
        "name": side.name,
        "layer_axes": side.layer_axes,
        "outputs": {name: node.order for name, node in side.trace.outputs.items()},
        "nodes": nodes,
        "ends": np.cumsum([len(one) for one in values]).tolist(),
    }
    try:
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                values=np.frombuffer(b"".join(values), np.uint8),
            )
    except OSError as error:
        raise UserError(f"--save {path}: {error.strerror}") from None


def read(path: str) -> Side:
    """The side that a file keeps; UserError for one that keeps none."""
    try:
        inputs.require_file(path, path)
        with Path(path).open("rb") as file, np.load(file) as arrays:
            about = json.loads(arrays["about"].tobytes())
            values = arrays["values"].tobytes()
        if about["version"] != _VERSION:
            raise UserError(f"{path}: is of version {about['version']}; this is {_VERSION}")
    except FileNotFoundError:
        raise UserError(f"{path}: is not there") from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        raise UserError(f"{path}: was not written by harness bisect --save") from None
    ends = about["ends"]
    blobs = [values[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    nodes: list[Node] = []
    for order, told in enumerate(about["nodes"]):
        nodes.append(_node(order, told, blobs[told["value"]], nodes))
    outputs = {name: nodes[order] for name, order in about["outputs"].items()}
    return Side(about["name"], Trace(nodes, outputs), None, about["layer_axes"])


def _node(order: int, told: Any, blob: bytes, before: list[Node]) -> Node:
    return Node(
        order=order,
        operation=told["operation"],
        array=np.frombuffer(blob, jnp.dtype(told["dtype"])).reshape(told["shape"]),
        inputs=tuple(before[one] for one in told["inputs"]),
        literals=tuple(told["literals"]),
        at=Place(*told["at"]),
        follows_tokens=told["follows_tokens"],
        parameters=frozenset(told["parameters"]),
        terms=told["terms"],
        settings=told["settings"],
    )
