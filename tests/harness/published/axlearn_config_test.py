import pytest
from documents import read

from harness.errors import UserError
from harness.records.record import validate

NAME = "axlearn_config.txt"


def test_parameters_follow_from_the_dimensions() -> None:
    (record,) = read(NAME).records
    validate(record)
    assert record["run_id"] == "published-axlearn-2.74B"
    assert record["status"] == "imported"
    assert record["model"]["parameters"] == 2_737_739_264


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        # One layer fewer; one more vocabulary entry; a head norm less; a bias more per layer.
        (("num_layers: 26", "num_layers: 25"), -99_490_048),
        (("vocab_size: 49152", "vocab_size: 49153"), 3072),
        (("attention.key_scale.norm.klass", "attention.key_scale.norm.class"), -26 * 128),
        (("output_linear.bias: False", "output_linear.bias: True"), 26 * 3072),
        (("feed_forward.activation[1]", "feed_forward.deactivation[1]"), -26 * 3072 * 8064),
        (("model.dtype:", "model.decoder.lm_head.klass: None\nmodel.dtype:"), 49152 * 3072),
    ],
)
def test_each_part_counts(change: tuple[str, str], difference: int) -> None:
    (record,) = read(NAME, change).records
    assert record["model"]["parameters"] == 2_737_739_264 + difference


def test_the_configuration_is_kept_flat() -> None:
    flat = read(NAME).records[0]["case"]["config"]
    assert flat["learner.optimizer.inner.weight_decay"] == 0.000316
    assert flat["model.decoder.transformer.layer.self_attention.attention.causal"] is True
    assert flat["klass"] == "axlearn.common.trainer.SpmdTrainer"
    assert flat["mesh_rules[0][0]"] == "tpu-v4-256"
    policy = "model.decoder.transformer.layer.remat_spec['policy']"
    assert flat[f"{policy}.names_which_can_be_saved"] == ".*([qkvo]_proj|context)"


def test_its_settings_face_ours() -> None:
    findings = read(NAME).findings
    table = {line.split()[0]: line.split()[1:] for line in findings if line.startswith("model.")}
    assert table["model.embed"] == ["2048", "3072", "different"]
    assert table["model.kv_heads"] == ["16", "8", "different"]
    assert table["model.head_dim"] == ["128", "128", "equal"]
    assert table["model.norm_epsilon"] == ["1e-05", "1e-05", "equal"]
    assert table["model.rope_timescale"] == ["10000", "500000", "different"]


def test_texts_that_are_no_settings_stay_out() -> None:
    (record,) = read(NAME).records
    flat = record["case"]["config"]
    assert flat["input.source.dataset_name"] is None  # an address in a bucket
    assert flat["input.source.tfds_data_dir"] is None  # no setting we know
    assert (
        "2 settings hold texts that are not taken over: null in case.config" in record["warnings"]
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("train_dtype: ", "train_type: "), "no line 'train_dtype': cut short"),
        (("dim: 3072", "dim: -1"), "model.decoder.dim=-1: must be a positive number"),
        (("max_step: 750000\nmesh", "max_step: 7 apples\nmesh"), "must be a number"),
        (("name: 'gpt_trainer'", "name: 'gpt_trai"), "a text in quotes, whole"),
        (("klass: 'axlearn.common.trainer", "hello 'axlearn.common.trainer"), "line [0-9]+: must"),
        (("max_step: 750000\nmesh", "name: 1\nmesh"), "name is given twice"),
    ],
)
def test_broken_configurations_are_refused(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read(NAME, change)
