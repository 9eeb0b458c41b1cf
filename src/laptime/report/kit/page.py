"""The shell of every page: one self-contained HTML document that works from file:// and trusts no string.

    from laptime.report.kit.html import card, cards, chart, section
    from laptime.report.kit.page import asset, document

    document(
        title="trace.json",                                     # the browser tab and the line over the headline
        headline="The GPU waited 87 % of the time",             # the point of the page, in one sentence
        meta=["NVIDIA H200", "24 steps"],                       # a short line of facts under it
        sections=[section("Gaps", chart("gaps", "Histogram of idle gaps"), id="gaps-section")],
        data={"gaps": [...]},                                   # anything msgspec can encode
        scripts=[*chart_scripts(), asset("trace/page.js")],     # run in this order at the end of the body
    )

Fragments come from `laptime.report.kit.html`, which escapes by default. The data is embedded as JSON; a script
reads it with `pageData()` (assets/dom.js, always there) and writes strings by `textContent` only: `node(...)`
and `svg(...)` of dom.js do. `chart_scripts()` are the shared charts; each says at its top what it draws.

The Content-Security-Policy allows the scripts and the style sheet of this document by their hashes and
nothing else: no network, no injected script, no style attribute (setting `element.style.x` in a script works).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from laptime.report.kit.html import Html, join, tag
from laptime.report.kit.text import printable


@cache
def asset(name: str) -> str:
    """The text of a script or style sheet, by its path in laptime/report (`kit/dom.js`)."""
    return files("laptime.report").joinpath(name).read_text(encoding="utf-8")


CHARTS: tuple[str, ...] = (
    "kit/charts/scale.js",
    "kit/charts/tooltip.js",
    "kit/charts/histogram.js",
    "kit/charts/line_band.js",
    "kit/charts/run_order.js",
)
"""Names of the shared chart scripts, in the order in which they must run. dom.js comes before, by itself."""


def chart_scripts() -> list[str]:
    """The shared chart scripts' texts, to be put before a page's own script."""
    return [asset(name) for name in CHARTS]


def document(
    *,
    title: str,
    headline: str,
    sections: Iterable[Html],
    meta: Sequence[str] = (),
    lead: Html | None = None,
    data: Any = None,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    footer: Sequence[str] = (),
) -> str:
    """The whole document. `lead` (the one picture) stands directly under the headline; `styles` follow page.css."""
    all_scripts = [asset("kit/dom.js"), *scripts]
    style = "\n".join([asset("kit/page.css"), *styles])
    policy = "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(_hash_source(text) for text in all_scripts),
            "style-src " + _hash_source(style),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="laptime"),
        tag("title", f"{title} · laptime"),
        Html(f"<style>{style}</style>"),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("div", tag("span", "laptime", class_="brand"), tag("span", title, class_="title"), class_="top"),
            tag("h1", headline),
            tag("p", [tag("span", item) for item in meta], class_="meta") if meta else None,
            lead,
        ),
        tag("main", *sections),
        tag("footer", [tag("span", item) for item in footer]) if footer else None,
        Html(f'<script type="application/json" id="page-data">{embedded_json(data)}</script>'),
        Html("".join(f"<script>{_inline(text)}</script>" for text in all_scripts)),
    )
    return join(Html("<!doctype html>\n"), tag("html", head, body, lang="en")) + "\n"


def embedded_json(data: Any) -> str:
    """The data as JSON that can stand inside a script element: no string in it can end the element.

    `<`, `>`, `&` and the two line separators that old JavaScript ends a line at are written as \\u escapes;
    lone surrogates, which UTF-8 can't hold, are replaced. NaN and infinities become null.
    """
    text = msgspec.json.encode(_printable_texts(msgspec.to_builtins(data))).decode("utf-8")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _printable_texts(value: Any) -> Any:
    """A value of dicts, lists and texts without what no JSON holds: control characters and halves of characters."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_printable_texts(key): _printable_texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable_texts(item) for item in value]
    return value


def _inline(script: str) -> str:
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("an inline script can't contain </script or <!--")
    return script


def _hash_source(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
