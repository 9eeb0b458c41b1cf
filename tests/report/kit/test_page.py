"""The shell of every page: one document, offline, and no string of a run can become markup or script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from laptime.report.kit.html import Html, card, definitions, escape, join, section, table, tag
from laptime.report.kit.page import document, embedded_json
from tests.report.hostile import HOSTILE


def a_page(text: str, **options: Any) -> str:
    return document(
        title=text,
        headline=text,
        meta=[text],
        footer=[text],
        sections=[
            section(text, tag("p", text, title=text), id="one", lead=text),
            section("Table", table([text], [[text]], numeric=[0]), definitions([(text, text)]), id="two"),
            card(text, text, text, text, hint=text),
        ],
        data={"text": text, text: [text]},
        **options,
    )


def test_text_is_escaped_and_markup_is_kept() -> None:
    assert tag("p", "a < b & c", class_="x") == '<p class="x">a &lt; b &amp; c</p>'
    assert tag("p", Html("<b>bold</b>"), None, ["x", [1, 2.5]]) == "<p><b>bold</b>x12.5</p>"
    assert tag("input", type="search", disabled=True, hidden=False) == '<input type="search" disabled>'
    assert tag("td", 'say "hi"', title="\"'<") == '<td title="&quot;&#39;&lt;">say &quot;hi&quot;</td>'
    assert join("<", tag("br")) == "&lt;<br>"
    assert escape("a\x00\ud800b") == "a\ufffd\ufffdb"


@pytest.mark.parametrize("name", ["script", "style", "p onclick=x", ""])
def test_a_fragment_makes_no_script(name: str) -> None:
    with pytest.raises(ValueError, match="not an element"):
        tag(name)


@pytest.mark.parametrize("attribute", ["style", "onclick", "onLoad", "a b"])
def test_a_fragment_makes_no_handler(attribute: str) -> None:
    with pytest.raises(ValueError, match="not an attribute"):
        tag("p", **{attribute: "x"})


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_data_comes_back_whole(text: str) -> None:
    encoded = embedded_json({"text": text})
    assert not re.search("[<>&\u2028\u2029]", encoded)
    decoded = json.loads(encoded)["text"]
    assert decoded == text.replace("\ud800", "\ufffd").replace("\x00", "\ufffd").replace("\x07", "\ufffd")


def test_not_a_number_is_null() -> None:
    assert json.loads(embedded_json([float("nan"), float("inf"), 1.5])) == [None, None, 1.5]


def test_the_document_asks_for_nothing_from_outside() -> None:
    page = a_page("plain")
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page)
    assert "unsafe" not in page


def test_a_script_that_would_end_its_element_is_refused() -> None:
    with pytest.raises(ValueError, match="inline script"):
        document(title="t", headline="h", sections=[], scripts=["x = '</SCRIPT>'"])


@pytest.mark.chromium
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_and_not_run(
    text: str, open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    browser = open_page(a_page(text, scripts=["window.read = pageData().text;"]))
    assert browser.execute_script("return window.pwned") is None
    assert browser.execute_script("return window.read") == embedded_back(text)
    shown = browser.execute_script("return document.querySelector('h1').textContent")
    assert shown == embedded_back(text)
    assert browser.execute_script("return document.querySelectorAll('body > header, body > main').length") == 2
    assert console_lines() == []


@pytest.mark.chromium
def test_the_policy_blocks_what_the_page_did_not_bring(
    open_page: Callable[[str], Any], console_lines: Callable[[], list[str]]
) -> None:
    page = a_page("x", scripts=["window.own = 1;"])
    foreign = (
        '<script>window.pwned=1</script><p id="p" style="color:rgb(1,2,3)" onclick="window.pwned=1">x</p>'
        '<script src="https://example.org/x.js"></script><img src="https://example.org/x.png">'
    )
    browser = open_page(page.replace("</main>", f"{foreign}</main>"))
    browser.execute_script("document.getElementById('p').click()")
    assert browser.execute_script("return [window.own, window.pwned ?? null]") == [1, None]
    assert browser.execute_script("return getComputedStyle(document.getElementById('p')).color") != "rgb(1, 2, 3)"
    refused = [line for line in console_lines() if "Content Security Policy" in line]
    assert len(refused) >= 4


def test_the_report_imports_nothing_heavy() -> None:
    parts = ", ".join(
        f"laptime.report.{name}" for name in ("kit.page", "profile.page", "profile.terminal", "profile.perfetto")
    )
    heavy = "('torch', 'transformers', 'pandas', 'polars', 'selenium')"
    code = f"import sys, {parts}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def embedded_back(text: str) -> Any:
    return json.loads(embedded_json(text))
