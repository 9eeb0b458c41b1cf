"""What the page of an evaluation draws from, and the JSON of fits and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laptime.data.json_text import readable_json
from laptime.data.stats import wilson
from laptime.estimate.judge.evaluation_result import Evaluation, GroupScores, SplitScores
from laptime.estimate.learn.card import ModelCard
from laptime.estimate.run_evaluation import JudgedEstimator
from laptime.estimate.run_fit import FittedRun
from laptime.report.estimate.words import SPLITS
from laptime.report.kit.text import one_line

GROUPS_DRAWN = 60
NAME_LIMIT = 300


def fit_json(fitted: FittedRun) -> bytes:
    """Schema laptime.fit/1: the model card of each estimator, by the folder that it was saved in."""
    cards = {str(one.folder or target): one.estimator.card for target, one in fitted.targets.items()}
    return readable_json({"schema": "laptime.fit/1", "estimators": cards, "skipped": fitted.skipped})


def judged_json(judged: JudgedEstimator) -> bytes:
    """Schema laptime.evaluation/1."""
    return readable_json(judged.evaluation)


def page_data(evaluation: Evaluation, card: ModelCard | None, covered: Sequence[SplitScores]) -> dict[str, Any]:
    """What the page's scripts read. `covered`: the splits whose coverage by group is drawn."""
    names = {name: one_line(name, NAME_LIMIT) for name in evaluation.points.features}
    return {
        "target": one_line(evaluation.target, 80),
        "q": evaluation.q,
        "ceiling": evaluation.ceiling,
        "splits": [_drawn(split) for split in evaluation.splits],
        "points": {
            "kind": evaluation.points.kind,
            "group": [one_line(group, NAME_LIMIT) for group in evaluation.points.group],
            "support": evaluation.points.support,
            "actual_ms": evaluation.points.actual_ms,
            "median_ms": evaluation.points.median_ms,
            "bound_ms": evaluation.points.bound_ms,
            "features": {names[name]: values for name, values in evaluation.points.features.items()},
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
    """The least covered groups first, each with the interval of its coverage: rows count as independent."""
    worst = sorted(groups, key=lambda group: 1.0 if group.coverage is None else group.coverage)[:GROUPS_DRAWN]
    drawn = []
    for group in worst:
        given = group.rows - group.abstained
        interval = None if group.coverage is None else wilson(group.coverage, given)
        drawn.append(
            {
                "group": one_line(group.group, NAME_LIMIT),
                "rows": group.rows,
                "coverage": group.coverage,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "width": group.width,
            }
        )
    return drawn
