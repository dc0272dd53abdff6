"""What a record tells of a pipeline: its order, what a stage holds, and how much of it is idle."""

import math
import re

import jax

from harness import hlo
from harness.cases.settings import Case
from harness.records.cautions import Caution
from harness.records.recorder import Recorder
from harness.training import accounting
from harness.training.parallel import pipeline
from harness.training.train_step import Trainer


def describe(case: Case, trainer: Trainer, recorder: Recorder) -> None:
    """Notes the pipeline of a trainer, if its mesh has stages; warns of settings without a use."""
    mesh, params = trainer.grid.mesh, trainer.state["params"]
    if not pipeline.has_stages(case, mesh):
        for key, value in vars(case.pipeline).items():
            if value is not None:
                why = "the model lies on one stage"
                recorder.warn(Caution.UNUSED, key=f"pipeline.{key}", value=value, why=why)
        return
    remat = getattr(case.model, "remat", "full")
    if remat != "full":
        why = "a stage keeps what enters a layer and computes the rest again"
        recorder.warn(Caution.UNUSED, key="model.remat", value=remat, why=why)
    schedule, _ = pipeline.planned(case, params, mesh)
    sequences = trainer.inputs.batch["targets"].shape[-2] // trainer.grid.batch_parts
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    state_bytes = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(trainer.state)
    )
    held = {
        "parameters_per_device": accounting.parameters_per_device(params, shardings),
        "state_bytes": state_bytes,
    }
    recorder.set(
        pipeline={
            "schedule": "1f1b",
            "stages": schedule.stages,
            "repeats": schedule.repeats,
            "microbatches": schedule.microbatches,
            "microbatch": sequences,
            "group": schedule.group,
            "ticks": schedule.ticks._asdict(),
            "bubble_percent": {
                "predicted": schedule.bubble_percent,
                "compiled": None,
                "measured": None,
            },
            "per_stage": [
                {
                    "layers": list(
                        range(number, schedule.stages * schedule.repeats, schedule.stages)
                    ),
                    **held,
                    "inputs_kept": schedule.inputs_kept(number),
                    "order": " ".join(map(str, schedule.order(number))),
                }
                for number in range(schedule.stages)
            ],
        }
    )
    recorder.warn(Caution.NO_BUBBLE)


def note_compiled(program: hlo.Program, recorder: Recorder) -> None:
    """Notes how much of a step's estimated cycles are a stage's idle ticks, where there are any."""
    told = recorder.record.get("pipeline")
    if told is not None:
        told["bubble_percent"]["compiled"] = _bubble_percent(program, told["stages"], told["ticks"])


def _bubble_percent(program: hlo.Program, stages: int, ticks: dict[str, int]) -> float | None:
    """Every stage is idle in one warm and one cool tick for each other stage."""
    cycles = dict.fromkeys(ticks, 0)
    for one in hlo.list_cycles(program):
        found = re.search(rf"/({'|'.join(ticks)})/while/", one.instruction.op_name)
        if found:
            cycles[found[1]] += one.total
    if not all(cycles.values()):
        return None
    idle = (stages - 1) * sum(cycles[phase] / ticks[phase] for phase in ("warm", "cool"))
    return 100 * idle / sum(cycles.values())
