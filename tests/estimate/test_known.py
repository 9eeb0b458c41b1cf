"""Which names and values an estimator knows: others are refused or unknown, never answered as if they were inside."""

from __future__ import annotations

import polars as pl
import pytest

from laptime.errors import LaptimeError
from laptime.estimate.budget import budget
from laptime.estimate.estimator import Estimator
from laptime.estimate.known import check_names, unknown_reasons
from laptime.estimate.prediction import predict
from tests.estimate.latency_table import latency_table

TABLE = latency_table(60).with_columns(pl.lit(4).alias("rows"), pl.lit("NVIDIA H200").alias("device"))
EST = Estimator(target="ms", features=["batch", "context", "rows"], categorical=["gpu", "device"]).fit(TABLE)
ROW = {"batch": 4, "context": 256, "gpu": "fast"}
ALWAYS = {"rows": 4, "device": "NVIDIA H200"}


def test_a_name_that_is_not_known_is_refused_with_those_that_are_near():
    with pytest.raises(LaptimeError, match="did you mean context"):
        check_names(EST, ["contxt"], "the rows")
    with pytest.raises(LaptimeError, match="knows no 'zzz'; it knows batch"):
        predict(EST, {**ROW, **ALWAYS, "zzz": 3})
    with pytest.raises(LaptimeError, match="did you mean batch"):
        budget(EST, {**ROW, **ALWAYS, "batchsize": 3}, 100.0)


def test_a_feature_that_never_varied_and_differs_now_is_unknown():
    same = predict(EST, {**ROW, **ALWAYS, "rows": 4.0}, budget_ms=100.0)
    assert same.unknown == [None]
    assert same.answers["support"][0] == "inside"
    for other in ({"rows": 8}, {"device": "NVIDIA A100"}):
        asked = predict(EST, {**ROW, **ALWAYS, **other}, budget_ms=100.0)
        assert asked.nothing_known
        assert asked.answers.select("median_ms", "bound_ms", "probability_within").row(0) == (None, None, None)
        assert asked.answers["support"][0] == "unknown"
        report = budget(EST, {**ROW, **ALWAYS, **other}, 1e9)
        assert (report.feasible, report.abstained, report.answers[0].support) == (0, 1, "unknown")
        assert next(iter(other)) in (report.answers[0].unknown or "")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"context": 200_000}, "context is 200000, 99"),
        ({"batch": 64, "context": 36_000}, "context is 36000, 17.9 times the largest that was measured"),
    ],
)
def test_nothing_is_promised_far_beyond(other, why):
    asked = predict(EST, {**ROW, **ALWAYS, **other}, budget_ms=1e9)
    assert asked.nothing_known
    assert why in (asked.unknown[0] or "")
    assert asked.answers.select("median_ms", "bound_ms", "probability_within").row(0) == (None, None, None)
    report = budget(EST, {**ROW, **ALWAYS, **other}, 1e9)
    assert (report.feasible, report.abstained, report.answers[0].support) == (0, 1, "unknown")


def test_a_bit_beyond_is_answered_and_so_is_a_new_level_where_others_were_held_out():
    assert predict(EST, {**ROW, **ALWAYS, "context": 3000}).unknown == [None]
    asked = predict(EST, {**ROW, **ALWAYS, "gpu": ["never seen", ROW["gpu"]]})
    assert asked.unknown == [None, None]
    said, measured = asked.answers["basis"]
    assert said.startswith("gpu never seen was never measured: 3 others were held out in turn (")
    assert all(f"gpu {name}" in said for name in ("fast", "middle", "slow"))
    assert measured is None


@pytest.mark.parametrize("size", [0, -4])
def test_a_size_that_is_no_size_is_unknown(size):
    """Every training row had a context of one token or more."""
    assert EST.positive["context"]
    asked = predict(EST, {**ROW, **ALWAYS, "context": size}, budget_ms=100.0)
    assert asked.unknown == [f"context is {size}, but was always above 0 in training"]
    assert asked.answers.select("median_ms", "bound_ms", "probability_within").row(0) == (None, None, None)
    report = budget(EST, {**ROW, **ALWAYS, "context": [size, 256]}, 1e9)
    assert (report.feasible, report.abstained) == (1, 1)


def test_a_table_with_another_value_keeps_its_rows_apart():
    rows = pl.DataFrame([{**ROW, **ALWAYS}, {**ROW, **ALWAYS, "rows": 8}])
    report = budget(EST, rows, 1e9)
    assert (report.asked, report.feasible, report.best.unknown) == (2, 1, None)
    assert unknown_reasons(EST, rows)[1] == "rows is 8, but was always 4 in training"


def test_settings_of_a_run_that_never_varied_are_known_though_they_are_no_features():
    run = TABLE.drop("rows", "device", "config").with_columns(
        pl.col("batch").alias("config.batch"),
        pl.lit("c").alias("config_id"),
        pl.lit("bfloat16").alias("config.dtype"),
        pl.lit(1).alias("crops"),
    )
    est = Estimator(target="ms", features=["config.batch", "context"], categorical=["gpu"]).fit(run)
    assert est.constants == {"config.dtype": "bfloat16", "crops": "1"}
    asked = {"config.batch": 4, "context": 256, "gpu": "fast", "config.dtype": "float32"}
    assert predict(est, asked).nothing_known
    assert not predict(est, {**asked, "config.dtype": "bfloat16"}).nothing_known


def test_the_held_out_error_is_that_of_single_calls():
    """Every configuration is measured 9 times with 20 % noise: its median is known far better than one call."""
    noisy = Estimator(target="ms", features=["batch", "context"], categorical=["gpu"]).fit(
        latency_table(40, 9, noise=0.2)
    )
    inside = next(choice for choice in noisy.card.choices if choice.question == "inside")
    chosen = next(score for score in noisy.card.scores if score.question == "inside" and score.chosen)
    assert inside.error > 0.14 > chosen.error


def test_a_near_name_is_offered_once():
    with pytest.raises(LaptimeError) as said:
        check_names(EST, ["contxt"], "the rows")
    assert str(said.value).count("context") == 1
