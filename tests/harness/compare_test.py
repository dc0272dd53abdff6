"""The command: what it prints, writes and returns, and that no input breaks it."""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from compared_records import Record, imported, in_turns, make, other, write

from harness import compare
from harness.records import record, sealing, sense
from harness.records.cautions import Caution
from harness.records.record import RecordError
from harness.terminal.errors import UserError

HOSTILE = (
    "\x1b[31m<script>alert(1)</script>\n| `x` **b** [a](javascript:b) @all #1 \u202e\0" + "y" * 9999
)


DOUBTFUL = "gate: not decided, the numbers do not show whether the two are one: see the verdict"
UNDECIDED = "gate: not decided, one run a side does not show speed: see the verdict"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    results = tmp_path / "results"
    write(results, make(0, run_id="base"))
    write(results, make(1, impl="nnx", run_id="twin"))
    write(results, other(2, run_id="slow", scale=1.2))
    for name, caution in (("begun", Caution.STARTED), ("apart", Caution.DIFFERING)):
        write(results, make(1, impl="nnx", run_id=name) | {"warnings": [caution.told(what="x")]})
    for made in in_turns(1.05, names=("quick-linen", "slower-nnx")):
        write(results, made)
    small = make(3, run_id="small") | {"size": "tiny"}
    small["case"]["hash"] = "e" * 64
    write(results, small)
    log = imported(seed=4) | {"run_id": "log"}
    write(results, log)
    return results


@pytest.fixture
def command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Runs the command: exit code and lines."""

    def run(*arguments: str | Path) -> tuple[int, list[str]]:
        code = compare.main([*map(str, arguments), "--results-dir", str(results)])
        return code, capsys.readouterr().out.splitlines()

    return run


def test_the_command_ends_with_a_verdict_per_area(
    command: Callable[..., tuple[int, list[str]]],
) -> None:
    code, lines = command("base", "twin")
    assert code == 0
    assert lines[:3] == [
        "03_dropout, full, 32 x TPU v6 lite: nnx against linen",
        "A: base, linen",
        "B: twin, nnx",
    ]
    areas = [line.split("  ")[0] for line in lines[-6:]]
    assert areas == ["numbers", "speed", "host dispatch", "memory", "program", "checkpoints"]
    assert "parameters           1,104,218,112  1,104,218,112      =" in lines
    assert max(map(len, lines)) < 140


def test_a_page_of_the_comparison_is_written(
    command: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    code, _ = command("base", "twin", "--page", tmp_path / "page.html")
    assert code == 0
    assert "nnx against linen" in (tmp_path / "page.html").read_text()
    with pytest.raises(UserError, match="there is no folder"):
        command("base", "twin", "--page", tmp_path / "none" / "page.html")


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (["base", "twin", "--gate"], 0, "gate: passed"),
        (["base", "begun", "--gate"], 3, DOUBTFUL),
        (["base", "apart", "--gate"], 1, "gate: failed, nnx is worse in numbers"),
        (["base", "slow", "--gate"], 3, UNDECIDED),
        (["slow", "base", "--gate"], 3, UNDECIDED),
        (["quick-linen", "slower-nnx", "--gate"], 1, "gate: failed, nnx is worse in speed"),
        (
            ["quick-linen", "slower-nnx", "--gate", "--max-slowdown-percent", "40"],
            0,
            "gate: passed; not known: host dispatch",
        ),
        (["base", "small", "--gate"], 3, "gate: failed, not comparable"),
        (["base", "log", "--gate"], 3, "gate: failed, not comparable"),
        (
            ["base", "log", "--gate", "--across", "case.hash"],
            3,
            UNDECIDED,
        ),
    ],
)
def test_the_gate(
    command: Callable[..., tuple[int, list[str]]], arguments: list[str], code: int, last: str
) -> None:
    found, lines = command(*arguments)
    assert (found, lines[-1]) == (code, last)
    assert command(*(one for one in arguments if one != "--gate"))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base"], "required: B"),
        (["base", "none"], r"'none': no such run"),
        (["base", "twin", "--across", "environment.jaxx"], r"nearest: environment.jax\)"),
        (["base", "twin", "--max-slowdown-percent", "-1"], "--max-slowdown-percent -1.0: must be"),
        (["base", "twin", "--max-loss-difference", "nan"], "--max-loss-difference nan: must be"),
        (["base", "twin", "--max-memory-percent", "x"], "invalid float value: 'x'"),
        (["base", "twin", "--json", "/no/such/folder/file"], "there is no folder /no/such/folder"),
        (["base", "twin", "--markdown", "/"], "/: Is a directory"),
    ],
)
def test_bad_input_is_one_line(
    command: Callable[..., tuple[int, list[str]]], arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        command(*arguments)


def test_the_exports(command: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("all.json", "page.md", "bench.json", "badge.svg")]
    command(
        *("quick-linen", "slower-nnx", "--json", files[0]),
        *("--markdown", files[1], "--benchmark", files[2], "--badge", files[3]),
    )
    everything = json.loads(files[0].read_text())
    assert (everything["a"], everything["b"]) == (["quick-linen"], ["slower-nnx"])
    assert (everything["comparable"], everything["regressed"]) == (True, True)
    assert everything["speed"]["ratio"]["direction"] == "higher"
    assert [one["area"] for one in everything["verdicts"]][:2] == ["numbers", "speed"]
    page = files[1].read_text().splitlines()
    assert page[0] == "### 03&#95;dropout, full, 32 x TPU v6 lite: nnx against linen"
    assert page[2].startswith("**the same numbers; not the same speed")
    assert "<details><summary>The figures</summary>" in page
    assert page.index("<details><summary>The figures</summary>") > page.index(
        "| | area | verdict |"
    )
    assert files[3].read_text().startswith("<svg ")
    slower = "| ▲ | speed | nnx is slower than linen: step time +"
    assert any(line.startswith(slower) for line in page)
    bench = json.loads(files[2].read_text())
    assert {entry["name"] for entry in bench} == {
        f"03_dropout nnx: {name}"
        for name in [
            *(
                "step",
                "step, in turns",
                "memory compiled for",
                "memory at peak",
                "compile",
                "first step",
            ),
            *("checkpoint stall", "host dispatch"),
        ]
    }
    for entry in bench:
        assert entry.keys() - {"range", "extra"} == {"name", "unit", "value"}
        assert isinstance(entry["value"], float)
    assert "range" not in bench[0]
    step = bench[1]
    assert step["unit"] == "s"
    assert step["range"].startswith("± ")
    assert re.fullmatch(r"baseline 0?\.?\d+(e-\d+)?.*, \+\d\.\d %", step["extra"])


def test_the_markdown_goes_to_the_terminal_instead_of_the_table(
    command: Callable[..., tuple[int, list[str]]],
) -> None:
    _, lines = command("base", "small", "--markdown", "-")
    assert lines[2] == "**Not comparable:**"
    assert lines[4:6] == [
        "- case.hash: cccccccccccc -> eeeeeeeeeeee",
        "",
    ] or any(line == "- size: full -&#62; tiny" for line in lines)


def test_two_tables_of_one_comparison_have_as_many_columns(
    command: Callable[..., tuple[int, list[str]]],
) -> None:
    _, lines = command("base", "twin", "--markdown", "-")
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {4, 5}


def hostile() -> Record:
    made = make(1, run_id="hostile")
    made["case"]["name"] = HOSTILE
    made["case"]["config"][f"model.{HOSTILE}"] = HOSTILE
    made["case"]["hash"] = "e" * 64
    made["environment"] |= {"jax": HOSTILE, "device_kind": HOSTILE, "hostname": HOSTILE}
    made["environment"]["xla_flags"] = HOSTILE * 100
    made["program"]["collectives"] = {HOSTILE: {"count": 1, "bytes": 6.25e9}}
    made["program"]["optimized_sha256"] = "f" * 64
    made["status"] = "failed"
    made["error"] = HOSTILE
    made["warnings"] = [HOSTILE]
    return made


@pytest.mark.parametrize("across", [(), ("environment.device_kind", "status", "case.hash")])
def test_hostile_text_is_inert(
    command: Callable[..., tuple[int, list[str]]], results: Path, across: tuple[str, ...]
) -> None:
    write(results, hostile())
    options = [option for key in across for option in ("--across", key)]
    for markdown in ([], ["--markdown", "-"]):
        for sides in (["base", "hostile"], ["hostile", "base"]):
            _, lines = command(*sides, *options, *markdown)
            assert all(line.isprintable() for line in lines)
            assert max(map(len, lines)) < 2500
            if markdown:
                text = "\n".join(lines)
                assert "<script" not in text
                assert "](" not in text
                assert "`" not in text
                assert not re.search(r"@all|#1\b(?!;)", text)


def test_hostile_text_is_inert_in_complaints(
    command: Callable[..., tuple[int, list[str]]], results: Path
) -> None:
    write(results / "odd", make(run_id="mild"))
    write(results / "odd", hostile() | {"status": "completed"})
    for references in (["base", f"{results}/odd"], ["99_no:nnx", "base"]):
        with pytest.raises(UserError, match=r"alert\(1\)") as caught:
            command(*references)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


def mutate(text: str, chance: random.Random) -> str | bytes:
    """A record file with one thing wrong, in one of many ways."""
    way = chance.choice(["cut", "flip", "remove", "retype", "number", "number", "number"])
    if way == "cut":
        return text[: chance.randrange(len(text))]
    if way == "flip":
        data = bytearray(text.encode())
        data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    content = json.loads(text)
    places = list(leaves(content))
    if way == "number":
        places = [(parent, key) for parent, key in places if type(parent[key]) in (int, float)]
    parent, key = chance.choice(places)
    if way == "remove":
        del parent[key]
    else:
        parent[key] = chance.choice(STRANGE if way == "retype" else NUMBERS)
    return json.dumps(content)


def leaves(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Where every value of a record stands, its lists and objects among them."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from leaves(tree[key])


STRANGE: list[Any] = [None, True, "", HOSTILE, "0" * 64, [], {}, [[]], {"a": {}}, -1, 0.5]
NUMBERS: list[Any] = [None, 0, 1, 10**18, 10**400, 1e308, 5e-324, 1e-300, 1e150, 2.5]


def test_two_thousand_mutated_records_raise_nothing_unforeseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sense, "contradiction", lambda record: None)
    chance = random.Random(7)
    made = make(0, run_id="good", seconds=[0.07] * 12)
    blocks = [{"first_step": 5 * number, "seconds_per_step": 0.07} for number in range(4)]
    made["turns"] = {"partner": "good", "order": "ABBA", "block_steps": 5, "blocks": blocks}
    made["checkpoint"]["digests"] = {"params/a": "float32[8]:1", "model_state/k": "uint32[2]:1"}
    good = write(tmp_path, made) / "record.json"
    content = json.loads(good.read_text())
    del content[sealing.SEAL]
    text = json.dumps(content, indent=1)
    bad = tmp_path / "bad.json"
    compared, refused = 0, []
    for number in range(2000):
        mutated = mutate(text, chance)
        bad.write_bytes(mutated if isinstance(mutated, bytes) else mutated.encode())
        sides = [str(good), str(bad)] if number % 2 else [str(bad), str(good)]
        outputs = ["--json", str(tmp_path / "out"), "--benchmark", str(tmp_path / "bench")]
        markdown = ["--markdown", "-"] if number % 3 else []
        try:
            compare.main([*sides, "--gate", *outputs, *markdown])
            compared += 1
            json.loads((tmp_path / "out").read_text(), parse_constant=pytest.fail)
        except (UserError, RecordError) as error:
            refused.append(str(error))
    assert all(line.isprintable() for line in [*refused, *capsys.readouterr().out.splitlines()])
    assert compared > 500
    assert len(refused) > 500


def test_the_schema_is_what_the_tests_made_up() -> None:
    for made in (make(), imported(), hostile()):
        record.validate(made)
