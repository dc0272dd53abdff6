"""A comparison for readers."""

import json
from dataclasses import replace

from compared_records import CONFIG, changed, imported, in_turns, make

from harness.comparing import comparison, comparison_text
from harness.comparing.comparability import Difference
from harness.records.cautions import Caution


def test_what_is_unknown_is_never_zero() -> None:
    shown = comparison_text.terminal(comparison.compare([imported()], [imported()]))
    assert " 0 " not in shown
    assert CONFIG.keys().isdisjoint(shown.split())


def test_a_terminal_is_told_the_runs_what_differs_the_figures_and_the_verdicts() -> None:
    other = changed("environment.jax", "0.9.2", run_id="other") | {"impl": "nnx"}
    lines = comparison_text.terminal(comparison.compare([make(run_id="one")], [other])).split("\n")
    assert lines[0] == "03_dropout, full, 32 x TPU v6 lite: nnx against linen"
    assert lines[1:3] == ["A: one, linen", "B: other, nnx"]
    assert "differs: environment.jax: 0.10.2 -> 0.9.2" in lines
    assert any(line.startswith("final loss ") and line.endswith(" =") for line in lines)
    assert [line.split("  ")[0] for line in lines[-8:] if line[0] != " "] == [
        *("answer", "numbers", "speed", "host dispatch", "memory", "program", "checkpoints"),
    ]


def test_the_answer_and_what_it_says_nothing_of_are_lines_of_their_own() -> None:
    told = [Caution.NOT_COMPARED.told(what=f"{what} " * 12) for what in ("this", "that")]
    b = make(impl="nnx") | {"warnings": told}
    found = comparison.compare([make()], [b])
    shown = comparison_text.terminal(found)
    lines = shown[shown.index("answer ") :].split("\n")
    assert lines[0] == "answer         the same where compared"
    assert [line[:19] for line in lines[1:3]] == ["not compared   this", "not compared   that"]
    assert lines[3].startswith("numbers ")
    shown = comparison_text.markdown(found)
    assert "\n- not compared: this this" in shown


def test_a_long_verdict_is_broken_after_its_parts() -> None:
    b = make(impl="nnx")
    for step in b["steps"]:
        step |= {"loss": step["loss"] + 0.125, "grad_norm": step["grad_norm"] + 0.25}
    b["checkpoint"]["digest"] = "e" * 64
    lines = comparison_text.terminal(comparison.compare([make()], [b])).split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("numbers "))
    assert lines[at].endswith(";")
    assert lines[at + 1].startswith(" " * 15 + "gradient norms part at step 0")
    assert max(map(len, lines[at:])) < 121


def test_a_long_list_of_differences_is_cut_and_says_so() -> None:
    found = comparison.compare([make()], [make()])
    many = tuple(Difference(f"environment.k{n}", 1, 2, "mild") for n in range(20))
    unknown = tuple(
        Difference(f"case.config.k{n}", None, 1, "mild", unknown="A") for n in range(20)
    )
    shown = comparison_text.terminal(replace(found, differences=(*many, *unknown)))
    assert shown.count("differs: environment") == 12
    assert "differs: 8 more (--json has all)" in shown
    assert "not told by A: 20 settings" in shown


def test_markdown_shows_every_text_as_it_is() -> None:
    hostile = changed("case.name", "<b>|`x`@y") | {"run_id": "a_b*"}
    shown = comparison_text.markdown(comparison.compare([hostile], [make()]))
    for character in "<|`@":
        assert f"x{character}" not in shown.replace("|---", "")
    assert "&#60;b&#62;&#124;&#96;x&#96;&#64;y" in shown
    assert "a&#95;b&#42;" in shown
    assert "| = | numbers |" in shown


def test_json_has_everything_and_null_where_there_is_no_number() -> None:
    other = make(run_id="other")
    other["steps"][4]["loss"] = None
    content = json.loads(comparison_text.as_json(comparison.compare([make(run_id="one")], [other])))
    assert (content["a"], content["b"]) == (["one"], ["other"])
    assert (content["comparable"], content["regressed"]) == (True, True)
    assert content["parity"]["loss"]["largest"] is None  # infinite
    assert {row["name"] for row in content["rows"]} >= {"step", "MFU"}


def test_a_chart_of_benchmarks_takes_what_is_better_when_it_is_smaller() -> None:
    a, b = in_turns(1.2)
    entries = {
        entry["name"]: entry
        for entry in json.loads(comparison_text.benchmark(comparison.compare([a], [b])))
    }
    assert "range" not in entries["03_dropout nnx: step"]  # of one run a side
    step = entries["03_dropout nnx: step, in turns"]
    assert step["unit"] == "s"
    assert step["extra"].startswith("baseline ")
    assert step["range"].startswith("± ")
    assert not any("tokens/s" in name for name in entries)


def test_of_one_run_a_side_beside_turns_no_ratio_is_shown() -> None:
    a, b = in_turns(1.2)
    shown = comparison_text.terminal(comparison.compare([a], [b]))
    cells = {line.split("  ")[0]: line.split("  ")[1:] for line in shown.split("\n")}
    assert [*filter(None, cells["step, in turns, s"])][-1].endswith(")")
    assert "step, in turns: medians; the ratio is that of blocks run beside each other" in shown
    assert len([*filter(None, cells["step, s"])]) == 2
