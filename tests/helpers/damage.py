"""What happens to JSON: a value becomes another one, is gone, comes twice; or a byte is hit."""

import copy
import json
import random
from collections.abc import Iterable
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**400, 2**63, 1e308, -0.0, 0.5, float("nan"), float("inf")),
    *("", "0", "x", "..", "/", "a/../../b", "\x00", "\x1b[31m", "\ud800", "\u202e", "x" * 9999),
    *([], {}, [[]], [None], {"": None}, [0] * 1000),
)  # fmt: skip


def changed(chance: random.Random, whole: Any) -> Any:
    """A copy of a JSON value in which one to three things are others."""
    value = json.loads(json.dumps(whole))
    for _ in range(chance.randint(1, 3)):
        holder, key = chance.choice([*_places(value)])
        match chance.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, _other(chance, holder))
            case 1:
                holder[chance.choice([f"{key}x", "x", ""])] = _other(chance)
            case 2 if isinstance(holder[key], (int, float)):
                holder[key] = chance.choice((holder[key] + 1, -holder[key], holder[key] * 1000))
            case _:
                holder[key] = _other(chance)
        if not value:
            return value
    return value


def _other(chance: random.Random, among: Iterable[Any] = ()) -> Any:
    return copy.deepcopy(chance.choice([*among, *ODD]))


def written(chance: random.Random, value: Any) -> bytes:
    """Its text, now and then hit by something that knows nothing of JSON."""
    text = bytearray(json.dumps(value).encode())
    place = chance.randrange(len(text))
    match chance.randrange(20):
        case 0:
            text[place] = chance.randrange(256)
        case 1:
            del text[place:]
        case 2:
            text[place:place] = b"[" * chance.choice((1, 5000))
        case 3:
            text = bytearray(text.decode().encode("utf-16"))
    return bytes(text)


def _places(value: Any) -> Any:
    keys = range(len(value)) if isinstance(value, list) else [*value]
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from _places(value[key])


def check_line(told: str, longest: int = 2000) -> None:
    """Raises unless what is told of a fault can be shown in one line."""
    assert told.isprintable()
    assert 0 < len(told) <= longest
