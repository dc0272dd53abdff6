import pytest
from documents import read

from harness.published import megatron_counts
from harness.records.record import validate
from harness.terminal.errors import UserError

NAME = "megatron_log.txt"


def test_parameters_and_memory_of_every_rank() -> None:
    (record,) = read(NAME).records
    validate(record)
    ranks = record["source"]["ranks"]
    assert [rank["rank"] for rank in ranks] == list(range(8))
    expected = [156_577_792] * 2 + [100_741_120] * 4 + [152_387_584] * 2
    assert [rank["parameters"] for rank in ranks] == expected
    assert [rank["parameters_recomputed"] for rank in ranks] == expected
    assert record["model"]["parameters"] == 913_215_488
    assert record["model"]["parameters_per_device"] == 156_577_792
    assert ranks[6]["max_allocated_bytes"] == round(6713.7314453125 * 2**20)
    assert ranks[1]["reserved_bytes"] == 8178 * 2**20
    assert record["memory"]["peak_in_use_bytes"] == round(7706.13916015625 * 2**20)


def test_the_estimates_of_the_log_are_recomputed() -> None:
    figures = read(NAME).records[0]["source"]["figures"]
    assert len(figures) == 6
    for entry in figures:
        assert entry["published"] == entry["recomputed"]
    assert figures[-1]["published"] == 2614.79


def test_an_estimate_that_the_arguments_do_not_give_is_told() -> None:
    imported = read(NAME, ("optimizer=2614.79", "optimizer=2614.78"))
    line = "weight and optimizer: the log says 2614.78, recomputed 2614.79: different"
    assert any(finding.endswith(line) for finding in imported.findings)
    assert any(warning.endswith(line) for warning in imported.records[0]["warnings"])


def test_counts_of_other_arguments() -> None:
    """Against sums written out by hand for a model of two layers."""
    arguments = {
        "num_layers": 2, "hidden_size": 8, "ffn_hidden_size": 16, "num_attention_heads": 4,
        "kv_channels": 2, "num_query_groups": 2, "group_query_attention": True, "swiglu": True,
        "normalization": "RMSNorm", "position_embedding_type": "rope", "add_bias_linear": False,
        "untie_embeddings_and_output_weights": True, "use_distributed_optimizer": True,
        "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1,
        "data_parallel_size": 4,
    }  # fmt: skip
    layer = 8 * (8 + 2 * 4) + 8 * 8 + 8 * 2 * 16 + 16 * 8 + 2 * 8
    assert megatron_counts.why_not_counted(arguments, (), 10) is None
    assert megatron_counts.total_parameters(arguments, 10) == 2 * layer + 2 * 10 * 8 + 8
    theory = megatron_counts.theory(arguments, 10)
    largest = theory["Number of parameters in most loaded shard in billions"] * 1e9
    footprint = theory["Theoretical memory footprints: weight and optimizer"]
    assert footprint == pytest.approx(largest * 9 / 2**20)
    without = {**arguments, "num_experts": 8}
    assert megatron_counts.why_not_counted(without, (), 10) == "the model is a mixture of experts"


def test_skipped_iterations_and_steps() -> None:
    (record,) = read(NAME).records
    source = record["source"]
    assert (source["skipped_iterations"], source["nan_iterations"]) == (1, 0)
    assert source["loss_scale"] == 2**32
    (step,) = record["steps"]
    assert (step["step"], step["step_seconds"], step["loss"]) == (0, 4.4932, None)
    assert step["learning_rate"] == 0


def test_iteration_one_follows_the_schedule_and_iteration_two_names_where_peers_part() -> None:
    imported = read(NAME)
    first, second = imported.records[0]["source"]["schedule"]
    assert (first["iteration"], first["complete"]) == (1, True)
    assert (first["events"], first["checked"], first["mismatches"]) == (256, 256, 0)
    assert first["disagreement"] is None
    assert first["orders"]["6"].startswith("F0 F1 F2 F3 F16 F17 F18 F19 F4")
    assert first["orders"]["6"] == first["orders"]["7"]
    assert (second["iteration"], second["complete"], second["events"]) == (2, False, 132)
    assert second["disagreement"] == (
        "operation 33: rank 6 runs forward 28, its tensor-parallel peer rank 7 runs backward 4; "
        "the schedule has forward 28"
    )
    assert "iteration 1: 256 events, 0 mismatches" in imported.findings


def test_a_swap_in_iteration_one_is_found() -> None:
    swap = ("rank 6 forward finished tensor 1\n", "rank 6 forward finished tensor 2\n")
    first, _ = read(NAME, swap).records[0]["source"]["schedule"]
    assert first["mismatches"] == 1
    assert first["first_mismatch"] == (
        "event 4 of rank 6 is forward 2 finished, the schedule has forward 1 finished"
    )


def test_only_known_arguments_are_taken() -> None:
    arguments = read(NAME).records[0]["case"]["config"]
    assert arguments["ffn_hidden_size"] == 8192
    assert arguments["normalization"] == "LayerNorm"
    assert not {"load", "node_ips", "wandb_exp_name"} & set(arguments)


def test_a_word_that_no_argument_may_be_is_not_taken() -> None:
    change = ("... cosine\n", "... somebody\n")
    assert "lr_decay_style" not in read(NAME, change).records[0]["case"]["config"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("end of arguments", "end of quarrels"), "has no end"),
        (("iteration        1/", "iterating        1/"), "no iteration finished"),
        (
            ("num_layers ...................................... 16", "num_layers ... -16"),
            "argument num_layers: must be a positive number",
        ),
        (("................ 8\n", "................ 7\n"), "world_size is not a multiple"),
    ],
)
def test_broken_logs_are_refused(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read(NAME, change)
