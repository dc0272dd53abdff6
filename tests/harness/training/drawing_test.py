"""The random numbers of whole models, in plain words."""

import functools
import inspect
from dataclasses import replace
from typing import Any

import jax
import pytest
from flax import nnx
from small_pairs import Nnx, module, pair

from harness.cases import families, reading
from harness.cases.settings import Parallel
from harness.randomness.freshness import Drawn
from harness.terminal.errors import UserError
from harness.training import beginning, data, drawing
from harness.training.parallel import mesh

KEY = jax.random.key(1)


def drawn(name: str, impl: str, twins: str | None = None) -> Drawn:
    case = mesh.alone(reading.load(name, "tiny", ("data.sequence_length=16",), twins=twins))
    return drawing.drawn(case, families.of(case).get(impl), mesh.make(case, jax.devices()[:1]))


@pytest.mark.parametrize("name", ["03_dropout", "04_int8", "30_pipeline"])
@pytest.mark.parametrize("impl", ["linen", "nnx"])
def test_what_the_project_draws_is_fresh(name: str, impl: str) -> None:
    found = drawn(name, impl)
    assert drawing.findings(found) == []


@pytest.mark.bisect
@pytest.mark.parametrize("twins", [None, "models.examples.gpt2", "models.examples.bridge"])
def test_all_that_is_drawn_is_taken(twins: str | None) -> None:
    for impl in families.load(twins).names:
        found = drawn("03_dropout", impl, twins)
        assert (drawing.findings(found), drawing.idle(found)) == ([], [])


def test_a_key_that_is_ignored_and_a_mask_that_keeps_all() -> None:
    twins = module("ignored", pair(both={"fixed": True}))
    keys = set()
    for impl, line in (("linen", 29), ("nnx", 47)):
        found = drawn(reading.PAIR_CASE, impl, twins)
        keys.add(drawing.fingerprint(found))
        at = f"at tests/helpers/small_pairs.py:{line}"
        assert drawing.findings(found) == [f"draws the same random numbers in every step, {at}"]
        assert drawing.idle(found) == [f"draws random numbers that change nothing, {at}"]
    assert len(keys) == 1  # one key on both sides, whatever each draws with it
    assert None not in keys


class Forgetful(Nnx):
    """Its first dropout is drawn by a copy, whose counter is lost: each step begins anew."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=5))

    def __call__(self, x: jax.Array) -> jax.Array:
        return super().__call__(nnx.clone(self.dropout)(x))


@pytest.mark.pairs
def test_random_state_that_is_lost() -> None:
    twins = module("forgetful", pair(nnx=Forgetful))
    lines = drawing.findings(drawn(reading.PAIR_CASE, "nnx", twins))
    _, start = inspect.getsourcelines(Forgetful.__call__)
    at = f"tests/harness/training/drawing_test.py:{start + 1}"
    stays = "dropout/rngs/count stays as it is"
    assert lines == [f"draws the same random numbers in every step, at {at}: {stays}"]


def losses(twins: str, setting: str) -> list[float]:
    """Both sides' losses of the same parameters."""
    case = reading.load(reading.PAIR_CASE, "tiny", (setting,), twins=twins)
    grid = mesh.make(case, jax.devices()[:1])
    batch, family = data.on_host(case, grid), families.of(case)
    params, _ = beginning.variables_of(family.get("linen").init(case.model, KEY))
    found = []
    for impl in family.names:
        side: Any = drawing.implementation(case, impl, grid)
        _, state = beginning.variables_of(side.init(case.model, KEY))
        loss = jax.jit(functools.partial(side.loss, case.model))
        found.append(float(loss(params, state, batch, KEY).loss))
    return found


def test_two_that_draw_with_other_keys_can_draw_alike() -> None:
    twins = module("alike", pair(both={"rate": 0.5}))
    assert len({*losses(twins, "run.align_random=true")}) == 1
    assert len({*losses(twins, "run.align_random=false")}) == 2


def test_stages_do_not_draw_alike() -> None:
    case = reading.load("03_dropout", "tiny", ("run.align_random=true", "parallel.stage=2"))
    with pytest.raises(UserError, match=r"run.align_random=true: not with parallel.stage=2"):
        drawing.implementation(
            case, "nnx", mesh.make(replace(case, parallel=Parallel()), jax.devices()[:1])
        )
