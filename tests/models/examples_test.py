"""The example pairs are pairs: one tree, and the same logits."""

from typing import Any

import jax
import numpy as np
import pytest

from harness import hlo
from harness.cases import families as pairs
from harness.cases import reading
from harness.training import checking, train_step
from harness.training.parallel import mesh

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


def test_the_batch_stays_split_over_the_devices() -> None:
    """Each multiplies its share, of which the formula leaves out the upper half of attention."""
    case = reading.load("03_dropout", "tiny", ["model.layers=1"], twins=EXAMPLES[0])
    pair = pairs.load(case.twins)
    assert pair.tflop_per_step is not None
    tflop, attention_percent = pair.tflop_per_step(case.model, case.data.sequence_length, 1)
    for name in pair.names:
        trainer = train_step.make_trainer(case, name, mesh.make(case, jax.devices()))
        compiled = train_step.compile_step(train_step.trace_step(trainer).lower(), trainer)
        multiplied = sum(one.flops for one in hlo.matmuls(hlo.parse(hlo.text(compiled)))) / 1e12
        assert multiplied == pytest.approx(tflop * (1 + attention_percent / 100))
