"""One bar that shows how a total is divided among the stages, drawn without a script so that it always shows."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.data.record import STAGES, StageTimes
from laptime.report.kit.html import Html, tag
from laptime.report.kit.numbers import percent, text

WIDE_ENOUGH, TIGHT = 0.085, 0.14
"""A part narrower than the first share of the bar carries no label, one narrower than the second only on a wide page;
the legend below names every part."""


def shown_stages(times: Sequence[StageTimes]) -> list[str]:
    """The stages that took any time in any of these, in order: a text-only model has no vision to show."""
    return [name for name in STAGES if any(one.stage(name) for one in times)]


def stage_bar(times: StageTimes, *, height: int = 84, scale_ms: float | None = None, labels: bool = True) -> Html:
    """The stages of one call as parts of one bar. `scale_ms` is the time of the full width (default: the total)."""
    full = scale_ms or times.total_ms or 1.0
    parts: list[Html] = []
    at = 0.0
    for name in STAGES:
        ms = times.stage(name) or 0.0
        if ms <= 0:
            continue
        parts.append(_part(name, ms, at / full, ms / full, ms / (times.total_ms or ms), height, labels))
        at += ms
    words = ", ".join(f"{name} {text(times.stage(name), 'ms')}" for name in STAGES if times.stage(name))
    return tag("svg", *parts, class_="stage-bar hero" if labels else "stage-bar", height=height, role="img",
               aria_label=f"{words}; total {text(times.total_ms, 'ms')}")  # fmt: skip


def stage_legend(times: StageTimes) -> Html:
    """Every stage that ran, with its colour, milliseconds and share of the total; other always, even at 0."""
    total = times.total_ms
    items = []
    for name in STAGES:
        ms = times.stage(name)
        if not ms and name != "other":
            continue
        share = percent(ms / total) if ms is not None and total else percent(None)
        items.append(
            tag(
                "li",
                tag("span", class_=f"swatch {name}"),
                name.capitalize(),
                " ",
                tag("b", text(ms, "ms")),
                " ",
                tag("span", share, class_="share"),
            )
        )
    return tag("ul", items, class_="legend")


def _part(name: str, ms: float, start: float, width: float, share: float, height: int, labels: bool) -> Html:
    label = None
    if labels and width >= WIDE_ENOUGH:
        label = [
            tag("text", name.capitalize(), x=14, y="36%", class_=f"in-{name} name"),
            tag("text", f"{text(ms, 'ms')}" + (f" · {percent(share)}" if width > 0.17 else ""), x=14, y="66%",
                class_=f"in-{name}"),
        ]  # fmt: skip
    return tag(
        "svg",
        tag("title", f"{name}: {ms:.6f} ms, {percent(share)} of the total"),
        tag("rect", width="100%", height="100%", class_=name),
        tag("g", label, class_="tight" if width < TIGHT else None) if label else None,
        x=f"{start:.4%}",
        width=f"{width:.4%}",
        height=height,
    )
