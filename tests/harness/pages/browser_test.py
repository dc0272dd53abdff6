"""The pages of a report in headless Chromium: `make test-browser`."""

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import picture
import pytest
from compared_records import write
from report_site import PREFLIGHT, PUBLISHED, run, write_results

from harness import compare, report
from harness.terminal.errors import UserError

pytestmark = pytest.mark.browser

PHONE, TABLET, DESK = ({"width": width, "height": 900} for width in (390, 768, 1440))
AXE = Path(__file__).parents[3] / "build" / "axe" / "package" / "axe.min.js"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_results(folder / "results")
    sources = [str(folder / "results"), str(PUBLISHED), str(PREFLIGHT)]
    assert report.main([*sources, "--output", str(folder / "site")]) == 0
    pair = ["a-linen", "a-nnx", "--results-dir", str(folder / "results")]
    assert compare.main([*pair, "--page", str(folder / "site" / "comparison.html")]) == 0
    return folder / "site"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is missing")
    try:
        path = picture.browser()
    except UserError as error:
        pytest.skip(str(error))
    with driver.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page with what it complained of, and what it asked for."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        for chart in self.page.locator("figure.chart").all():
            chart.scroll_into_view_if_needed()
        return self.page


def some_pages(site: Path) -> list[Path]:
    """One of each kind."""
    return [
        *(site / f"{name}.html" for name in ("index", "history", "runs", "slices", "comparison")),
        next(site.glob("programs/01_baseline-*")),
        *(next(site.glob(f"cases/{name}-*")) for name in ("03_dropout", "04_int8", "05_fp8")),
        *(next(site.glob(f"runs/{name}-*")) for name in ("a-nnx", "a-failed")),
        *(next(site.glob(f"runs/published-{name}-*")) for name in ("megatron", "axlearn")),
        next(site.glob("runs/*01_baseline-nnx-*")),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, TABLET, DESK], ids=["phone", "tablet", "desk"])
def test_pages_show_without_an_error_a_request_or_a_sideways_scroll(
    site: Path, browser: Any, scheme: str, size: dict[str, int]
) -> None:
    for path in some_pages(site):
        watched = Watched(browser, color_scheme=scheme, viewport=size)
        page = watched.open(path)
        assert watched.complaints == [], path.name
        assert watched.requests == [path.as_uri()], path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path.name
        charts = page.locator("figure.chart").count()
        page.wait_for_function(f"document.querySelectorAll('canvas').length === {charts}")
        page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing_that_keeps_anybody_from_reading(
    site: Path, browser: Any, scheme: str, size: dict[str, int]
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: make test-browser gets it where npm is installed")
    for path in some_pages(site):
        page = Watched(browser, color_scheme=scheme, viewport=size, bypass_csp=True).open(path)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told = [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]]
        assert told == [], path.name
        page.context.close()


def test_verdicts_and_intervals_are_on_the_screen(site: Path, browser: Any) -> None:
    page = Watched(browser, viewport=TABLET).open(site / "index.html")
    assert inside(page, ".answers .verdict, .experiment .verdict", TABLET)
    page = Watched(browser, viewport=PHONE).open(next(site.glob("cases/03_dropout-*")))
    assert inside(page, ".compared td small", PHONE)


def inside(page: Any, selector: str, size: dict[str, int]) -> bool:
    """Whether all that is selected is shown within the width of the screen."""
    boxes = [one.bounding_box() for one in page.locator(selector).all() if one.is_visible()]
    assert boxes
    return all(box["x"] >= 0 and box["x"] + box["width"] <= size["width"] for box in boxes)


def test_the_first_page_of_five_hundred_runs_opens_at_once(browser: Any, tmp_path: Path) -> None:
    made = run("any", "linen")
    for number in range(500):
        impl = ("linen", "nnx")[number % 2]
        config = made["case"]["config"] | {"run.seed": number // 10}
        case = made["case"] | {"config": config}
        write(tmp_path / "results", made | {"run_id": f"r{number}", "impl": impl, "case": case})
    assert report.main([str(tmp_path / "results"), "--output", str(tmp_path / "site")]) == 0
    index = tmp_path / "site" / "index.html"
    assert index.stat().st_size < 400_000
    page = Watched(browser).page
    page.goto("about:blank")
    begun = time.monotonic()
    page.goto(index.as_uri(), wait_until="load")
    assert time.monotonic() - begun < 1.0


def test_hovering_a_curve_shows_its_values(site: Path, browser: Any) -> None:
    page = Watched(browser, viewport=DESK).open(next(site.glob("runs/a-nnx-*")))
    chart = page.locator("figure.chart").first
    values = chart.locator(".u-value")
    assert values.nth(1).inner_text() == "–"  # noqa: RUF001
    box = chart.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + box["height"] / 2)
    assert [values.nth(place).inner_text() for place in (0, 1)] == ["0", "10.889"]
    # The other charts of the page follow the cursor.
    assert page.locator("figure.chart").nth(1).locator(".u-value").first.inner_text() == "0"


def test_dragging_zooms_and_a_double_click_goes_back(site: Path, browser: Any) -> None:
    page = Watched(browser, viewport=DESK).open(next(site.glob("runs/a-nnx-*")))
    chart = page.locator("figure.chart").first
    chart.scroll_into_view_if_needed()
    whole = chart.locator("canvas").screenshot()
    box = chart.locator(".u-over").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, y, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    page.wait_for_timeout(100)
    assert chart.locator("canvas").screenshot() != whole
    page.mouse.dblclick(box["x"] + box["width"] * 0.5, y)
    page.mouse.move(0, 0)
    page.wait_for_timeout(100)
    assert chart.locator("canvas").screenshot() == whole


def test_dark_and_light_differ_and_the_button_changes_them(site: Path, browser: Any) -> None:
    shots = {}
    for scheme in ("light", "dark"):
        page = Watched(browser, color_scheme=scheme, viewport=DESK).open(site / "index.html")
        shots[scheme] = background(page)
        shots[f"{scheme}, changed"] = background(page, "#theme")
        page.reload()  # the choice is kept
        assert background(page) == shots[f"{scheme}, changed"]
    assert sum(shots["light"]) > 700
    assert sum(shots["dark"]) < 120
    assert shots["light, changed"] == shots["dark"]
    assert shots["dark, changed"] == shots["light"]


def background(page: Any, click: str = "") -> list[int]:
    """The colour of the page's corner, from a picture of it."""
    if click:
        page.click(click)
    picture = page.screenshot(clip={"x": 2, "y": 300, "width": 4, "height": 4})
    encoded = base64.b64encode(picture).decode()
    blank = page.context.new_page()
    found = blank.evaluate(
        """async (encoded) => {
          const image = new Image();
          image.src = "data:image/png;base64," + encoded;
          await image.decode();
          const canvas = document.createElement("canvas").getContext("2d");
          canvas.drawImage(image, 0, 0);
          return [...canvas.getImageData(1, 1, 1, 1).data.slice(0, 3)];
        }""",
        encoded,
    )
    blank.close()
    colour: list[int] = found
    return colour


def test_without_scripts_all_is_there_to_be_read(site: Path, browser: Any) -> None:
    page = Watched(browser, java_script_enabled=False, viewport=PHONE).page
    page.goto(next(site.glob("cases/03_dropout-*")).as_uri())
    assert page.locator("svg.drawn").first.is_visible()
    assert page.locator("svg.drawn polyline").count() >= 6
    assert page.locator(".legend").first.is_visible()
    assert not page.locator("#theme").is_visible()


def test_the_keyboard_reaches_what_can_be_opened(site: Path, browser: Any) -> None:
    page = Watched(browser, viewport=DESK).open(next(site.glob("runs/a-nnx-*")))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    steps = page.locator("summary", has_text="33 steps")
    steps.focus()
    page.keyboard.press("Enter")
    assert page.locator("table.steps").is_visible()
    assert page.locator("table.steps tbody tr").count() == 33
