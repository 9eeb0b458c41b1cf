"""The page of a sweep: one picture of what each knob buys, then every configuration behind it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from laptime import __version__
from laptime.data.files import write_whole
from laptime.errors import LaptimeError
from laptime.report.audit.terminal import audit_notes
from laptime.report.kit.html import Html, chart, details, join, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line, shortened
from laptime.report.sweep.accuracy import accuracy_section
from laptime.report.sweep.data import by_tier, range_panels, sweep_data
from laptime.report.sweep.effects import sweep_lead
from laptime.report.sweep.environment import sweep_environment
from laptime.report.sweep.view import FailedConfig, SweepView, read_sweep_view, sweep_json
from laptime.report.sweep.words import (
    config_text,
    drift_words,
    grade_words,
    headline,
    samples_words,
)
from laptime.sweeps.summary.result import SweepSummary

SCRIPTS = (
    "kit/charts/scale.js",
    "kit/charts/log_scale.js",
    "kit/charts/ratio_ticks.js",
    "kit/charts/tooltip.js",
    "kit/charts/heat_map.js",
    "sweep/effect_rows.js",
    "kit/charts/range_rows.js",
    "sweep/pareto.js",
    "sweep/drift.js",
    "sweep/config_table.js",
    "sweep/page.js",
)
FAILED_SHOWN = 200


def sweep_page(view: SweepView) -> str:
    """The whole page as one HTML document."""
    summary, data = view.summary, sweep_data(view)
    sections = [
        _heat_section(data),
        _range_section(summary),
        accuracy_section(summary),
        _drift_section(view),
        _table_section(summary),
        _failure_section(view),
        sweep_environment(view),
    ]
    return document(
        title=one_line(_model(view), 200),
        headline=headline(summary),
        meta=_facts(view),
        lead=join(
            *(note(one, kind="warning") for one in view.cautions),
            audit_notes(view.audit) if view.audit else None,
            sweep_lead(view),
        ),
        sections=[part for part in sections if part is not None],
        data=data,
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("sweep/page.css")],
        footer=[
            f"laptime {view.info.laptime if view.info else __version__}",
            *(f"environment {key}" for key in list(view.environments)[:4]),
            summary.schema,
        ],
    )


def write_sweep_report(folder: Path) -> SweepView:
    """Write summary.json and report.html of a sweep's folder, and return what they show.

    Raises LaptimeError when they can't be written.
    """
    view = read_sweep_view(folder)
    try:
        write_whole(folder / "summary.json", sweep_json(view) + b"\n")
        write_whole(folder / "report.html", sweep_page(view).encode())
    except OSError as error:
        raise LaptimeError(
            f"{folder}: {error.strerror}; every sample is kept: mend that, then laptime report {folder}"
        ) from error
    return view


def _model(view: SweepView) -> str:
    rows = view.summary.rows
    model = (rows[0].config if rows else view.info.config if view.info else {}).get("model")
    return str(model or view.path)


def _facts(view: SweepView) -> list[str]:
    rows = view.summary.rows
    failures = sum(row.failures for row in rows)
    machines = dict.fromkeys(
        one.gpu if one.gpu and one.device != "cpu" else one.cpu for one in view.environments.values()
    )
    torches = dict.fromkeys(one.torch for one in view.environments.values() if one.torch)
    return [
        *(one_line(machine, 80) for machine in list(machines)[:3]),
        *(f"torch {one_line(torch, 40)}" for torch in list(torches)[:3]),
        counted(len(rows), "configuration"),
        samples_words(rows),
        *([f"{count(failures)} failed"] if failures else []),
        *([_created(view.info.created_unix_ms)] if view.info else []),
    ]  # fmt: skip


def _heat_section(data: dict[str, Any]) -> Html | None:
    """The heat map of a figure over two knobs, and the menus for the figure, the axes and the other knobs."""
    knobs, measures, heat = data["knobs"], data["measures"], data["heat"]
    if not knobs or not measures:
        return None

    def axis(id_: str, chosen: int | None) -> Html:
        options = [tag("option", knob["title"], value=i, selected=i == chosen) for i, knob in enumerate(knobs)]
        return tag("select", options, id=id_)

    return section(
        "Two knobs at a time",
        tag(
            "div",
            tag("select", [tag("option", measure["title"], value=i) for i, measure in enumerate(measures)],
                id="heat-measure", aria_label="Figure of the heat map"),
            tag("label", "across", axis("heat-x", heat["x"])),
            tag("label", "down", axis("heat-y", heat["y"])) if len(knobs) > 1 else None,
            tag("span", id="heat-others", class_="toolbar-group"),
            class_="toolbar",
        ),
        chart("heat-map", "Heat map of the chosen figure over two knobs", class_="heat-scroll"),
        id="heat",
        lead="A cell is the median of its configurations. A hatched cell could not be measured. A red corner says that "
        "part of it failed. An empty cell is not in the sweep. Point at a cell to see its interval, or why it failed.",
    )  # fmt: skip


def _range_section(summary: SweepSummary) -> Html | None:
    panels = range_panels(summary)
    if not panels:
        return None
    what = "image tier" if by_tier(summary) else "number of crops"

    def span(one: dict[str, Any], low: str, high: str) -> str:
        return f"{text(one[low], 'ms')} to {text(one[high], 'ms')}"

    rows = [
        [panel["name"], one["tier"], count(one["n"]), text(one["median"], "ms"), span(one, "low", "high"),
         span(one, "min", "max")]
        for panel in panels
        for one in panel["rows"]
    ]  # fmt: skip
    return section(
        f"Ranges by {what}",
        tag("div", [chart(panel["id"], f"{panel['name']} by {what}") for panel in panels], id="ranges"),
        details(
            "The figures",
            table(["stage", what, "calls", "median", "5–95 %", "least to most"], rows, numeric=[2, 3, 4, 5]),
        ),
        id="range-section",
        lead="These are all calls of all configurations. The line goes from the least to the most, the bar from the "
        "5th to the 95th percentile; the mark is the median.",
    )


def _drift_section(view: SweepView) -> Html | None:
    drift = view.summary.drift
    if drift is None or not drift.points:
        return None
    words = drift_words(view.summary) if view.rounds != 1 else None
    return section(
        "Over the run",
        note(f"{words}.") if words else None,
        chart("drift", "Total over the run, once configuration and input are taken out"),
        id="drift-section",
        lead="How long calls took, as a ratio to the median of their own configuration. The band is the 95 % interval"
        + (", the dashes are the trend." if drift.trend else ".")
        + (
            f" Each configuration was measured in {view.rounds} rounds, so drift can't look like an effect of a knob."
            if (view.rounds or 0) > 1
            else ""
        )
        + (" There was one round, so drift is hidden in the medians." if view.rounds == 1 else ""),
    )


def _table_section(summary: SweepSummary) -> Html | None:
    if not summary.rows:
        return None
    flagged = grade_words(summary)
    return section(
        "Every configuration",
        note(flagged, kind="warning") if flagged else None,
        tag(
            "div",
            tag("input", type="search", id="config-filter", placeholder="Filter: knob values, id, reason of a failure",
                autocomplete="off", aria_label="Filter configurations"),
            tag("button", "All figures", type="button", id="config-all", aria_pressed="false"),
            tag("span", id="config-count", class_="count", role="status"),
            class_="toolbar",
        ),
        tag("div", id="config-table"),
        id="configs",
        lead="Medians over the samples with their 95 % intervals (with fewer than six samples there is none). Click a "
        "heading to sort.",
    )  # fmt: skip


def _failure_section(view: SweepView) -> Html | None:
    if not view.failed:
        return None
    rows = [
        [_failed_name(one, view.summary), count(one.failures), [tag("div", line) for line in _errors(one)]]
        for one in view.failed[:FAILED_SHOWN]
    ]
    failures = sum(one.failures for one in view.failed)
    more = len(view.failed) - FAILED_SHOWN
    return section(
        "Failures",
        table(["configuration", "samples", "reason"], rows, numeric=[1]),
        note(f"{counted(more, 'more configuration')} in the run folder.") if more > 0 else None,
        id="failures",
        lead=f"{counted(failures, 'sample')} could not be measured, in {counted(len(view.failed), 'configuration')}.",
    )


def _failed_name(one: FailedConfig, summary: SweepSummary) -> str:
    return config_text(one.config, summary) if summary.knobs else shortened(one.config_id, 40)


def _errors(one: FailedConfig) -> list[str]:
    lines = [f"{error} (×{times})" if times < one.failures else error for error, times in one.errors.items()]
    return [*lines[:3], *([f"and {len(lines) - 3} other reasons"] if len(lines) > 3 else [])]


def _created(unix_ms: float) -> str:
    try:
        moment = datetime.fromtimestamp(unix_ms / 1e3, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return NOTHING
    return f"{moment:%Y-%m-%d %H:%M} UTC"
