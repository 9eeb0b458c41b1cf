"""The picture under a sweep's headline: what each knob buys, and where one figure for a knob would mislead."""

from __future__ import annotations

from laptime.report.kit.html import Html, chart, details, join, note, tag
from laptime.report.sweep.data import effect_stages
from laptime.report.sweep.view import CampaignView
from laptime.report.sweep.words import interaction_words, stage_title, visit_words
from laptime.sweeps.summary.result import SweepSummary

INTERACTIONS_SHOWN = 3
LEVELS_AT_FIRST = 8
"""Of a knob with more levels the page shows some until asked for all (assets/effect_rows.js)."""


def campaign_lead(view: CampaignView) -> Html:
    """What each knob buys: the picture under the headline."""
    summary = view.summary
    if not any(row.samples for row in summary.rows):
        return note("The run holds no finished sample; what failed, and why, stands under Failures.", kind="warning")
    stages = effect_stages(summary)
    if not stages:
        return note(
            "No knob has two levels that were measured on the same samples with the other knobs held, so there is "
            "no effect to show. Sweep at least two values of a knob."
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
        note("Too few inputs for intervals (six are needed): these ratios may be chance.", kind="warning")
        if not any(level.ratio.low is not None for effect in summary.effects for level in effect.levels)
        else None,
        note(visits[0], kind="warning") if visits and visits[1] else None,
        chart("effects", "For each knob and level the ratio against the base level, with its 95 % interval"),
        tag(
            "p",
            "Ratio against the base level, matched: the same samples under the same values of every other knob. "
            "Line: 95 % interval; grey: no difference shown."
            + (f" {visits[0]}" if visits and not visits[1] else "")
            + (" Few inputs: the intervals come from repeats and speak of these inputs only." * by_repeats),
            class_="hero-note",
        ),
        _interactions(summary),
        class_="effects",
    )  # fmt: skip


def _interactions(summary: SweepSummary) -> Html | None:
    """Where one figure for a knob misleads, because it depends on another knob."""
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
