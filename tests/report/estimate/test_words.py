"""Sentences of fit, evaluate and budget: each says what it means, and none hides a part that fails."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from laptime.estimate.budget import judge_budget
from laptime.estimate.judge.evaluation_result import GroupScores, SplitScores, Spread
from laptime.estimate.judge.weak_part import weak_part
from laptime.estimate.prediction import predict
from laptime.report.estimate.budget_terminal import budget_report
from laptime.report.estimate.terminal import evaluation_report, prediction_report
from laptime.report.estimate.words import budget_headline
from laptime.report.kit.terminal import ReportConsole
from tests.estimate.log_linear import LogLinear, step_table


def shown(report: object, width: int = 80) -> str:
    out = io.StringIO()
    ReportConsole(file=out, width=width).print(report)
    return out.getvalue()


def split(coverages: dict[str, float], rows: int = 100, kind: str = "held-out") -> SplitScores:
    groups = [
        GroupScores(group=name, rows=rows, mape=0.1, coverage=share, width=1.1, abstained=0)
        for name, share in coverages.items()
    ]
    mean = float(np.mean(list(coverages.values())))
    return SplitScores(
        kind=kind,
        details=[],
        train_rows=1,
        test_rows=rows,
        metrics={"coverage": Spread(mean, 0, mean, mean, 1)},
        reachable_r2=None,
        abstained=0.0,
        support={},
        groups=groups,
        held_rows=rows * len(coverages),
    )


@pytest.mark.parametrize(
    ("coverages", "weak"),
    [
        ({"a": 0.97, "b": 0.93, "c": 0.95}, None),  # seven of 100 missed is chance
        ({"a": 1.0, "b": 1.0, "c": 0.72}, "c"),
        ({"a": 0.7, "b": 0.5, "c": 0.72}, "b"),
    ],
)
def test_the_part_that_fails_is_named_and_chance_is_not(coverages: dict[str, float], weak: str | None) -> None:
    found = weak_part([split({"x": 0.96}, kind="random"), split(coverages)], 0.95)
    assert (found and found.group) == weak


def test_a_headline_tells_of_the_group_that_fails_and_counts_all_rows_held_out() -> None:
    from laptime.estimate.judge.evaluation import cross_evaluate
    from laptime.estimate.judge.splits import by_group

    frame = step_table(models=("a", "b", "c"))
    frame = frame.with_columns(
        step_ms=pl.when(pl.col("model") == "c").then(pl.col("step_ms") * 4).otherwise(pl.col("step_ms"))
    )

    def fit(rows: pl.DataFrame, seed: int) -> LogLinear:
        steady = rows.filter(pl.col("model") != "c")
        return LogLinear("step_ms", ["batch", "prompt"], ["model"]).fit(steady)

    labels = np.arange(len(frame))
    evaluation = cross_evaluate(fit, frame, by_group("random", labels, seeds=range(3)))
    report = shown(evaluation_report(evaluation))
    assert evaluation.weakest is not None
    assert "but for 0 % of the" in " ".join(report.split())
    assert "of c" in " ".join(report.split())
    held = sum(len(one.test) for one in by_group("random", labels, seeds=range(3)))
    assert f"{held} in 3 splits" in report


def test_a_budget_says_what_to_take_and_why() -> None:
    frame = step_table(repeats=12)
    fitted = LogLinear("step_ms", ["batch", "prompt"]).fit(frame)
    grid = frame.select("batch", "prompt").unique(maintain_order=True)
    report = judge_budget(fitted, grid, budget_ms=float(np.median(frame["step_ms"])))
    words = budget_headline(report)
    assert "Take " in words
    assert "it is the slowest that keeps the budget with 97.5 % confidence" in words.replace("\u202f", " ").replace(
        "\xa0", " "
    )
    assert "because whoever chooses among many must be surer" in words
    assert "Take" in shown(budget_report(report))


def test_names_in_a_table_of_predictions_are_never_cut() -> None:
    frame = step_table().rename({"batch": "a_rather_long_name_of_a_batch", "prompt": "and_one_of_a_prompt"})
    fitted = LogLinear("step_ms", ["a_rather_long_name_of_a_batch", "and_one_of_a_prompt"]).fit(frame)
    asked = frame.select(fitted.features).unique(maintain_order=True).head(4)
    report = shown(prediction_report(predict(fitted, asked)))
    assert "…" not in report
    assert all(name in report for name in fitted.features)
    narrow = predict(
        LogLinear("step_ms", ["batch", "prompt"]).fit(step_table()), step_table().select("batch", "prompt").head(3)
    )
    assert "batch" in shown(prediction_report(narrow)).splitlines()[1]
