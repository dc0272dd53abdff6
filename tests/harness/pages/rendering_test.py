import base64
import hashlib
import re

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from harness.pages import rendering


def test_a_page_names_its_place_and_allows_its_own_scripts_alone() -> None:
    page = rendering.render(
        "history.html.jinja", "a/history.html", title="<T>\x07", sections=[], single=[]
    )
    assert "&lt;T&gt;" in page
    assert "\x07" not in page
    assert 'href="../index.html"' in page
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts
    }
    assert digests == set(re.findall(r"sha256-([^&']*)", policy.split("script-src")[1]))
    assert policy.startswith("default-src &#39;none&#39;;")


def test_charts_bring_their_own_scripts() -> None:
    assert len(rendering._assets(True)["scripts"]) == 2
    assert rendering._assets(False)["scripts"] == []
    assert rendering._assets(True)["policy"] != rendering._assets(False)["policy"]


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        rendering.render("runs.html.jinja", "runs.html", title="T")


def test_markup_of_our_own_is_left_as_it_is() -> None:
    assert rendering._shown(Markup("<b>\x07")) == "<b>\x07"
    assert "\x07" not in rendering._shown("a\x07")
    assert rendering._shown(3) == 3
