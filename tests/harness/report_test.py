"""The pages of a report: whole, true to the records, and unmoved by what these hold."""

import base64
import copy
import hashlib
import html
import json
import random
import re
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import run_folders
from compared_records import Record, make, sensible, write
from report_site import PREFLIGHT, PUBLISHED, Page, pages, run, twins_in_turns, write_results

from harness import report
from harness.cases.reading import case_names
from harness.comparing import comparison
from harness.records import figures, record, sense
from harness.terminal.text import percent

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)' x='",
    '" style="background:url(//example.org)" x="',
    "{{ 7 * 7 }}{% raw %}",
    "\x00\x07\x1b[31mred\x1b[0m\u202egnol\u2028",
    "\ud800 half",
    "../../../etc/passwd",
]


def build(*results: Path, output: Path) -> dict[str, Page]:
    assert report.main([*map(str, results), "--output", str(output)]) == 0
    return pages(output)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("report")
    write_results(folder / "results")
    return build(folder / "results", PUBLISHED, PREFLIGHT, output=folder / "site")


def page_of(site: dict[str, Page], start: str) -> Page:
    (page,) = [page for path, page in site.items() if path.startswith(start)]
    return page


def assert_whole(site: dict[str, Page]) -> None:
    """Every link leads to a page, and to a place in it, of this report; nothing else is named."""
    folder = next(iter(site.values())).path.parent
    while not (folder / ".harness-report").exists():
        folder = folder.parent
    by_path = {page.path.resolve(): page for page in site.values()}
    for path, page in site.items():
        for link in page.links():
            place, _, anchor = link.partition("#")
            target = (page.path.parent / place).resolve() if place else page.path.resolve()
            assert target.is_relative_to(folder.resolve()), (path, link)
            assert target in by_path, (path, link)
            assert not anchor or anchor in by_path[target].ids(), (path, link)
        ids = page.ids()
        assert len(ids) == len(set(ids)), path
        for tag, attributes in page.elements:
            assert tag not in ("img", "iframe", "object", "embed", "form", "base"), (path, tag)
            assert "src" not in attributes, (path, tag)
            assert not [name for name in attributes if name.startswith("on")], (path, attributes)
            assert "style" not in attributes, (path, attributes)
            if tag == "link":
                assert attributes == {"rel": "icon", "href": "data:,"}
        for style in page.styles:
            assert "url(" not in style
            assert "@import" not in style


def test_every_link_leads_somewhere_in_the_report_and_no_network_is_asked(
    site: dict[str, Page],
) -> None:
    published = len(list(PUBLISHED.glob("*/record.json")))
    lists = PREFLIGHT.rglob("records.json")
    compiled = [one for path in lists for one in json.loads(path.read_text())]
    programs = len({one["case"]["name"] for one in compiled})
    assert len(site) == 4 + len(case_names()) + 1 + 4 + published + len(compiled) + programs
    assert_whole(site)


def test_the_policy_allows_the_inlined_scripts_and_nothing_else(site: dict[str, Page]) -> None:
    for page in site.values():
        (policy,) = [
            attributes["content"]
            for tag, attributes in page.elements
            if attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        executed = [content for kind, content in page.scripts if kind is None]
        for content in [*executed, *page.styles]:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy


def test_the_figures_on_a_page_are_those_of_the_record(site: dict[str, Page]) -> None:
    _, made = twins_in_turns()
    page = page_of(site, "runs/a-nnx-")
    for section in ("timing", "memory", "model"):
        for key, value in made[section].items():
            if isinstance(value, int | float):
                assert float(value) in page.figures, (section, key)
    for value in made["timing"]["step_seconds"].values():
        assert float(value) in page.figures
    for entry in made["steps"]:
        assert f"<td>{entry['loss']:.9g}<td>" in page.source
        assert f"<td>{entry['step_seconds']:.9g}<td>" in page.source
    for key in made["case"]["config"]:
        assert key in page.text


def test_a_case_page_says_what_the_comparison_says(site: dict[str, Page]) -> None:
    a, b = twins_in_turns()
    compared = comparison.compare([a], [b])
    page = page_of(site, "cases/03_dropout-")
    assert compared.verdicts
    for verdict in compared.verdicts:
        assert html.escape(verdict.words).replace("&#x27;", "&#39;") in page.source
    for row in compared.rows:
        for value in (row.a, row.b, row.ratio):
            assert not isinstance(value, float) or value in page.figures or row.a == row.b


def test_only_a_verdict_gives_a_colour(site: dict[str, Page]) -> None:
    outcomes = {"same", "better", "worse", "different", "unclear", "unknown"}
    overview = site["index.html"]
    row = overview.source[overview.source.index("cases/03_dropout-") :]
    row = row[: row.index("</tbody>")]
    assert 'class="verdict worse"' in row
    for page in site.values():
        for _, attributes in page.elements:
            classes = set(attributes.get("class", "").split())
            assert not (classes & {"better", "worse"}) or classes <= {"verdict", *outcomes}


def test_turns_are_points_with_an_interval_on_the_overview_and_the_case_page(
    site: dict[str, Page],
) -> None:
    a, b = twins_in_turns()
    overview, case = site["index.html"], page_of(site, "cases/03_dropout-")
    small = overview.source[overview.source.index('class="turns"') :]
    small = small[: small.index("</svg>")]
    (points,) = re.findall(r'<path class="s0" d="([^"]*)"', small)
    assert points.count("M") == len(a["turns"]["blocks"])
    assert 'class="interval"' in small
    ratio = comparison.compare([a], [b]).speed.ratio
    assert ratio is not None
    assert f"{percent(ratio.low or 0)} to {percent(ratio.high or 0)}" in overview.text
    assert "Step time in turns, nnx to linen" in case.source
    blocks = zip(a["turns"]["blocks"], b["turns"]["blocks"], strict=True)
    first = next(b["seconds_per_step"] / a["seconds_per_step"] for a, b in blocks)
    assert f"{first}," in case.source


def test_one_run_a_side_has_no_colour_for_its_speed(tmp_path: Path) -> None:
    for made in twins_in_turns():
        del made["turns"]
        write(tmp_path / "results", made)
    assert report.main([str(tmp_path / "results"), "--output", str(tmp_path / "site")]) == 0
    row = (tmp_path / "site" / "index.html").read_text()
    row = row[row.index('class="areas"') :]
    row = row[: row.index("</p>")]
    assert row.count('class="verdict unclear"') == 2  # the step and its dispatch
    assert 'class="turns"' not in row


def test_what_is_not_known_is_never_zero(site: dict[str, Page]) -> None:
    overview = site["index.html"].text
    never = [name for name in case_names() if not name.startswith("0")]
    assert overview.count("no result not run here yet") == len(never)
    assert "no result: needs a completed run of each" in overview
    axlearn = page_of(site, "runs/published-axlearn")
    assert 0.0 not in axlearn.figures[1:6]
    assert "not known" not in axlearn.text


def test_a_published_run_has_its_pages_figures_beside_its_steps_and_the_reason(
    site: dict[str, Page],
) -> None:
    published = record.read(PUBLISHED / "published-04_int8-nnx" / "record.json")
    page = page_of(site, "cases/04_int8-")
    assert published["source"]["explanation"] in page.text
    for entry in published["source"]["figures"]:
        for key in ("published", "recomputed", "published_difference", "recomputed_difference"):
            assert entry[key] is None or entry[key] in page.figures
    assert "one run a side does not show it" in page.text
    compiled = [
        entry
        for path in PREFLIGHT.rglob("records.json")
        for entry in json.loads(path.read_text())
        if (entry["case"]["name"], entry["impl"]) == ("01_baseline", "nnx")
    ]
    told = page_of(site, "cases/01_baseline-").text.count("one program")
    assert told == 1 + len(compiled) >= 4  # the answer, and a line for each


def test_a_run_of_another_program_has_what_its_log_says(site: dict[str, Page]) -> None:
    page = page_of(site, "runs/published-megatron")
    source = record.read(PUBLISHED / "published-megatron-0.91B-881bf1c0" / "record.json")["source"]
    for rank in source["ranks"]:
        assert rank["parameters"] in page.figures
    assert "256 events, 256 checked: 0 mismatches" in page.text
    assert source["schedule"][1]["disagreement"] in page.text


def test_evaluations_and_further_metrics_have_their_place(tmp_path: Path) -> None:
    made = make(run_id="with-evaluations")
    made["evals"] = [{"step": 4, "loss": 8.25, "seconds": 2.75, "accuracy": 0.5}]
    made["steps"][5]["after_eval"] = True
    for entry in made["steps"]:
        entry["moe_lb_loss"] = 0.125
    write(tmp_path / "results", made)
    page = page_of(build(tmp_path / "results", output=tmp_path / "site"), "runs/with-evaluations")
    words = " ".join(page.text.split())
    assert "Evaluations after step loss accuracy took 4 8.25 0.5 2.75 s" in words
    assert words.count("after an evaluation") == 1
    assert "moe lb loss" in page.text
    assert page.text.count("40960.125") == len(made["steps"])  # after the 4096 tokens


def test_curves_are_drawn_and_their_data_goes_along(site: dict[str, Page]) -> None:
    page = page_of(site, "cases/03_dropout-")
    islands = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    names = ["a-failed", "a-linen", "a-nnx"]
    loss = next(one for one in islands if [each["name"] for each in one["series"]] == names)
    made = run("a-linen", "linen", 1)
    assert loss["series"][1]["points"][1] == [entry["loss"] for entry in made["steps"]]
    assert sum(tag == "polyline" for tag, _ in page.elements) >= 6
    assert any(tag == "rect" for tag, _ in page.elements)


def test_programs_that_differ_are_taken_apart(tmp_path: Path) -> None:
    for impl, count in (("linen", 16), ("nnx", 18)):
        made = run(f"slice-{impl}", impl) | {"status": "preflight", "steps": []}
        made["timing"]["step_seconds"] = dict.fromkeys(made["timing"]["step_seconds"])
        made["program"]["optimized_sha256"] = str(count)[-1] * 64
        made["program"]["collectives"] = {"all-gather": {"count": count, "bytes": 6.25e9}}
        made["prediction"] |= {"step_seconds": 0.07, "compute_seconds": 0.05}
        made["prediction"] |= {"exposed_wire_seconds": 0.02, "caution": "unchecked"}
        made["program"] |= {"inexact": ["one trip is counted"], "wire_bytes": 6.25e9}
        write(tmp_path / "results", made)
    site = build(tmp_path / "results", output=tmp_path / "site")
    page = page_of(site, "cases/03_dropout-")
    assert "How the programs differ: " in page.text
    assert "all-gather count 16 18" in page.text
    assert "v6e-32: unchecked" in page.text
    assert "v6e-32: one trip is counted" in page.text
    assert "≈ 6.250 GB" in page.text
    assert page.text.count("≈ ~70 ms") == 2  # in the table and in the picture
    assert "compute 50 ms" in page.text
    assert "different programs 1 of 1 compilations for slices" in site["index.html"].text


def test_another_pair_stands_by_its_own_names(tmp_path: Path) -> None:
    """Of other twins the implementations are called otherwise; a recipe is a group of its own."""
    for number, (impl, twins, recipe) in enumerate(
        [
            *(("linen", "mine", "reference"), ("bridge", "mine", "reference")),
            *(("linen", None, "fast"), ("nnx", None, "fast")),
        ]
    ):
        made = run(f"run-{number}", impl, number) | {"recipe": recipe}
        made["case"] |= {"hash": f"{number // 2}" * 64}
        made["case"]["config"] |= {} if twins is None else {"twins": twins}
        write(tmp_path / "results", made)
        compiled = run(f"compiled-{number}", impl, number) | {"recipe": recipe}
        compiled |= {"status": "preflight", "steps": []}
        compiled["timing"]["step_seconds"] = figures.summarise([])
        compiled["case"] = made["case"]
        write(tmp_path / "results", compiled)
    site = build(tmp_path / "results", output=tmp_path / "site")
    assert_whole(site)
    page = page_of(site, "cases/03_dropout-")
    assert [tag for tag, _ in page.elements].count("dl") == 2
    for words in ("32 x TPU v6 lite, mine", "32 x TPU v6 lite, fast", "bridge is dashed"):
        assert words in page.text
    for words in ("v6e-32, mine", "v6e-32, fast"):
        assert words in page.text
    verdicts = page.text.count("the same: one program")
    assert page.text.count("one program") - verdicts == 3  # the answer, and a line for each
    assert "<span>bridge <a" in site["index.html"].source


def test_what_crosses_jit_is_set_side_by_side(tmp_path: Path) -> None:
    for mode in ("dict", "state", "jit"):
        write(tmp_path / "results", run(mode, "nnx") | {"nnx_state": mode})
    site = build(tmp_path / "results", output=tmp_path / "site")
    text = page_of(site, "cases/03_dropout-").text
    places = [text.index(words) for words in ("plain trees", "nnx.State", "nnx.Optimizer, nnx.jit")]
    assert places == sorted(places)


def test_neighbouring_cases_are_linked(site: dict[str, Page]) -> None:
    names = ["01_baseline", "03_dropout", "04_int8"]
    relations = {
        attributes["rel"]: attributes["href"]
        for tag, attributes in page_of(site, f"cases/{names[1]}-").elements
        if tag == "a" and "rel" in attributes
    }
    assert relations["prev"].startswith(f"../cases/{names[0]}-")
    assert relations["next"].startswith(f"../cases/{names[2]}-")


def test_history_draws_no_line_through_one_point(site: dict[str, Page]) -> None:
    islands = [
        json.loads(text)
        for kind, text in site["history.html"].scripts
        if kind == "application/json"
    ]
    assert islands == []  # one of each: a line needs two points
    assert "A line needs two." in site["history.html"].text


def hostile(text: str) -> Record:
    """A record with `text` wherever its schema lets any text stand."""
    made = run("a-hostile", "nnx", 5)
    made["warnings"] = [text]
    made["error"] = text
    made["case"]["name"] = text
    made["case"]["config"] = {text: text, "list": [text]}
    for key in ("git_commit", "jax", "device_kind", "topology", "xla_flags", "hostname", "time"):
        made["environment"][key] = text
    made["checkpoint"]["restored_from"] = text
    made["program"]["collectives"] = {text: {"count": 1, "bytes": 6.25e9}}
    made["program"]["quantized"] = [text, {text: text}]
    made["prediction"] |= {"caution": text, text: text, "checked_against": [text, {"run": text}]}
    made["attempts"] = [{"time": text, "status": "failed", "error": text, "wall_seconds": 1.0}] * 2
    return made


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert_everywhere(tmp_path: Path, text: str) -> None:
    for number, status in enumerate(("failed", "preflight", "imported")):
        made = sensible(hostile(text) | {"run_id": f"hostile-{number}", "status": status})
        folder = tmp_path / "results" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(made))
        (folder / "log.txt").write_bytes((f"Error {text}\n" * 3).encode("utf-8", "surrogatepass"))
    harmless = sensible(copy.deepcopy(hostile("harmless")) | {"run_id": "harmless"})
    (tmp_path / "other" / "harmless").mkdir(parents=True)
    (tmp_path / "other" / "harmless" / "record.json").write_text(json.dumps(harmless))
    plain = page_of(build(tmp_path / "other", output=tmp_path / "plain"), "runs/harmless")
    site = build(tmp_path / "results", output=tmp_path / "site")
    assert_whole(site)
    executed = [content for kind, content in plain.scripts if kind is None]
    for page in site.values():
        # Any control character, or one that turns the reading direction, would show here.
        assert all(letter.isprintable() or letter in "\n\t" for letter in page.source)
        assert {content for kind, content in page.scripts if kind is None} <= set(executed)
        for kind, content in page.scripts:
            if kind is not None:
                json.loads(content)
                assert "<" not in content
        assert {tag for tag, _ in page.elements} <= KNOWN, page.path
    if text.isprintable():
        assert f"Error {text} " in page_of(site, "runs/hostile-0").text


# Every element that a template makes: hostile text makes no other.
_KNOWN = (
    "html head meta title link style script body a header nav button main article h1 h2 h3 h4 p"
    " section div table thead tbody tr th td span b small code time data dl dt dd ul ol li details"
    " summary figure figcaption svg line text polyline circle path rect pre"
)
KNOWN = set(_KNOWN.split())


def test_no_run_id_leads_out_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, run_id in enumerate(("../escape", "/etc/x", "a/b", "..", "<b>")):
        folder = tmp_path / "results" / str(number)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(make() | {"run_id": run_id}))
    site = build(tmp_path / "results", output=tmp_path / "site")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "site"]
    assert not [path for path in site if path.startswith("runs/")]
    assert capsys.readouterr().err.count("warning: skipped ") == 5


def test_one_id_in_two_folders_has_two_pages_and_one_file_has_one(tmp_path: Path) -> None:
    for place in ("one", "other"):
        write(tmp_path / "results" / place, run("same", "nnx"))
    site = build(tmp_path / "results", tmp_path / "results" / "one", output=tmp_path / "site")
    assert len([path for path in site if path.startswith("runs/same-")]) == 2


def test_a_line_of_ten_megabytes_stays_out_of_the_page(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", run("long", "nnx"))
    (folder / "log.txt").write_bytes(b"begin\n" + b"<" * 10_000_000 + b"\nWarning: the end\n")
    long = run("words", "nnx")
    long["error"] = "&" * 10_000_000
    write(tmp_path / "results", long | {"status": "failed"})
    tracemalloc.start()
    site = build(tmp_path / "results", output=tmp_path / "site")
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()
    page = page_of(site, "runs/long-")
    assert len(page.source) < 2_000_000
    assert "3 lines, 0 with an error, 1 with a warning." in page.text
    assert "9.155 MiB are left out here" in page.text
    assert page.text.rstrip().endswith("Warning: the end")
    assert len(page_of(site, "runs/words-").source) < 200_000


DAMAGED = {
    "truncated": '{"schema_version": 1, "run',
    "empty": "",
    "foreign": '{"loss": 1.5}',
    "future": json.dumps(make() | {"schema_version": 99}),
    "binary": "\x00\x01\x02",
}


def test_damaged_records_are_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, run("good", "linen"))
    for name, text in DAMAGED.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "records.json").write_text(json.dumps([{"loss": 1}, make(), 7]))
    run_folders.completed(tmp_path)
    assert run_folders.spoil(tmp_path / run_folders.RUN / "evals.jsonl", "a digit changed")
    site = build(tmp_path, output=tmp_path / "site")
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"report: {tmp_path / 'site' / 'index.html'}"
    for name in DAMAGED:
        assert f"warning: skipped {tmp_path / name / 'record.json'}: " in told.err
        assert str(tmp_path / name / "record.json") in site["index.html"].text
    assert "records.json, entry 0: not a record" in told.err
    assert "records.json, entry 2: not a record" in told.err
    changed = f"{tmp_path / run_folders.RUN}: evals.jsonl: has changed since the run ended"
    assert f"warning: {changed}" in told.err
    assert changed in site["index.html"].text
    assert len([path for path in site if path.startswith("runs/")]) == 3


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    site = build(tmp_path / "results", output=tmp_path / "site")
    assert_whole(site)
    assert "No result: nothing was run yet." in site["index.html"].text
    assert site["index.html"].text.count("no result not run here yet") == len(case_names())
    assert "No result: no completed run yet." in site["history.html"].text


VALUES: list[Any] = [
    *HOSTILE, "", "x" * 10_000, None, True, 0, -1, 1, 1.0, 0.5, 1e308, 10**40, 1e-320, [], {},
]  # fmt: skip


def mutated(base: Record, chance: random.Random) -> Any:
    """A record with one to three values replaced, removed, added or scaled."""
    made = copy.deepcopy(base)
    for _ in range(chance.choice((1, 1, 2, 3))):
        places = list(_places(made))
        if not places:
            break
        holder, key = chance.choice(places)
        how = chance.random()
        if how < 0.65:
            holder[key] = chance.choice(VALUES)
        elif how < 0.8:
            del holder[key]
        elif isinstance(holder, dict):
            holder[chance.choice(HOSTILE)] = chance.choice(VALUES)
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield value, key
        if isinstance(one, dict | list):
            yield from _places(one)


def test_no_mutated_record_breaks_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 600, some are still valid and shown; the others are told; the pages are whole."""
    monkeypatch.setattr(sense, "contradiction", lambda record: None)
    chance = random.Random(20_260)
    bases = [run("a-linen", "linen"), run("a-nnx", "nnx", seed=1)]
    bases += [record.read(path) for path in sorted(PUBLISHED.glob("*/record.json"))]
    slices = json.loads((PREFLIGHT / "records.json").read_text())
    shown = 0
    for number in range(20):
        results = tmp_path / str(number)
        for index in range(25):
            folder = results / str(index)
            folder.mkdir(parents=True)
            made = mutated(chance.choice(bases), chance)
            (folder / "record.json").write_text(json.dumps(made))
        listed = [mutated(chance.choice(slices), chance) for _ in range(5)]
        (results / "records.json").write_text(json.dumps(listed))
        report.main([str(results), "--output", str(tmp_path / "site")])
        site = pages(tmp_path / "site")
        if number % 5 == 0:
            assert_whole(site)
        good = sum(path.startswith("runs/") for path in site)
        assert good + capsys.readouterr().err.count("warning: skipped ") == 30
        shown += good
    assert 50 < shown < 550


def test_five_hundred_long_runs_are_soon_shown(tmp_path: Path) -> None:
    """Fifty of them here; the limit leaves room for a busy machine."""
    made = make(seconds=[0.07] * 997)
    for number in range(50):
        impl = ("linen", "nnx")[number % 2]
        write(tmp_path / "results", made | {"run_id": f"run-{number}", "impl": impl})
    begun = time.process_time()
    report.main([str(tmp_path / "results"), "--output", str(tmp_path / "site")])
    assert time.process_time() - begun < 3.0
    (page,) = (tmp_path / "site" / "runs").glob("run-49-*")
    assert page.read_text().count("<tr><td>") >= 1000
    (case,) = (tmp_path / "site" / "cases").glob("03_dropout-*")
    assert case.stat().st_size < 1_000_000
    assert (tmp_path / "site" / "index.html").stat().st_size < 200_000
