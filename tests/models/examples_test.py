"""The example pairs are pairs: one tree, and the same logits."""

from typing import Any

import jax
import numpy as np
import pytest

from harness.cases import families as pairs
from harness.cases import reading
from harness.training import checking

EXAMPLES = ["models.examples.gpt2", "models.examples.bridge"]


@pytest.mark.parametrize("twins", EXAMPLES)
@pytest.mark.parametrize("size", ["tiny", "full"])
def test_the_seam_has_no_fault(twins: str, size: str) -> None:
    assert checking.faults(reading.load("03_dropout", size, twins=twins)) == []


@pytest.mark.parametrize("twins", EXAMPLES)
def test_logits_are_bit_equal(twins: str) -> None:
    case = reading.load(
        "03_dropout", "tiny", ["model.dtype=float32", "data.sequence_length=16"], twins=twins
    )
    pair = pairs.load(twins)
    params = jax.jit(lambda: pair.get(pair.names[0]).init(case.model, jax.random.key(0)))()
    tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, case.model.vocab)

    def logits(name: str) -> Any:
        apply = pair.get(name).apply
        return jax.jit(lambda p: apply(case.model, p, tokens, jax.random.key(2)))(params)

    a, b = (logits(name) for name in pair.names)
    np.testing.assert_array_equal(a, b)
    assert np.isfinite(a).all()
