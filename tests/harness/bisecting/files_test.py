"""What is kept in a file is what it was, and is compared as that."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness import bisect
from harness.bisecting import asking, files, telling
from harness.bisecting.capture import capture
from harness.bisecting.computing import Side
from harness.terminal.errors import UserError

PARAMS = {"w": jnp.linspace(0.5, 2, 9).reshape(3, 3)}
X = jnp.asarray([[0.5, 1.0, 2.0]])


def side(name: str, epsilon: float = 1e-6, dtype: Any = jnp.bfloat16) -> Side:
    def step(params: Any, x: jax.Array) -> dict[str, Any]:
        def loss(params: Any) -> jax.Array:
            with jax.named_scope("layer"):
                y = (x.astype(dtype) @ params["w"].astype(dtype)).astype(jnp.float32)
            noise = jax.random.normal(jax.random.key(0), y.shape)
            return (y * jax.lax.rsqrt((y**2).mean() + epsilon) + noise).sum()

        value, gradients = jax.value_and_grad(loss)(params)
        return {"loss": value, "gradients": gradients}

    def run(change: Any = None) -> Any:
        return capture(step, PARAMS, X, change=change)

    return Side(name, run(), run, {"w": None})


def test_a_side_is_read_as_it_was_kept(tmp_path: Path) -> None:
    kept = side("main")
    files.save(str(tmp_path / "a.npz"), kept)
    read = files.read(str(tmp_path / "a.npz"))
    assert (read.name, read.run, read.layer_axes) == ("main", None, {"w": None})
    for one, other in zip(read.trace.nodes, kept.trace.nodes, strict=True):
        assert one.fingerprint == other.fingerprint
        assert [i.order for i in one.inputs] == [i.order for i in other.inputs]
        assert (one.operation, one.at[:3], one.parameters, one.settings) == (
            other.operation, other.at[:3], other.parameters, other.settings)  # fmt: skip
    assert read.trace.outputs.keys() == kept.trace.outputs.keys()
    np.testing.assert_array_equal(read.trace.parameters["w"].values, PARAMS["w"])


def test_a_file_is_compared_with_another_and_with_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / f"{n}.npz") for n in range(3)]
    for path, one in zip(paths, (side("main"), side("main"), side("branch", 1e-3)), strict=True):
        files.save(path, one)
    assert bisect.main(paths[:2]) == 0
    assert capsys.readouterr().out.startswith("no difference: loss, 1 of 1 activations")
    assert bisect.main(paths[1:]) == 1
    told = capsys.readouterr().out
    assert told.startswith("different: two files do not tell rounding from faults")
    assert (
        "main: add float32[] with 9.99999997e-07, at tests/harness/bisecting/files_test.p" in told
    )
    found = asking.compared(files.read(paths[0]), side("branch", 1e-3))
    assert not found.is_rounding
    assert "1 does by more than rounding" in telling.text(found)
    same = asking.compared(files.read(paths[0]), side("branch"))
    assert same.parting is None


def test_what_is_no_such_file_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="is not there"):
        files.read(str(path))
    for content in (b"", b"PK\x03\x04 and no more", b"anything at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="was not written by harness bisect"):
            files.read(str(path))
    np.savez(path, about=np.zeros(3, np.uint8), values=np.zeros(3, np.uint8))
    with pytest.raises(UserError, match="was not written by harness bisect"):
        files.read(str(path))
    with pytest.raises(UserError, match=r"--save .*: No such file or directory"):
        files.save(str(tmp_path / "nowhere" / "a.npz"), side("main"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b", "c"], "a b c: must be two files at most"),
        (["a", "--save", "b"], "FILE and --save: give only one of them"),
        (["--save", "a", "--against", ""], "--save and --against: give only one of them"),
        (["a", "--b", "nnx"], "FILE: is of --a alone; leave out --b"),
        (["--case", "03_dropout", "--against", "'"], '--against "\'": No closing quotation'),
    ],
)
def test_one_question_at_a_time(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        bisect.main(arguments)
