"""Content that carries its own checksum."""

import json
from typing import Any

import pytest

from harness.records import sealing
from harness.records.sealing import SEAL, Broken


def test_what_was_sealed_is_opened_in_any_order_of_keys() -> None:
    content: dict[str, Any] = {
        "step": 3,
        "digests": {"a": "0" * 64},
        "seconds": 0.1,
        "é": (1, None),
    }
    sealed = json.loads(json.dumps(sealing.sealed(content)))
    assert sealing.opened(sealed) == content | {"é": [1, None]}
    assert sealing.opened(dict(reversed(sealed.items()))) == content | {"é": [1, None]}
    assert sealing.sealed(content)[SEAL] != sealing.sealed(content | {"step": 4})[SEAL]


@pytest.mark.parametrize(
    "changed",
    [{"step": 4}, {"step": 3.0}, {"step": "3"}, {"more": 0}, {SEAL: "0"}, {SEAL: None}],
)
def test_whatever_changes_is_seen(changed: dict[str, Any]) -> None:
    with pytest.raises(Broken, match="has changed since it was written"):
        sealing.opened(sealing.sealed({"step": 3}) | changed)


@pytest.mark.parametrize("content", [{"step": 3}, [], "text", None])
def test_what_has_no_seal_is_told(content: object) -> None:
    with pytest.raises(Broken, match="has no checksum"):
        sealing.opened(content)


def test_lines_are_sealed_too() -> None:
    text = "a: 1\nsha256: é\n"
    sealed = sealing.sealed_text(text).encode()
    assert sealing.opened_text(sealed) == text
    assert sealed.startswith(text.encode())
    for changed in (sealed[1:], sealed[:-1], sealed.replace(b"1\n", b"2\n"), sealed + b"\n"):
        with pytest.raises(Broken, match="has changed since it was written"):
            sealing.opened_text(changed)
    for changed in (b"", b"a: 1\n", b"\xff"):
        with pytest.raises(Broken, match="has no checksum"):
            sealing.opened_text(changed)


@pytest.mark.parametrize(
    "text", ["{", "NaN", "[Infinity]", "1e999", '{"a": 1, "a": 1}', "1" * 5000]
)
def test_what_json_lacks_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        sealing.parse(text)
    assert sealing.parse(b'{"a": [1.5, {"a": null}]}') == {"a": [1.5, {"a": None}]}
