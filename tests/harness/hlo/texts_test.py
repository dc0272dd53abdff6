"""Texts that tell programs apart, and the same program not."""

import jax
import jax.numpy as jnp
import numpy as np

from harness import hlo


def test_text_holds_constants_that_as_text_elides() -> None:
    def compiled(scale: float) -> jax.stages.Compiled:
        table = np.sin(np.arange(64, dtype=np.float32)) * np.float32(scale)
        return jax.jit(lambda x: x * jnp.asarray(table)).lower(jnp.zeros(64)).compile()

    one, two = compiled(1.0), compiled(2.0)
    elided, other = (hlo.parse(str(program.as_text())) for program in (one, two))
    assert hlo.diff(elided, other) == []
    assert "elides" in hlo.warnings(elided)[0]
    (difference,) = hlo.diff(hlo.parse(hlo.text(one)), hlo.parse(hlo.text(two)))
    assert difference.opcode == "constant"
    assert hlo.warnings(hlo.parse(hlo.text(one))) == []


def test_source_lines_do_not_count_and_names_do() -> None:
    def here(x: jax.Array) -> jax.Array:
        return x + 1

    def there(x: jax.Array) -> jax.Array:
        # The same, lines further down.
        return x + 1

    def other(x: jax.Array) -> jax.Array:
        return x + 2

    there.__name__ = there.__qualname__ = other.__name__ = "here"
    digests = [
        hlo.stablehlo_sha256(jax.jit(function).lower(jnp.zeros(3)))
        for function in (here, there, other)
    ]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64
