import json
from pathlib import Path

import pytest
from documents import DATA, read

from harness import ingest
from harness.records.record import validate
from harness.terminal.errors import UserError

NAME = "axlearn_config.txt"
PARAMETERS = 2_737_739_264
FIELD = DATA / "field"


def test_parameters_follow_from_the_dimensions() -> None:
    (record,) = read(NAME).records
    validate(record)
    assert record["run_id"].startswith("published-axlearn-2.74B-")
    assert record["status"] == "imported"
    assert record["model"]["parameters"] == PARAMETERS
    assert not [warning for warning in record["warnings"] if "without a class" in warning]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        # One layer fewer; one more vocabulary entry; a bias more per layer; one input fewer.
        (("num_layers: 26", "num_layers: 25"), -99_490_048),
        (("vocab_size: 49152", "vocab_size: 49153"), 3072),
        (("output_linear.bias: False", "output_linear.bias: True"), 26 * 3072),
        (("linear1.bias: False", "linear1.bias: True"), 26 * 2 * 8064),
        (("feed_forward.activation[1]", "feed_forward.deactivation[1]"), -26 * 3072 * 8064),
        (("model.dtype:", "model.decoder.lm_head.vocab_size: 49152\nmodel.dtype:"), 49152 * 3072),
        # Norms: of another class; two of each layer; none at the end.
        (("key_scale.norm.klass: 'axlearn.common.layers.RMSNorm'",
          "key_scale.norm.klass: 'axlearn.common.layers.LayerNorm'"), 26 * 128),
        (("feed_forward.structure: 'prenorm'", "feed_forward.structure: 'hybridnorm'"), 26 * 3072),
        (("model.decoder.output_norm.eps: 1e-05\nmodel.decoder.output_norm.forward_dtype: None\n"
          "model.decoder.output_norm.klass: 'axlearn.common.layers.RMSNorm'\n",
          "model.decoder.output_norm: None\n"), -3072),
    ],
)  # fmt: skip
def test_each_part_counts(change: tuple[str, str], difference: int) -> None:
    (record,) = read(NAME, change).records
    assert record["model"]["parameters"] == PARAMETERS + difference


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("19_axlearn_partition_spec", 98_624),
        ("20_axlearn_hidden_dim_scaled", 98_624),
        # A layer of 2 key heads and one of 8 experts, three times; two tables and a norm.
        ("50_axlearn_experts_every_other_layer", 3 * (7_232 + 16_704) + 2 * 3_200 + 32),
        # In each of 4 layers: attention of one key head with biases, sinks and norms of heads; a
        # hidden size of round(2.7 * 32) and two norms; an RMSNorm, a LayerNorm and a gate. A table,
        # 16 learned positions and a norm.
        ("51_axlearn_hybrid_norms", 4 * (5_284 + 5_750 + 97) + 3_200 + 16 * 32 + 2 * 32),
    ],
)
def test_what_people_have_is_counted(name: str, parameters: int) -> None:
    (record,) = read(f"field/{name}.txt").records
    validate(record)
    assert record["model"]["parameters"] == parameters
    assert any("layers without a class" in warning for warning in record["warnings"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("52_axlearn_vision", "the model is a vision model, axlearn.vision.image_classification."
         "ImageClassificationModel: no decoder of text alone"),
        ("53_axlearn_speech", "the model is a speech model, axlearn.audio.model_asr.ASRModel: no "
         "decoder of text alone"),
        ("54_axlearn_unknown_layer", "model.decoder.transformer.layer.feed_forward.linear1 is a "
         "LoraLinear, which is not known here"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_counted(name: str, reason: str) -> None:
    (record,) = read(f"field/{name}.txt").records
    validate(record)
    assert record["model"]["parameters"] is None
    assert record["run_id"].startswith("published-axlearn-uncounted-")
    assert f"parameters not counted: {reason}" in record["warnings"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # A layer of AXLearn's where no rule expects one; sizes and a bias outside every layer.
        (("decoder.vocab_size", "decoder.adapter.klass: 'axlearn.common.layers.Linear'\n"
          "model.decoder.vocab_size"), "model.decoder.adapter.klass is part of no layer"),
        (("decoder.vocab_size", "decoder.extra.num_heads: 2\nmodel.decoder.vocab_size"),
         "model.decoder.extra.num_heads is part of no layer"),
        (("decoder.vocab_size", "decoder.extra.bias: True\nmodel.decoder.vocab_size"),
         "model.decoder.extra.bias is part of no layer"),
        # Another maker's layer of the same name, a class whose name is not taken over.
        (("output_norm.klass: 'axlearn.common", "output_norm.klass: 'elsewhere"),
         "model.decoder.output_norm is a elsewhere.layers.RMSNorm"),
        (("output_norm.klass: 'axlearn.common", "output_norm.klass: '/elsewhere"),
         "model.decoder.output_norm is a (not taken over)"),
        (("hidden_dim: 8064", "hidden_dim.fn: 'axlearn.common.unknown'"),
         "feed_forward.hidden_dim is computed by a function that is not known here"),
        (("feed_forward.structure: 'prenorm'", "feed_forward.structure: 'sandwich'"),
         "feed_forward.structure is not known here"),
        (("feed_forward.structure: 'prenorm'", "feed_forward.structure: '/home/somebody'"),
         "feed_forward.structure is not known here"),
        (("decoder.dim: 3072", "decoder.dimension: 3072"), "model.decoder.dim is not told"),
        (("attention.num_heads: 24", "attention.num_heads: 25"), "is not a multiple of 25 heads"),
    ],
)  # fmt: skip
def test_nothing_is_guessed(change: tuple[str, str], reason: str) -> None:
    (record,) = read(NAME, change).records
    assert record["model"]["parameters"] is None
    assert any(
        warning.startswith("parameters not counted: ") and reason in warning
        for warning in record["warnings"]
    )


def test_two_files_of_one_size_are_both_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("23a_axlearn_same_size", "23b_axlearn_same_size"):
        assert ingest.main([str(FIELD / f"{name}.txt"), "--results-dir", str(tmp_path)]) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
    assert [record["model"]["parameters"] for record in records] == [98_624, 98_624]
    assert {record["case"]["config"]["max_step"] for record in records} == {100, 200}
    assert "98,624" in capsys.readouterr().out


def test_the_configuration_is_kept_flat() -> None:
    flat = read(NAME).records[0]["case"]["config"]
    assert flat["learner.optimizer.inner.weight_decay"] == 0.000316
    assert flat["model.decoder.transformer.layer.self_attention.attention.causal"] is True
    assert flat["klass"] == "axlearn.common.trainer.SpmdTrainer"
    assert flat["mesh_rules[0][0]"] == "tpu-v4-256"
    policy = "model.decoder.transformer.layer.remat_spec['policy']"
    assert flat[f"{policy}.names_which_can_be_saved"] == ".*([qkvo]_proj|context)"


def test_values_and_paths_of_every_kind_are_kept() -> None:
    flat = read("field/19_axlearn_partition_spec.txt").records[0]["case"]["config"]
    axes = "PartitionSpec(('data', 'expert', 'fsdp'),)"
    assert flat["input.input_partitioner.path_rank_to_partition[(None, 1)]"] == axes
    assert flat["evalers['train'].input.input_dispatcher.partition_spec"] == axes
    flat = read("field/51_axlearn_hybrid_norms.txt").records[0]["case"]["config"]
    assert flat["mesh_rules[0][1].ici_mesh_shape"] == "Shape.ALL"
    norms = "model.decoder.transformer.layer.self_attention.norm"
    assert flat[f"{norms}[<NormPosition.OUT_NORM: 'out_norm'>].klass"].endswith("LayerNorm")


def test_its_settings_face_ours() -> None:
    table = table_of(NAME)
    assert table["model.embed"] == ["2048", "3072", "different"]
    assert table["model.kv_heads"] == ["16", "8", "different"]
    assert table["model.head_dim"] == ["128", "128", "equal"]
    assert table["model.norm_epsilon"] == ["1e-05", "1e-05", "equal"]
    assert table["model.rope_timescale"] == ["10000", "500000", "different"]


def test_computed_sizes_face_ours() -> None:
    table = table_of("field/20_axlearn_hidden_dim_scaled.txt")
    assert table["model.mlp"] == ["7168", "128", "different"]
    assert "model.mlp" not in table_of("field/50_axlearn_experts_every_other_layer.txt")
    assert "model.embed" not in table_of("field/53_axlearn_speech.txt")


def table_of(name: str) -> dict[str, list[str]]:
    """Ours, theirs and the verdict, of each setting that both have."""
    return {line.split()[0]: line.split()[1:] for line in read(name).findings if "  " in line}


def test_texts_that_are_no_settings_stay_out() -> None:
    (record,) = read(NAME, ("mesh_shape[0]", "mesh_shape['/home/somebody']")).records
    flat = record["case"]["config"]
    assert flat["input.source.dataset_name"] is None  # an address in a bucket
    assert flat["input.source.tfds_data_dir"] is None  # no setting we know
    warnings = record["warnings"]
    assert "2 settings with texts that are not taken over: null in case.config" in warnings
    assert "1 setting with texts in the path that are not taken over: left out" in warnings
    assert "somebody" not in json.dumps(record)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("dim: 3072", "dim: -1"), "model.decoder.dim=-1: must be a positive number"),
        (("num_heads: 24", "num_heads: 2.5"), "num_heads=2.5: must be a positive number"),
        (("linear1.bias: False", "linear1.bias: 1"), "linear1.bias=1: must be True or False"),
        (("dim: 3072", "dim: 30720000000000000000"), "model.decoder.dim=.*: must be a positive"),
        (("max_step: 750000\nmesh", "max_step: 7 apples\nmesh"), "must be a number"),
        (("name: 'gpt_trainer'", "name: 'gpt_trai"), "a text in quotes"),
        (("mesh_shape[0]", "mesh_shape[0"), "line [0-9]+: must be `dotted.path: value`"),
        (("klass: 'axlearn.common.trainer", "hello 'axlearn.common.trainer"), "line [0-9]+: must"),
        (("max_step: 750000\nmesh", "name: 1\nmesh"), "name is given twice"),
        (("max_step: 750000\nmesh", "name.first: 1\nmesh"), "name is given twice"),
    ],
)
def test_broken_configurations_are_refused(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read(NAME, change)


@pytest.mark.parametrize("last", ["model.decoder.transformer.num_layers", "mesh_shape[5]", "klass"])
def test_a_text_that_ends_before_its_model_does_is_refused(last: str) -> None:
    text = (DATA / NAME).read_text()
    rest = text[text.index("\n", text.index(f"\n{last}: ") + 1) :]
    with pytest.raises(UserError, match="ends before its model does: cut short"):
        read(NAME, (rest, ""))


def test_what_follows_the_model_may_be_missing() -> None:
    text = (DATA / NAME).read_text()
    rest = text[text.index("\nmodel.dtype") :]
    (record,) = read(NAME, (rest, "\n")).records
    assert record["model"]["parameters"] == PARAMETERS
