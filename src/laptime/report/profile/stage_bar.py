"""One bar of time, divided by stage, and its legend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from laptime.data.record import STAGES, StageTimes
from laptime.report.kit.html import Html, tag
from laptime.report.kit.numbers import percent, text

WIDE_ENOUGH, TIGHT, WITH_SHARE = 0.085, 0.14, 0.17
"""Shares of the bar: a narrower part has no label, one only on a wide page, one without its share of the time."""


def shown_stages(times: Sequence[StageTimes]) -> list[str]:
    """The stages that took any time in any of these, in order: a text-only model has no vision to show."""
    return [name for name in STAGES if any(one.stage(name) for one in times)]


def stage_bar(
    stages_ms: Mapping[str, float], *, height: int = 84, scale_ms: float | None = None, labels: bool = True
) -> Html:
    """Stages side by side in one bar, each as wide as its share of their sum.

    height: in pixels. scale_ms: the time that the full width stands for; by default the sum of the stages.
    """
    total_ms = sum(stages_ms.values())
    full_ms = scale_ms or total_ms or 1.0
    parts: list[Html] = []
    begin_ms = 0.0
    for name, ms in _running(stages_ms):
        label = _label(name, ms, ms / total_ms, ms / full_ms) if labels else None
        parts.append(
            tag(
                "svg",
                tag("title", f"{name}: {text(ms, 'ms', 6)}, {percent(ms / total_ms)} of the total"),
                tag("rect", width="100%", height="100%", class_=name),
                label,
                x=f"{begin_ms / full_ms:.4%}",
                width=f"{ms / full_ms:.4%}",
                height=height,
            )
        )
        begin_ms += ms
    words = ", ".join(f"{name} {text(ms, 'ms')}" for name, ms in _running(stages_ms))
    return tag("svg", *parts, class_="stage-bar hero" if labels else "stage-bar", height=height, role="img",
               aria_label=f"{words}; total {text(total_ms, 'ms')}")  # fmt: skip


def stage_legend(stages_ms: Mapping[str, float]) -> Html:
    """Every stage that ran, with its colour, milliseconds and share of the sum; other always, also at 0."""
    total_ms = sum(stages_ms.values())
    shown = dict(_running(stages_ms)) | {"other": stages_ms.get("other", 0.0)}
    return tag(
        "ul",
        [
            tag("li", _swatch(name), name.capitalize(), " ", tag("b", text(ms, "ms")), " ",
                tag("span", percent(ms / total_ms if total_ms else None), class_="share"))
            for name, ms in shown.items()
        ],
        class_="legend",
    )  # fmt: skip


def stage_swatches(names: Iterable[str]) -> Html:
    """The colours of the stages."""
    return tag("ul", [tag("li", _swatch(name), name.capitalize()) for name in names], class_="legend small")


def _running(stages_ms: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """The stages that took time, in order."""
    return [(name, stages_ms[name]) for name in STAGES if stages_ms.get(name, 0.0) > 0]


def _swatch(name: str) -> Html:
    return tag("span", class_=f"swatch {name}")


def _label(name: str, ms: float, share: float, width: float) -> Html | None:
    if width < WIDE_ENOUGH:
        return None
    figures = text(ms, "ms") + (f" · {percent(share)}" if width > WITH_SHARE else "")
    return tag(
        "g",
        tag("text", name.capitalize(), x=14, y="36%", class_=f"in-{name} name"),
        tag("text", figures, x=14, y="66%", class_=f"in-{name}"),
        class_="tight" if width < TIGHT else None,
    )
