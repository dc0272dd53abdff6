import jax
import pytest

from harness import hlo
from harness.cases import reading
from harness.records.record import blank, validate
from harness.records.recorder import Recorder
from harness.training import pipeline_figures, train_step
from harness.training.parallel import mesh

ON_STAGES = ("parallel.fsdp=1", "parallel.stage=4", "parallel.tensor=2", "pipeline.group=4")


def described(name: str = "30_pipeline", overrides: tuple[str, ...] = ON_STAGES) -> Recorder:
    case = reading.load(name, "tiny", overrides)
    trainer = train_step.make_trainer(case, "linen", mesh.make(case, jax.devices()))
    recorder = Recorder(blank("run", "preflight"))
    pipeline_figures.describe(case, trainer, recorder)
    validate(recorder.record)
    return recorder


def test_a_pipeline_is_on_record() -> None:
    told = described().record["pipeline"]
    assert (told["stages"], told["repeats"], told["microbatches"], told["group"]) == (4, 2, 8, 4)
    assert told["ticks"] == {"warm": 7, "steady": 12, "cool": 7}
    assert told["bubble_percent"] == {
        "predicted": pytest.approx(100 * 3 / 19),
        "compiled": None,
        "measured": None,
    }
    last = told["per_stage"][3]
    assert last["layers"] == [3, 7]
    assert last["order"].split()[:7] == ["F0.0", "F1.0", "F2.0", "F3.0", "F0.1", "B0.1", "F1.1"]
    assert [one["inputs_kept"] for one in told["per_stage"]] == [11, 9, 7, 5]


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (
            ("parallel.stage=1", "parallel.fsdp=-1", "parallel.data=1", "pipeline.group=4"),
            "pipeline.group=4: not used, as the model lies on one stage",
        ),
        ((*ON_STAGES, "model.remat=none"), "model.remat=none: not used, as a stage keeps what"),
    ],
)
def test_a_setting_without_a_use_is_told(overrides: tuple[str, ...], warning: str) -> None:
    warnings = described(overrides=overrides).record["warnings"]
    assert any(one.startswith(warning) for one in warnings), warnings


def operation(name: str, scope: str, cycles: int) -> str:
    return (
        f'  {name} = s32[] copy(p), metadata={{op_name="jit(step)/shard_map/{scope}/add"}},'
        f' backend_config={{"estimated_cycles":"{cycles}"}}\n'
    )


def test_the_bubble_is_the_share_of_idle_ticks_in_the_compilers_estimates() -> None:
    recorder = described()
    outside = "warm", 10_000  # before the loop
    program = (
        "HloModule step\n\nENTRY main (p: s32[]) -> s32[] {\n  p = s32[] parameter(0)\n"
        + operation("a", "warm/while/body", 70)
        + operation("b", "steady/while/body", 360)
        + operation("c", "cool/while/body", 140)
        + operation("d", *outside)
        + "  ROOT r = s32[] copy(p)\n}\n"
    )
    pipeline_figures.note_compiled(hlo.parse(program), recorder)
    # Idle are three warm ticks of 10 and three cool ones of 20, of 570 in all.
    compiled = recorder.record["pipeline"]["bubble_percent"]["compiled"]
    assert compiled == pytest.approx(100 * 90 / 570)


def test_a_program_without_estimates_and_a_case_without_stages_tell_nothing() -> None:
    recorder = described()
    program = (
        "HloModule step\n\nENTRY main (p: s32[]) -> s32[] {\n  ROOT p = s32[] parameter(0)\n}\n"
    )
    pipeline_figures.note_compiled(hlo.parse(program), recorder)
    assert recorder.record["pipeline"]["bubble_percent"]["compiled"] is None
    assert "pipeline" not in described("01_baseline", ()).record
