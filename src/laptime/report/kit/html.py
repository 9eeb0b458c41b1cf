"""HTML fragments that are escaped by default: text becomes text, and only these functions make markup.

`tag("p", "a < b", class_="note")` escapes its text and its attribute values; a child that is already an
`Html` is taken as it is; `None` is left out; a list is flattened. Nothing else in the report package writes
a `<`, so no string of a run (sample ids, prompts, generated text, kernel names) can become markup.

Style attributes and event handlers are refused: the page's Content-Security-Policy blocks them.
Use a class, or an SVG presentation attribute (`fill`, `x`, `width`) where a number is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from laptime.report.kit.numbers import NOTHING
from laptime.report.kit.text import printable

Attribute = str | int | float | bool | None

_VOID = frozenset({"br", "hr", "img", "input", "meta", "col", "wbr"})
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Html(str):
    """Markup that is already safe. Made by the functions here; wrap a string in it only when you wrote it."""

    __slots__ = ()


Child = str | int | float | Html | None | Iterable["Child"]


def escape(text: str) -> Html:
    """The text as markup that shows exactly this text, in element content and in quoted attributes."""
    return Html(printable(text).translate(_ESCAPES))


def join(*children: Child) -> Html:
    """Children one after the other: text escaped, Html kept, None left out, lists flattened."""
    return Html("".join(_pieces(children)))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element. `class_` writes class, `data_x` data-x; True writes a bare attribute, None and False none."""
    if not _NAME.fullmatch(name) or name in {"script", "style"}:
        raise ValueError(f"not an element for a fragment: {name}")
    written = [f"<{name}"]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(attribute) or attribute == "style" or attribute.lower().startswith("on"):
            raise ValueError(f"not an attribute for a fragment: {attribute}")
        if value is True:
            written.append(f" {attribute}")
        elif value is not None and value is not False:
            written.append(f' {attribute}="{escape(str(value))}"')
    written.append(">")
    if name not in _VOID:
        written.append(join(*children))
        written.append(f"</{name}>")
    return Html("".join(written))


def section(title: str, *children: Child, id: str, lead: Child = None) -> Html:
    """A titled part of the page. `id` names it for links and scripts; `lead` says in a line what it shows.

    A table in it that has no caption is called as the section is, for who doesn't see the page.
    """
    named = Html(join(*children).replace("<table><thead>", f'<table aria-label="{escape(title)}"><thead>'))
    return tag("section", tag("h2", title), tag("p", lead, class_="lead") if lead else None, named, id=id)


def card(label: str, value: str, unit: str = "", note: Child = None, *, hint: str | None = None) -> Html | None:
    """One number: a small label, the value large with its unit, a note below (its interval). `hint` on hover.

    Without a value there is no card.
    """
    if value in ("", NOTHING):
        return None
    return tag(
        "div",
        tag("div", label, class_="card-label"),
        tag("div", value, tag("span", f"\u202f{unit}", class_="unit") if unit else None, class_="card-value"),
        tag("div", note, class_="card-note") if note else None,
        class_="card",
        title=hint,
    )


def cards(*items: Html | None) -> Html:
    """Cards side by side, as many in a row as fit."""
    return tag("div", *items, class_="cards")


def table(
    head: Sequence[Child], rows: Iterable[Sequence[Child]], *, numeric: Iterable[int] = (), caption: str | None = None
) -> Html:
    """A table. `numeric` names the columns (from 0) that are right-aligned. It scrolls sideways when too wide."""
    right = frozenset(numeric)

    def cells(name: str, row: Sequence[Child]) -> list[Html]:
        scope = "col" if name == "th" else None
        return [tag(name, cell, class_="num" if i in right else None, scope=scope) for i, cell in enumerate(row)]

    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption) if caption else None,
            tag("thead", tag("tr", cells("th", head))) if head else None,
            tag("tbody", [tag("tr", cells("td", row)) for row in rows]),
        ),
        class_="table-box",
        tabindex=0,
    )


def wide(drawing: Html) -> Html:
    """A drawing that keeps its size on a narrow screen and scrolls there, so that its text stays legible."""
    return tag("div", drawing, class_="wide", tabindex=0)


def definitions(pairs: Iterable[tuple[Child, Child]]) -> Html:
    """Terms with their values or meanings, in two columns. Pairs whose value is None are left out."""
    return tag("dl", [[tag("dt", term), tag("dd", value)] for term, value in pairs if value is not None])


def note(*children: Child, kind: str = "info") -> Html:
    """A remark that stands out. `kind` is info, warning or severe."""
    return tag("p", *children, class_=f"note {kind}")


def details(summary: Child, *children: Child, open: bool = False) -> Html:
    """Children that are folded away until the reader asks for them."""
    return tag("details", tag("summary", summary), *children, open=open)


def chart(id: str, label: str, *, class_: str = "") -> Html:
    """An empty place that a script draws a chart into. `label` says in words what the chart shows."""
    return tag("div", id=id, class_=f"chart {class_}".strip(), role="group", aria_label=label)


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, (str, int, float)):
            yield escape(str(child))
        else:
            yield from _pieces(child)
