"""The page of an evaluation: how good the predictions are, how good they could be, and whether the bounds hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from laptime import __version__
from laptime.estimate.judge.evaluation_result import Evaluation, SplitScores
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.run_evaluation import JudgedEstimator
from laptime.report.estimate.data import GROUPS_DRAWN, NAME_LIMIT, page_data
from laptime.report.estimate.terminal import figure_rows
from laptime.report.estimate.words import (
    QUESTIONS,
    SPLITS,
    ceiling_lines,
    evaluation_headline,
    filter_lines,
    repeats_text,
)
from laptime.report.kit.html import Html, chart, definitions, note, section, table, tag
from laptime.report.kit.numbers import count, number, plain_percent
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


def judged_page(judged: JudgedEstimator) -> str:
    """The page of the evaluation, with the card of what was judged."""
    return estimate_page(judged.evaluation, judged.card)


def estimate_page(evaluation: Evaluation, card: ModelCard | None = None) -> str:
    """The whole page as one HTML document. `card` adds what the estimator was chosen from."""
    covered = [split for split in evaluation.splits if split.groups]
    sections = [
        _scores_section(evaluation),
        _scatter_section(evaluation),
        _residual_section(evaluation) if evaluation.points.features else None,
        _coverage_section(evaluation, covered) if covered else None,
        _candidates_section(card) if card is not None and card.scores else None,
        _card_section(card) if card is not None else None,
    ]
    return document(
        title=one_line(evaluation.source or evaluation.target, 200),
        headline=evaluation_headline(evaluation),
        meta=_facts(evaluation),
        lead=_lead(evaluation),
        sections=[part for part in sections if part is not None],
        data=page_data(evaluation, card, covered),
        scripts=[asset(name) for name in SCRIPTS],
        styles=[asset("estimate/page.css")],
        footer=[f"laptime {__version__}", evaluation.schema],
    )


def _facts(evaluation: Evaluation) -> list[str]:
    return [
        one_line(evaluation.target, 80),
        counted(evaluation.rows, "row"),
        f"{count(evaluation.different_rows)} different",
        f"bound for {plain_percent(evaluation.q)}",
    ]


def _sentences(lines: Iterable[str]) -> str:
    """Lines of a terminal as one paragraph."""
    said = ""
    for line in lines:
        said += f", {line}" if said and line.startswith(("of which", "so ")) else f"{'. ' if said else ''}{line}"
    return f"{said}."


def _lead(evaluation: Evaluation) -> Html:
    drawn = any("r2" in split.metrics for split in evaluation.splits)
    return tag(
        "div",
        tag("p", _sentences(ceiling_lines(evaluation)), class_="lead"),
        tag("div", chart("ceiling", "R² beside the best that any predictor could reach"), class_="header-chart")
        if drawn
        else None,
        [note(one_line(line, 400), kind="warning") for line in evaluation.notes],
    )


def _scores_section(evaluation: Evaluation) -> Html:
    extra: list[Html] = []
    if evaluation.filtered is not None and evaluation.unfiltered is not None:
        extra = [
            tag("h3", "Fitted on all rows instead"),
            tag("p", " ".join(filter_lines(evaluation.filtered))),
            _scores_table(evaluation.unfiltered, evaluation.q),
        ]
    lead = "Every row was predicted by an estimator that had not seen it, except in “the table as it is”."
    if any(split.kind != "given" and split.reachable_r2 is not None for split in evaluation.splits):
        lead += f" “R² within reach” is what the true mean of {repeats_text(evaluation)} would get on the same rows."
    return section(
        "Scores",
        _scores_table(evaluation.splits, evaluation.q),
        *extra,
        id="scores",
        lead=lead,
    )


def _scores_table(splits: Sequence[SplitScores], q: float) -> Html:
    heads = ["", *(SPLITS.get(split.kind, split.kind) for split in splits)]
    return table(heads, figure_rows(splits, q), numeric=range(1, len(heads)))


def _scatter_section(evaluation: Evaluation) -> Html:
    kinds = list(dict.fromkeys(evaluation.points.kind))
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
        lead="A dot on the dashed line was predicted exactly. The thin line above a dot ends at its bound.",
    )


def _residual_section(evaluation: Evaluation) -> Html:
    return section(
        "Residuals by feature",
        chart("residuals", "Measured over predicted, against each numeric feature"),
        id="residuals-section",
        lead="Measured over predicted. A slope or a wave means that the estimator has not learnt something.",
    )


def _coverage_section(evaluation: Evaluation, covered: Sequence[SplitScores]) -> Html:
    parts: list[Html] = []
    for split in covered:
        parts.append(tag("h3", SPLITS.get(split.kind, split.kind)))
        parts.append(chart(f"coverage-{split.kind}", f"How often the bound held, by group: {split.kind}"))
        if len(split.groups) > GROUPS_DRAWN:
            parts.append(tag("p", f"{len(split.groups) - GROUPS_DRAWN} more groups are in the JSON."))
    by = one_line(", ".join(evaluation.grouped_by), 200)
    return section(
        "Coverage by group",
        *parts,
        id="coverage",
        lead=f"By {by}, the least covered first. The line is the {plain_percent(evaluation.q)} that was asked for. "
        "A group is red when its whole interval lies below the line.",
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
        lead="Mean error of the twelve best candidates on each question's held-out rows. The dark bar was chosen.",
    )


def _card_section(card: ModelCard) -> Html:
    ranges = [
        [one_line(r.feature, NAME_LIMIT), number(r.low, 4), number(r.high, 4), count(r.distinct)] for r in card.ranges
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
        lead=f"{counted(card.rows, 'row')}, {count(card.configurations)} different, "
        f"seed {card.seed}, laptime {one_line(card.laptime, 40)}.",
    )
