"""Digests: blind to where an array lies, and to nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from harness.saving import digest


def _lay(array: np.ndarray, devices: int, *spec: str | None) -> jax.Array:
    mesh = Mesh(np.array(jax.devices()[:devices]), ("fsdp",))
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))


def _of(array: object) -> str:
    return digest.array_digests({"array": array})["array"]


def _array(seed: int = 0, shape: tuple[int, ...] = (8, 3, 16)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("spec", [(), ("fsdp",), (None, None, "fsdp")])
def test_sharding_and_device_count_do_not_matter(
    devices: int, spec: tuple[str | None, ...]
) -> None:
    assert _of(_lay(_array(), devices, *spec)) == _of(_array())


@pytest.mark.parametrize("spec", [(), ("fsdp",), (None, None, "fsdp")])
def test_devices_and_host_compute_the_same(spec: tuple[str | None, ...]) -> None:
    arrays = [
        _lay(_array(), 8, *spec),
        _lay(_array().astype(jnp.bfloat16), 8, *spec),
        _lay(np.asarray(7, np.int32), 8),
    ]
    turned = Format(Layout((2, 1, 0)), arrays[0].sharding)
    arrays.append(jax.device_put(arrays[0], turned))
    np.testing.assert_array_equal(digest._on_devices(arrays), digest._on_host(arrays))


def test_arrays_larger_than_one_piece_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _of(_array())
    monkeypatch.setattr(digest, "_ELEMENTS_AT_ONCE", 7 * 16)
    assert _of(_array()) == whole
    assert _of(_lay(_array(), 8, "fsdp")) == whole


def test_every_bit_counts() -> None:
    array = _array(shape=(2, 3))
    words = array.view(np.uint32)
    seen = {_of(array)}
    for place in np.ndindex(array.shape):
        for bit in range(32):
            words[place] ^= np.uint32(1 << bit)
            seen.add(_of(array))
            words[place] ^= np.uint32(1 << bit)
    assert len(seen) == 1 + 6 * 32


def test_places_count() -> None:
    array = _array(shape=(6, 4))
    others = [array[::-1], array[:, ::-1], array[[1, 0, 2, 3, 4, 5]], np.roll(array, 1)]
    assert len({_of(np.ascontiguousarray(other)) for other in [array, *others]}) == 5


def test_type_and_shape_count() -> None:
    array = np.zeros(12, np.float32)
    others = [array.reshape(3, 4), array.reshape(4, 3), array.astype(np.int32), array[:11]]
    assert len({_of(other) for other in [array, *others]}) == 5


def test_signs_of_zero_and_payloads_of_nan_count() -> None:
    words = np.array([0x00000000, 0x80000000, 0x7FC00000, 0x7FC00001], np.uint32)
    assert len({_of(word.reshape(1).view(np.float32)) for word in words}) == 4


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8, jnp.float8_e4m3fn, jnp.uint32, jnp.bool])
def test_all_widths_of_elements(dtype: np.dtype) -> None:
    array = np.arange(24).reshape(4, 6).astype(dtype)
    changed = array.copy()
    changed[2, 3] = 0
    assert _of(array) == _of(jnp.asarray(array)) != _of(changed)


def test_elements_of_eight_bytes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="a/b: no digest of float64"):
        digest.array_digests({"a": {"b": np.zeros(3)}})


def test_empty_arrays_and_scalars() -> None:
    assert _of(np.zeros((0, 3), np.float32)) == "float32[0,3]:" + "0" * 16
    assert _of(np.array(1, np.int32)) != _of(np.array(2, np.int32))


def test_the_combined_digest_names_the_arrays_and_ignores_their_order() -> None:
    digests = digest.array_digests({"b": _array(1), "a": _array(2)})
    assert digest.combined(digests) == digest.combined(dict(reversed(digests.items())))
    swapped = {"a": digests["b"], "b": digests["a"]}
    assert digest.combined(digests) != digest.combined(swapped)


def test_digests_stay_the_same_across_versions() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert _of(array) == "float32[2,3]:1c25c1de4fa0077e"


def test_a_digest_leaves_the_array_to_be_donated() -> None:
    array = jnp.arange(1024.0)
    where = array.unsafe_buffer_pointer()
    _of(array)
    successor = jax.jit(lambda x: x + 1, donate_argnums=0)(array)
    assert successor.unsafe_buffer_pointer() == where
