"""MaxText's logs and MaxView's pages."""

import json
from typing import Any

import pytest
from documents import DATA, content, read

from harness import published
from harness.cases import reading
from harness.published.document import parse
from harness.records.record import Record, validate
from harness.terminal.errors import UserError

FIGURES: dict[str, Any] = json.loads((DATA / "published_figures.json").read_text())
GIB = 2**30
PAGES = ("maxview_03_dropout.txt", "maxview_04_int8.txt", "maxview_08_checkpoint_async_true.txt")


def records() -> list[Record]:
    return [record for name in PAGES for record in read(name).records]


RUNS = list(zip(records(), FIGURES["runs"], strict=True))


def test_run_ids_tell_case_implementation_and_what_else_differs() -> None:
    assert [record["run_id"] for record in records()] == [
        "published-03_dropout-linen-jax-0.9.2",
        "published-03_dropout-linen-jax-0.8.1",
        "published-04_int8-linen",
        "published-04_int8-nnx",
        "published-08_checkpoint_async_true-linen",
    ]


@pytest.mark.parametrize(("record", "expected"), RUNS)
def test_steps_equal_the_published_ones(record: Record, expected: dict[str, Any]) -> None:
    rates, tokens = (
        record["source"][f"{name}_per_device"] for name in ("tflops", "tokens_per_second")
    )
    assert [
        {
            "step": step["step"],
            "seconds": step["step_seconds"],
            "tflops_per_device": rate,
            "tokens_per_second_per_device": token,
            "total_weights": step["total_weights"],
            "loss": step["loss"],
        }
        for step, rate, token in zip(record["steps"], rates, tokens, strict=True)
    ] == expected["steps"]


@pytest.mark.parametrize(("record", "expected"), RUNS)
def test_what_else_the_logs_say(record: Record, expected: dict[str, Any]) -> None:
    validate(record)
    environment, memory = record["environment"], record["memory"]
    assert record["status"] == "imported"
    assert record["impl"] == expected["impl"]
    assert record["size"] == "full"
    assert record["case"]["name"] == expected["case"]
    assert record["case"]["hash"] is None
    assert environment["device_kind"] == "TPU v6 lite"
    assert environment["topology"] == f"v6e-{expected['chips']}"
    assert environment["device_count"] == expected["chips"]
    assert environment["process_count"] == expected["processes"]
    assert (environment["jax"], environment["orbax"]) == (expected["jax"], expected["orbax"])
    assert record["model"]["parameters"] == FIGURES["parameters"]
    for name, gib in expected["compiled_memory"].items():
        assert memory[name.replace("_gib", "_bytes")] == round(gib * GIB)
    assert memory["in_use_after_init_bytes"] == round(max(expected["bytes_in_use_gib"]) * GIB)


@pytest.mark.parametrize(("record", "expected"), RUNS)
def test_saves(record: Record, expected: dict[str, Any]) -> None:
    checkpoint, told = record["checkpoint"], expected["checkpoint"]
    saves = checkpoint["saves"]
    assert checkpoint["arrays"] == told["arrays"]
    assert [save["step"] for save in saves] == told["saved_steps"]
    waited = [save["waited_for_previous_seconds"] for save in saves]
    assert [round(value, 6) for value in waited[1:]] == told["wait_for_previous_save_seconds"]
    # Ours holds the wait, the log's does not.
    own = [save["blocking_seconds"] - wait for save, wait in zip(saves, waited, strict=True)]
    assert [round(value, 3) for value in own] == told["blocking_seconds"]
    assert all(save["background_seconds"] > 28 for save in saves)
    after = [step["step"] for step in record["steps"] if step["after_save"]]
    assert after == [step + 1 for step in told["saved_steps"] if step < 9]


@pytest.mark.parametrize(("record", "expected"), RUNS)
def test_the_configuration_is_ours_line_by_line(record: Record, expected: dict[str, Any]) -> None:
    ours = reading.flatten(reading.load(expected["case"]))
    theirs = record["case"]["config"]
    different = {key for key, value in theirs.items() if ours[key] != value}
    assert {"model.embed", "model.vocab", "data.sequence_length", "checkpoint.async"} <= set(theirs)
    # MaxText names the ten steps as the interval, we leave it out: the same saves.
    assert different <= {"checkpoint.period"}
    assert theirs["checkpoint.period"] in (5, 10)


def test_step_figures_are_ours_over_the_same_kind_of_steps() -> None:
    timing = records()[4]["timing"]
    # Of 0.116, 0.118, 0.119, (34.677 after a save), 0.006, 0.116, 0.119.
    assert timing["step_seconds"]["samples"] == 6
    assert timing["step_seconds"]["median"] == pytest.approx(0.117)
    assert timing["tokens_per_second_per_device"] == pytest.approx(2048 / 0.117)
    assert timing["tflops_per_device"] == pytest.approx(13.587129 / 0.117)
    assert timing["mfu_percent"] == pytest.approx(100 * 13.587129 / 0.117 / 918)
    assert records()[0]["timing"]["wall_seconds"] == 166


def test_impossible_rates_are_kept_and_flagged() -> None:
    record = records()[4]
    assert record["source"]["tflops_per_device"][7] == 2170.815
    flagged = [warning for warning in record["warnings"] if "above the peak" in warning]
    assert [warning.partition(" per device")[0] for warning in flagged] == [
        "step 2: 2055.2 TFLOP/s",
        "step 7: 2170.8 TFLOP/s",
    ]
    assert not [w for r in records()[:4] for w in r["warnings"] if "above the peak" in w]


@pytest.mark.parametrize("page", [0, 1])
def test_the_pages_table_is_recomputed(page: int) -> None:
    told = FIGURES["pages"][page]
    pair = read(PAGES[page]).records
    keys = {
        "Final loss": "final_loss",
        "TFLOP/s": "tflops",
        "Tok/s": "tokens_per_second",
        "Avg s/step": "avg_seconds_per_step",
        "Memory %": "memory_percent",
    }
    for place, record in enumerate(pair):
        figures = {entry["figure"]: entry for entry in record["source"]["figures"]}
        for name, key in keys.items():
            assert figures[name]["published"] == figures[name]["recomputed"] == told[key][place]
        assert not [warning for warning in record["warnings"] if "the page says" in warning]
    assert pair[1]["source"]["difference_from"] == pair[0]["run_id"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (0, [None, 0, -0.036, -5.779, 0.056, 0]),
        (1, [None, -0.001, 0.102, 15.347, -0.204, 0]),
    ],
)
def test_the_pages_differences_are_recomputed(page: int, expected: list[float | None]) -> None:
    figures = read(PAGES[page]).records[1]["source"]["figures"]
    assert [entry["published_difference"] for entry in figures] == expected
    assert [entry["recomputed_difference"] for entry in figures] == [0, *expected[1:]]


def test_why_the_figures_mislead() -> None:
    main, branch, linen, _, alone = (record["source"]["explanation"] for record in records())
    assert "mean of all steps but the first: 1.374 s, although the median of 7" in main
    assert "step 7 alone counts 9.671 s" in main
    assert "differ in JAX: 0.9.2 and 0.8.1" in branch
    assert "other weights (first losses 10.874 and 10.872)" in linen
    assert "step 6 alone counts 34.677 s" in alone


def test_a_figure_that_the_steps_do_not_give_is_told() -> None:
    pair = read(PAGES[1], ("Avg s/step3.6743.470", "Avg s/step3.6743.333")).records
    assert "the page says Avg s/step 3.333, its steps give 3.47" in pair[1]["warnings"]
    assert not [warning for warning in pair[0]["warnings"] if "the page says" in warning]


def test_a_bare_log_is_a_run_too() -> None:
    text = content(PAGES[1]).decode()
    log = text[text.index("XPK Start") : text.index("XPK End")]
    imported = published.read(parse("log.txt", log.encode()))
    assert imported.kind == "MaxText log"
    (record,) = imported.records
    assert record["run_id"] == "published-04_int8-linen"
    assert record["steps"] == read(PAGES[1]).records[0]["steps"]
    assert record["source"]["figures"] == []


def test_a_loss_that_is_not_finite_is_null_and_counted() -> None:
    (record,) = read(PAGES[2], ("loss: 5.622", "loss: nan")).records
    assert record["steps"][7]["loss"] is None
    assert record["nonfinite_steps"] == 1
    validate(record)


def test_shapes_that_belie_the_log_are_told() -> None:
    (record,) = read(PAGES[2], ("float32[32000,2048]", "float32[64000,2048]")).records
    assert any("the log says 1.104 billion parameters" in w for w in record["warnings"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("completed step: ", "competed step: "), "no completed step"),
        (("Jax Version: ", "Jacks Version: "), "no run on this MaxView page"),
    ],
)
def test_broken_pages_are_refused(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read(PAGES[2], change)


def test_a_page_that_lacks_a_run_of_its_table_is_refused() -> None:
    text = content(PAGES[1]).decode()
    half = text[: text.index("XPK End")]
    with pytest.raises(UserError, match="compares two runs, the number of logs below it is 1"):
        published.read(parse("page.txt", half.encode()))
