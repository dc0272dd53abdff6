"""Takes the README's pictures of a case's page, light and dark: `make picture`."""

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import report
from harness.terminal import cli
from harness.terminal.errors import UserError

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PICTURES = REFERENCE / "pages"
SCHEMES = ("light", "dark")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_CASE = "04_int8"  # one program on every slice, and published by others
_SIZE = {"width": 1180, "height": 1040}
_SHARPNESS = 1.2  # pixels of the picture for one of the page


def browser() -> str:
    """Where Chromium is: as CHROMIUM says, or as it is installed. UserError where it is not."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise UserError(f"none of {', '.join(_BROWSERS)} is installed, and CHROMIUM names none")
    return found


def main(argv: list[str]) -> int:
    """Makes the pages of the committed records and takes the pictures; returns the exit code."""
    cli.Parser(prog="scripts/pictures/picture.py", description=__doc__).parse_args(argv)
    sync_api: Any = importlib.import_module("playwright.sync_api")  # of the extra `browser`
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as playwright:
        site = Path(folder) / "site"
        report.main([str(REFERENCE), "--output", str(site)])
        (page,) = site.glob(f"cases/{_CASE}-*.html")
        chromium = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        for scheme in SCHEMES:
            shown = chromium.new_page(
                color_scheme=scheme, viewport=_SIZE, device_scale_factor=_SHARPNESS
            )
            shown.goto(page.as_uri())
            shown.screenshot(path=PICTURES / f"case-{scheme}.png")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
