"""What is kept of a compiled step."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness.slices import compilation, topology
from harness.slices.compilation import DoesNotFit
from harness.training import train_step
from harness.training.compiler_options import Options

SLICE = "v6e-8"


def test_the_outcome_depends_on_the_program_and_the_slice() -> None:
    small, large = topology.find("v6e-8"), topology.find("v6e-32")
    both_options: list[Options] = [{}, {"xla_option": True}]
    keys = {
        compilation.key(text, options, on)
        for text in ("a", "b")
        for options in both_options
        for on in (small, large)
    }
    assert len(keys) == 8


def test_a_damaged_cache_entry_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    on = topology.find(SLICE)
    folder = tmp_path / "linen-nnx-harness" / "preflight"
    folder.mkdir(parents=True)
    (folder / f"{compilation.key('text', {}, on)}.json.gz").write_bytes(b"\x1f\x8bno")
    assert compilation.find("text", {}, on) is None


def test_an_outcome_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lowered = jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8)))
    trainer: Any = SimpleNamespace(compiler_options={})
    on = topology.find(SLICE)
    assert compilation.find("text", {}, on) is None
    made = compilation.compile_step(lowered, trainer, "text", on)
    assert "dot" in made.text
    assert made.memory_analysis().argument_size_in_bytes == 8 * 8 * 4
    assert compilation.find("text", {}, on) == made
    assert compilation.find("other", {}, on) is None


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        ("RESOURCE_EXHAUSTED: Ran out\n of memory.\n\nbuffers", DoesNotFit),
        ("INTERNAL: a fault", jax.errors.JaxRuntimeError),
    ],
)
def test_what_does_not_fit_is_told_apart_from_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, raised: type[Exception]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError(told)

    monkeypatch.setattr(train_step, "compile_step", fail)
    nothing: Any = None
    trainer: Any = SimpleNamespace(compiler_options={})
    on = topology.find(SLICE)
    with pytest.raises(raised) as caught:
        compilation.compile_step(nothing, trainer, "text", on)
    if raised is DoesNotFit:
        assert str(caught.value) == "Ran out of memory."
        with pytest.raises(DoesNotFit, match=r"^Ran out of memory\.$"):
            compilation.find("text", {}, on)
    else:
        assert compilation.find("text", {}, on) is None


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compilation._keep({}, tmp_path / "file" / "folder" / "name")
