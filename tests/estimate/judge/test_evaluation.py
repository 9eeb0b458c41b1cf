"""Evaluation: held-out figures by hand, R2 beside what was reachable, groups, outliers, one value in three faces."""

from __future__ import annotations

import io
import math

import msgspec
import numpy as np
import polars as pl
import pytest
from rich.console import Console

from laptime.errors import LaptimeError
from laptime.estimate.judge.evaluation import cross_evaluate, evaluate
from laptime.estimate.judge.evaluation_result import METRICS, Evaluation
from laptime.estimate.judge.splits import by_group, held_out, largest, outlier_filter, product, row_labels
from laptime.report.estimate.terminal import evaluation_report
from tests.estimate.log_linear import LogLinear, step_table

FEATURES, NAMES = ["batch", "prompt"], ["model"]


def fit(rows, seed):
    return LogLinear("step_ms", FEATURES, NAMES, ["config"]).fit(rows)


def splits(table):
    sizes = product([table["batch"].to_numpy(), table["prompt"].to_numpy()])
    yield from by_group("new-config", row_labels([table["config"].to_numpy()], len(table)), seeds=range(3))
    yield from largest(sizes, name="batch × prompt")
    yield from held_out("model", table["model"].to_list())


@pytest.fixture(scope="module")
def judged():
    table = step_table(noise=0.2)
    return table, cross_evaluate(fit, table, splits(table), source="steps.csv")


def test_figures_are_of_rows_that_were_held_out(judged):
    table, evaluation = judged
    assert [split.kind for split in evaluation.splits] == ["new-config", "largest", "held-out"]
    (split,) = largest(product([table["batch"].to_numpy(), table["prompt"].to_numpy()]))
    estimator, test = fit(table[split.train], 0), table[split.test]
    actual = test["step_ms"].to_numpy()
    scores = evaluation.splits[1]
    assert scores.metrics["mape"].mean == pytest.approx(np.mean(np.abs(estimator.predict(test) / actual - 1)))
    assert scores.metrics["coverage"].mean == pytest.approx(np.mean(actual <= estimator.quantile(test, 0.95)))
    assert (scores.test_rows, scores.train_rows) == (len(split.test), len(split.train))
    assert scores.details == ["batch × prompt above 2048"]
    assert scores.support == {"inside": len(split.test), "near": 0, "outside": 0}
    assert evaluation.splits[0].metrics["mape"].n == 3
    assert set(evaluation.splits[0].metrics) == set(METRICS)


def test_r2_is_beside_what_could_be_reached(judged):
    """The generator is known: a fit of the right form reaches the ceiling, and no split's R2 exceeds it by much."""
    _, evaluation = judged
    assert evaluation.ceiling_of == [*FEATURES, *NAMES]
    assert evaluation.ceiling.low < evaluation.ceiling.value < evaluation.ceiling.high
    for split in evaluation.splits[:2]:
        r2, most = split.metrics["r2"].mean, split.reachable_r2.mean
        assert r2 <= most + 0.05
    assert evaluation.splits[0].metrics["r2"].mean >= 0.9 * evaluation.splits[0].reachable_r2.mean
    noise = math.exp(0.2**2) - 1
    assert evaluation.ceiling.cv_within**2 == pytest.approx(
        noise * (1 + evaluation.ceiling.cv_overall**2) / (1 + noise), rel=0.4
    )


def test_groups_sum_to_the_whole(judged):
    table, evaluation = judged
    assert evaluation.grouped_by == ["model"]
    for split in evaluation.splits:
        assert sum(group.rows for group in split.groups) == sum(
            len(s.test) for s in splits(table) if s.kind == split.kind
        )
    assert {group.group for group in evaluation.splits[2].groups} == {"a", "b"}
    assert evaluation.points.kind.count("largest") == evaluation.splits[1].test_rows
    assert set(evaluation.points.features) == {"batch", "prompt"}


def test_without_names_the_features_with_few_values_are_the_groups():
    table = step_table(models=("a",))
    evaluation = evaluate(LogLinear("step_ms", FEATURES, [], []).fit(table), table)
    assert evaluation.grouped_by == ["prompt", "batch"]
    assert {group.group for group in evaluation.splits[0].groups} >= {"prompt 64, batch 1", "prompt 512, batch 16"}


def test_the_json_and_the_terminal_say_the_same(judged):
    _, evaluation = judged
    again = msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation)
    assert (again.schema, again.splits, again.ceiling) == (
        "laptime.evaluation/1",
        evaluation.splits,
        evaluation.ceiling,
    )
    for width in (80, 140):
        console = Console(file=io.StringIO(), width=width, record=True)
        console.print(evaluation_report(evaluation))
        shown = console.export_text()
        assert f"{evaluation.ceiling.value:.3f}" in shown
        assert f"{evaluation.splits[1].metrics['r2'].mean:.3f}" in shown
        assert "R² within reach" in shown
        assert all(len(line) <= width for line in shown.splitlines())


def test_without_repeats_there_is_no_ceiling_and_it_says_so():
    table = step_table(repeats=1)
    evaluation = evaluate(fit(table, 0), table)
    assert (evaluation.ceiling, evaluation.splits[0].reachable_r2) == (None, None)
    assert "no two rows are alike" in evaluation.notes[0]
    assert evaluation.splits[0].kind == "given"


def test_where_every_row_differs_repeats_are_those_of_a_group():
    table = step_table().with_columns((pl.col("prompt") + pl.int_range(pl.len()) / 1e4).alias("prompt"))
    evaluation = evaluate(fit(table, 0), table)
    assert evaluation.ceiling_of == ["config"]


def test_outliers_are_left_out_of_fitting_only_and_what_that_did_is_shown():
    table = step_table(repeats=10, noise=0.02)
    slow = pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.col("step_ms") * 3).otherwise(pl.col("step_ms"))
    table = table.with_columns(slow.alias("step_ms"))
    outliers = outlier_filter(table["step_ms"].to_numpy(), table["config"].to_numpy())
    evaluation = cross_evaluate(fit, table, splits(table), outliers=outliers)
    assert evaluation.filtered.removed > 20
    assert evaluation.splits[0].test_rows == evaluation.unfiltered[0].test_rows, "every held-out row is judged"
    assert evaluation.splits[0].metrics["coverage"].mean < evaluation.unfiltered[0].metrics["coverage"].mean - 0.03
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(evaluation_report(evaluation))
    assert "further than 1.5 interquartile ranges from the quartiles" in " ".join(console.export_text().split())


def test_bad_input_is_one_line():
    table = step_table(repeats=1)
    with pytest.raises(LaptimeError, match="nothing to hold out"):
        cross_evaluate(fit, table, [])
    with pytest.raises(LaptimeError, match="step_ms"):
        evaluate(fit(table, 0), table.drop("step_ms"))
    with pytest.raises(LaptimeError, match="negative"):
        evaluate(fit(table, 0), table.with_columns(-pl.col("step_ms")))
