"""The full-size int8 and fp8 steps, compiled for v6e-32: nothing falls back to bfloat16."""

import pytest

from harness import hlo
from harness.cases import reading
from harness.slices import compilation, topology
from harness.training import describing, train_step
from harness.training.parallel import mesh
from models.decoder import quantized
from models.seam import USUAL_NAMES

LAYERS = 16


def compiled(case: str, impl: str) -> hlo.Program:
    """The step's program for v6e-32, from the user's cache where it was compiled before."""
    on = topology.find("v6e-32")
    loaded = reading.load(case)
    trainer = train_step.make_trainer(loaded, impl, mesh.make(loaded, on.devices()))
    lowered = train_step.trace_step(trainer).lower()
    stablehlo = hlo.stablehlo_sha256(lowered)
    found = compilation.find(stablehlo, trainer.compiler_options, on)
    return hlo.parse((found or compilation.compile_step(lowered, trainer, stablehlo, on)).text)


@pytest.mark.tpu_compile
@pytest.mark.parametrize("impl", USUAL_NAMES)
@pytest.mark.parametrize(
    ("case", "forward", "backward", "gathered"),
    [
        ("04_int8", "s8 x s8 -> s32", {"s8 x s8 -> s32"}, "s8"),
        ("05_fp8", "f8e4m3fn x f8e4m3fn -> f32",
         {"f8e4m3fn x f8e5m2 -> f32", "f8e5m2 x f8e4m3fn -> f32"}, "f8e4m3fn"),
    ],
)  # fmt: skip
def test_every_matmul_of_the_layers_is_quantised(
    case: str, impl: str, forward: str, backward: set[str], gathered: str
) -> None:
    text = compiled(case, impl)

    counts: dict[str, dict[str, int]] = {"forward": {}, "recomputed": {}, "backward": {}}
    for entry in describing.quantized_matmuls(text, quantized):
        allowed = backward if entry["pass"] == "backward" else {forward}
        assert entry["operation"] in allowed, entry
        of_pass = counts[entry["pass"]]
        of_pass[entry["matmul"]] = of_pass.get(entry["matmul"], 0) + entry["count"]
    assert counts["forward"] == dict.fromkeys(quantized, LAYERS)
    # What wo gives is not needed again.
    assert counts["recomputed"] == dict.fromkeys(set(quantized) - {"wo"}, LAYERS)
    assert counts["backward"] == dict.fromkeys(quantized, 2 * LAYERS)

    travelling: dict[str, set[str]] = {name: set() for name in quantized}
    for collective in hlo.list_collectives(text):
        for name in quantized:
            if collective.kind == "all-gather" and f"['{name}']['kernel']" in collective.argument:
                travelling[name].add(collective.dtype)
    assert travelling == {name: {gathered} for name in quantized}
