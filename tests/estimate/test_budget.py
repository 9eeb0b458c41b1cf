"""A budget: yes or no by the bound, the best that is feasible, and what rules of thumb cost by measured times."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.budget import judge_budget
from laptime.estimate.rules_of_thumb import rules_of_thumb
from tests.estimate.log_linear import LogLinear, step_table

TABLE = step_table(repeats=20, noise=0.1)
MADE = LogLinear("step_ms", ["batch", "prompt"], ["model"]).fit(TABLE)
CONFIGS = TABLE.select("batch", "prompt", "model").unique(maintain_order=True)
MEASURED = [
    TABLE.filter((pl.col("batch") == b) & (pl.col("prompt") == p) & (pl.col("model") == m))["step_ms"].to_numpy()
    for b, p, m in CONFIGS.iter_rows()
]


@settings(deadline=None)
@given(st.floats(1.0, 400.0), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_within_is_exactly_the_probability_that_was_asked(budget, confidence):
    report = judge_budget(MADE, CONFIGS, budget_ms=budget, confidence=confidence)
    assert report.feasible == sum(answer.within for answer in report.answers)
    for answer in report.answers:
        assert answer.within == (answer.bound_ms <= budget)
        assert answer.within == (answer.probability >= confidence - 1e-9)
    assert [answer.within for answer in report.answers] == sorted((a.within for a in report.answers), reverse=True)


def test_the_best_is_the_most_accurate_feasible_and_the_faster_of_equals():
    accuracy = np.where(CONFIGS["prompt"] == 256, 0.9, 0.5)
    accuracy[CONFIGS["prompt"].to_numpy() == 128] = np.nan
    report = judge_budget(MADE, CONFIGS, budget_ms=40.0, accuracy=accuracy)
    assert (report.best.config["prompt"], report.best.accuracy) == (256, 0.9)
    feasible = [a for a in report.answers if a.within and a.accuracy == 0.9]
    assert report.best.bound_ms == min(a.bound_ms for a in feasible)
    assert judge_budget(MADE, CONFIGS, budget_ms=0.1).best is None
    slowest = judge_budget(MADE, CONFIGS, budget_ms=40.0).best
    assert slowest.bound_ms == max(a.bound_ms for a in report.answers if a.within)


@settings(deadline=None)
@given(st.floats(1.0, 400.0), st.sampled_from([0.5, 0.9, 0.95]))
def test_one_of_many_is_chosen_at_half_the_risk(budget: float, confidence: float) -> None:
    accuracy = np.linspace(0.3, 0.9, len(CONFIGS))
    report = judge_budget(MADE, CONFIGS, budget_ms=budget, confidence=confidence, accuracy=accuracy)
    strict = MADE.quantile(CONFIGS, 1 - (1 - confidence) / 2)
    sure = strict <= budget
    if report.feasible == 0:
        assert (report.best, report.chosen_at) == (None, None)
    elif sure.any():
        assert report.chosen_at == 1 - (1 - confidence) / 2
        assert report.best.accuracy == accuracy[sure].max()
    else:
        assert report.chosen_at == confidence
        assert report.best.bound_ms == min(answer.bound_ms for answer in report.answers if answer.within)
    alone = judge_budget(MADE, CONFIGS.head(1), budget_ms=budget, confidence=confidence)
    assert alone.chosen_at in (None, confidence)  # a single one is no choice


def test_rules_of_thumb_are_judged_by_what_was_measured():
    report = judge_budget(MADE, CONFIGS, budget_ms=30.0, measured=MEASURED)
    rules = {rule.rule: rule for rule in report.rules}
    assert set(rules) == {"calibrated bound", *rules_of_thumb(np.ones(1), 1.0)}
    truly = [float((times <= 30.0).mean()) >= 0.95 for times in MEASURED]
    plain = rules["prediction"]
    admitted = MADE.predict(CONFIGS) <= 30.0
    assert plain.admitted == admitted.sum()
    assert plain.wrongly_admitted == sum(a and not t for a, t in zip(admitted, truly, strict=True)) > 0
    assert plain.wrongly_refused == sum(t and not a for a, t in zip(admitted, truly, strict=True))
    assert rules["calibrated bound"].wrongly_admitted < plain.wrongly_admitted
    assert rules["calibrated bound"].late < 0.05
    assert rules["prediction + 25 %"].admitted <= rules["prediction + 20 %"].admitted <= plain.admitted
    assert rules["prediction + 25 %"].unused > plain.unused
    assert report.measured_rows == len(TABLE)
    assert report.sigma_ms == pytest.approx(
        float(np.std(np.concatenate([t - m for t, m in zip(MEASURED, MADE.predict(CONFIGS), strict=True)]))), rel=0.1
    )


def test_without_measurements_rules_are_counted_only():
    report = judge_budget(MADE, CONFIGS, budget_ms=30.0)
    assert {(rule.wrongly_admitted, rule.late) for rule in report.rules} == {(None, None)}
    assert report.sigma_ms > 0
    assert report.sigma_configurations == len(CONFIGS)


def test_a_configuration_outside_changes_no_other_one_s_standard_deviation():
    class Inside(LogLinear):
        """As the law it is fitted to, with bounds that are three times as wide above a batch of 100."""

        def quantile(self, frame, q):
            return super().quantile(frame, q) * np.where(frame["batch"].to_numpy() > 100, 3.0, 1.0)

        def support(self, frame):
            return [SimpleNamespace(where="outside" if batch > 100 else "inside") for batch in frame["batch"]]

    estimator = Inside("step_ms", ["batch", "prompt"]).fit(TABLE)
    alone = judge_budget(estimator, CONFIGS, budget_ms=30.0)
    far = CONFIGS.head(1).with_columns(pl.lit(200).cast(CONFIGS["batch"].dtype).alias("batch"))
    more = judge_budget(estimator, pl.concat([CONFIGS, far]), budget_ms=30.0)
    assert (more.sigma_ms, more.sigma_configurations) == (alone.sigma_ms, len(CONFIGS))


def test_no_bound_is_a_no():
    class Abstains(LogLinear):
        def quantile(self, frame, q):
            return np.full(len(frame), np.inf)

        def probability_within(self, frame, budget_ms):
            return np.zeros(len(frame))

    estimator = Abstains("step_ms", ["batch", "prompt"]).fit(TABLE)
    report = judge_budget(estimator, CONFIGS.head(1), budget_ms=1e9)
    assert (report.feasible, report.abstained, report.best) == (0, 1, None)
    assert (report.answers[0].bound_ms, report.answers[0].within, report.sigma_ms) == (None, False, 0.0)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"budget_ms": 0.0}, "budget of 0 ms"),
        ({"budget_ms": float("nan")}, "budget of nan ms"),
        ({"budget_ms": 10.0, "confidence": 1.0}, "confidence 1"),
    ],
)
def test_bad_input_is_one_line(how, words):
    with pytest.raises(LaptimeError, match=words):
        judge_budget(MADE, CONFIGS, **how)
    with pytest.raises(LaptimeError, match="empty"):
        judge_budget(MADE, CONFIGS.head(0), budget_ms=1.0)
