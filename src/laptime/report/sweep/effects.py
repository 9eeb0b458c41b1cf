"""What each knob buys: the picture under the headline of a sweep's page."""

from __future__ import annotations

from laptime.report.kit.html import Html, chart, details, join, note, tag
from laptime.report.sweep.data import effect_stages
from laptime.report.sweep.view import SweepView
from laptime.report.sweep.words import grade_words, interaction_words, silent_knobs, stage_title, visit_words
from laptime.sweeps.summary.result import SweepSummary

INTERACTIONS_SHOWN = 3
LEVELS_AT_FIRST = 8
"""The page first shows this many levels of a knob, and all of them on demand (sweep/effect_rows.js)."""


def sweep_lead(view: SweepView) -> Html:
    """The picture under the headline: what each knob buys."""
    summary = view.summary
    if not any(row.samples for row in summary.rows):
        return note("The run holds no finished sample. See Failures for the reasons.", kind="warning")
    stages = effect_stages(summary)
    if not stages:
        return note(
            "No knob has two levels that were measured on the same samples with the same values of the other knobs, so "
            "there is no effect to show. Sweep at least two values of a knob."
        )
    by_repeats = any(effect.over == "repeats" for effect in summary.effects)
    visits = visit_words(summary)
    return tag(
        "div",
        tag(
            "div",
            tag("span", "What each knob buys", class_="effects-title"),
            tag("select", [tag("option", stage_title(stage), value=stage) for stage in stages], id="effect-stage",
                aria_label="Stage of the effects"),
            tag("button", "All levels", type="button", id="effect-all", aria_pressed="false")
            if any(len(levels) > LEVELS_AT_FIRST for levels in summary.knobs.values())
            else None,
            class_="toolbar",
        ),
        note("There are too few inputs for intervals (six are needed), so these ratios may be chance.", kind="warning")
        if not any(level.ratio.low is not None for effect in summary.effects for level in effect.levels)
        else None,
        note(visits[0], kind="warning") if visits and visits[1] else None,
        note(grade_words(summary) or "", kind="warning") if silent_knobs(summary) else None,
        chart("effects", "For each knob and level the ratio against the base level, with its 95 % interval"),
        tag(
            "p",
            "A bar is the ratio to the base level, on the same samples and with the same values of all other knobs. "
            "The line is the 95 % interval; a grey bar shows no difference."
            + (f" {visits[0]}" if visits and not visits[1] else "")
            + (" There are few inputs, so the intervals come from repeats and hold for these only." * by_repeats),
            class_="hero-note",
        ),
        _interactions(summary),
        class_="effects",
    )  # fmt: skip


def _interactions(summary: SweepSummary) -> Html | None:
    """The knobs whose effect depends on another knob, so that one figure would mislead."""
    ordered = sorted(summary.interactions, key=lambda one: one.stage != "total")  # the total's first, strongest first
    lines = [tag("li", interaction_words(one)) for one in ordered[:100]]
    if not lines:
        return None
    return join(
        tag("h3", "One knob changes what another buys"),
        tag("ul", lines[:INTERACTIONS_SHOWN], class_="interactions"),
        details(f"{len(lines) - INTERACTIONS_SHOWN} more", tag("ul", lines[INTERACTIONS_SHOWN:], class_="interactions"))
        if len(lines) > INTERACTIONS_SHOWN
        else None,
    )
