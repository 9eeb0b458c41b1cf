"""The page of an evaluation: how good the predictions are, how good they could be, and whether the bounds hold."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from laptime import __version__
from laptime.estimate.judge.evaluation_result import Evaluation, GroupScores, SplitScores
from laptime.estimate.learn.card import ModelCard
from laptime.report.estimate.terminal import (
    QUESTIONS,
    SPLITS,
    ceiling_lines,
    evaluation_headline,
    figure_rows,
    filter_lines,
    plain_percent,
)
from laptime.report.kit.html import Html, chart, definitions, note, section, table, tag
from laptime.report.kit.numbers import number
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line

SCRIPTS = (
    "kit/charts/scale.js",
    "kit/charts/log_scale.js",
    "kit/charts/tooltip.js",
    "estimate/ceiling_bars.js",
    "estimate/prediction_scatter.js",
    "estimate/residual_panels.js",
    "estimate/coverage_dots.js",
    "estimate/score_bars.js",
    "estimate/page.js",
)
GROUPS_DRAWN = 60
NAME_LIMIT = 300


def estimate_page(found: Evaluation, card: ModelCard | None = None) -> str:
    """The whole page as one HTML document. `card` adds what the estimator was chosen from."""
    covered = [split for split in found.splits if split.groups]
    sections = [
        _scores_section(found),
        _scatter_section(found),
        _residual_section(found) if found.points.features else None,
        _coverage_section(found, covered) if covered else None,
        _candidates_section(card) if card is not None and card.scores else None,
        _card_section(card) if card is not None else None,
    ]
    return document(
        title=one_line(found.source or found.target, 200),
        headline=evaluation_headline(found),
        meta=_facts(found),
        lead=_lead(found),
        sections=[part for part in sections if part is not None],
        data=_data(found, card, covered),
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("estimate/page.css")],
        footer=[f"laptime {__version__}", found.schema],
    )


def coverage_interval(coverage: float, rows: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927), rows taken as independent: for repeats it is too narrow."""
    z2 = 1.959963984540054**2
    middle = (coverage + z2 / (2 * rows)) / (1 + z2 / rows)
    half = sqrt(z2 * (coverage * (1 - coverage) + z2 / (4 * rows)) / rows) / (1 + z2 / rows)
    return max(0.0, middle - half), min(1.0, middle + half)


def _facts(found: Evaluation) -> list[str]:
    return [
        one_line(found.target, 80),
        counted(found.rows, "row"),
        counted(found.configurations, "configuration"),
        f"bound for {plain_percent(found.q)}",
    ]


def _lead(found: Evaluation) -> Html:
    drawn = any("r2" in split.metrics for split in found.splits)
    return tag(
        "div",
        tag("p", " ".join(ceiling_lines(found)), class_="lead"),
        tag("div", chart("ceiling", "R² beside the best that any predictor could reach"), class_="header-chart")
        if drawn
        else None,
        [note(one_line(line, 400), kind="warning") for line in found.notes],
    )


def _scores_section(found: Evaluation) -> Html:
    extra: list[Html] = []
    if found.filtered is not None and found.unfiltered is not None:
        extra = [
            tag("h3", "Fitted on all rows instead"),
            tag("p", " ".join(filter_lines(found.filtered))),
            _scores_table(found.unfiltered, found.q),
        ]
    return section(
        "Scores",
        _scores_table(found.splits, found.q),
        *extra,
        id="scores",
        lead="Every row was predicted by an estimator that had not seen it, unless the table was judged as it is. "
        "“R² within reach” is what a perfect predictor of configurations would get on the same rows.",
    )


def _scores_table(splits: Sequence[SplitScores], q: float) -> Html:
    heads = ["", *(SPLITS.get(split.kind, split.kind) for split in splits)]
    return table(heads, figure_rows(splits, q), numeric=range(1, len(heads)))


def _scatter_section(found: Evaluation) -> Html:
    kinds = list(dict.fromkeys(found.points.kind))
    options = [tag("option", SPLITS.get(kind, kind), value=kind) for kind in kinds]
    legend = [
        tag("li", tag("span", class_="swatch held"), "inside the training domain"),
        tag("li", tag("span", class_="swatch beyond"), "near or outside it"),
        tag("li", tag("span", class_="swatch missed"), "above its bound"),
    ]
    return section(
        "Predicted against measured",
        tag("div", tag("label", "held out: ", tag("select", options, id="split")), class_="toolbar")
        if len(kinds) > 1
        else None,
        chart("scatter", "Predicted against measured times, with bounds"),
        tag("ul", legend, class_="legend"),
        id="scatter-section",
        lead="A dot on the dashed line was predicted exactly; the hair reaches up to the dot's bound.",
    )


def _residual_section(found: Evaluation) -> Html:
    return section(
        "Residuals by feature",
        chart("residuals", "Measured over predicted, against each numeric feature"),
        id="residuals-section",
        lead="Measured over predicted. A slope or a wave is something that the estimator has not learnt.",
    )


def _coverage_section(found: Evaluation, covered: Sequence[SplitScores]) -> Html:
    parts: list[Html] = []
    for split in covered:
        parts.append(tag("h3", SPLITS.get(split.kind, split.kind)))
        parts.append(chart(f"coverage-{split.kind}", f"How often the bound held, by group: {split.kind}"))
        if len(split.groups) > GROUPS_DRAWN:
            parts.append(tag("p", f"{len(split.groups) - GROUPS_DRAWN} more groups are in the JSON."))
    by = one_line(", ".join(found.grouped_by), 200)
    return section(
        "Coverage by group",
        *parts,
        id="coverage",
        lead=f"By {by}; least covered first. The line is the {plain_percent(found.q)} that was asked; "
        "a group whose whole interval lies below it is red.",
    )


def _candidates_section(card: ModelCard) -> Html:
    parts: list[Html] = []
    for question in dict.fromkeys(score.question for score in card.scores):
        parts.append(tag("h3", QUESTIONS.get(question, question).capitalize()))
        parts.append(
            tag("div", class_="chart", data_question=question, role="group", aria_label=f"Candidates for {question}")
        )
    return section(
        "Candidates",
        *parts,
        id="candidates",
        lead="Mean error of the twelve best candidates on each question's held-out rows; the full bar was chosen.",
    )


def _card_section(card: ModelCard) -> Html:
    ranges = [
        [one_line(r.feature, NAME_LIMIT), number(r.low, 4), number(r.high, 4), str(r.distinct)] for r in card.ranges
    ]
    levels = [(one_line(name, NAME_LIMIT), one_line(", ".join(some), 2000)) for name, some in card.levels.items()]
    chosen = [
        (QUESTIONS.get(c.question, c.question), one_line("; ".join([c.candidate, *c.terms]), 1000))
        for c in card.choices
    ]
    return section(
        "Model card",
        table(["feature", "lowest", "highest", "distinct"], ranges, numeric=[1, 2, 3]) if ranges else None,
        definitions(levels) if levels else None,
        tag("h3", "Chosen, with its terms"),
        definitions(chosen),
        [note(one_line(line, 600)) for line in card.notes],
        id="card",
        lead=f"{counted(card.rows, 'row')}, {counted(card.configurations, 'configuration')}, seed {card.seed}, "
        f"laptime {one_line(card.laptime, 40)}.",
    )


def _data(found: Evaluation, card: ModelCard | None, covered: Sequence[SplitScores]) -> dict[str, Any]:
    names = {name: one_line(name, NAME_LIMIT) for name in found.points.features}
    return {
        "target": one_line(found.target, 80),
        "q": found.q,
        "ceiling": found.ceiling,
        "splits": [_drawn(split) for split in found.splits],
        "points": {
            "kind": found.points.kind,
            "group": [one_line(group, NAME_LIMIT) for group in found.points.group],
            "support": found.points.support,
            "actual_ms": found.points.actual_ms,
            "median_ms": found.points.median_ms,
            "bound_ms": found.points.bound_ms,
            "features": {names[name]: values for name, values in found.points.features.items()},
        },
        "coverage": [{"id": f"coverage-{s.kind}", "groups": _groups(s.groups)} for s in covered],
        "scores": [
            {"question": s.question, "name": one_line(s.name, NAME_LIMIT), "error": s.error, "chosen": s.chosen}
            for s in (card.scores if card else [])
        ],
    }


def _drawn(split: SplitScores) -> dict[str, Any]:
    r2 = split.metrics.get("r2")
    return {
        "name": SPLITS.get(split.kind, split.kind),
        "r2": r2.mean if r2 else None,
        "r2_low": r2.low if r2 else None,
        "r2_high": r2.high if r2 else None,
        "n": r2.n if r2 else 0,
        "reachable": split.reachable_r2.mean if split.reachable_r2 else None,
    }


def _groups(groups: Sequence[GroupScores]) -> list[dict[str, Any]]:
    worst = sorted(groups, key=lambda group: 1.0 if group.coverage is None else group.coverage)[:GROUPS_DRAWN]
    drawn = []
    for group in worst:
        given = group.rows - group.abstained
        low, high = (None, None) if group.coverage is None else coverage_interval(group.coverage, given)
        drawn.append(
            {
                "group": one_line(group.group, NAME_LIMIT),
                "rows": group.rows,
                "coverage": group.coverage,
                "low": low,
                "high": high,
                "width": group.width,
            }
        )
    return drawn
