"""A target's name says its unit; answers and budgets are in milliseconds whatever it is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.estimate.prediction import predict
from laptime.estimate.table.units import is_rate, ms_per_unit, says_unit, unit_notes


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("time_us", 1e-3),
        ("Latency (µs)", 1e-3),
        ("ttft_s", 1e3),
        ("E2E latency [sec]", 1e3),
        ("total_ms", 1),
        ("ns_per_op", 1e-6),
        ("Latency", 1),
        ("s_max", 1),
        ("status", 1),
    ],
)
def test_units_by_name(name: str, factor: float) -> None:
    assert ms_per_unit(name) == factor


@pytest.mark.parametrize("name", ["tokens/s", "samples_per_sec", "pp4096_tps", "request throughput", "tok_s"])
def test_rates_are_no_times(name: str) -> None:
    assert is_rate(name)
    frame = pl.DataFrame({"batch": range(30), name: np.linspace(1, 2, 30)})
    with pytest.raises(LaptimeError, match="is a rate by its name"):
        laptime.Estimator(target=name, features=["batch"]).fit(frame)


@pytest.mark.parametrize("name", ["ms_per_token", "s_per_step", "time_us", "ttft_s", "mean time per step"])
def test_times_are_no_rates(name: str) -> None:
    assert not is_rate(name)


def test_a_unit_is_said_where_it_isnt_ms() -> None:
    assert not unit_notes("total_ms")
    assert "microseconds by its name" in unit_notes("time_us")[0]
    assert not says_unit("Latency")
    assert "taken to be in milliseconds" in unit_notes("Latency")[0]


def test_answers_budgets_and_errors_are_in_milliseconds() -> None:
    rng = np.random.default_rng(0)
    batch = np.tile(np.arange(1, 31), 4)
    took = (2 + 0.1 * batch) * np.exp(rng.normal(0, 0.01, len(batch)))
    frame = pl.DataFrame({"batch": batch, "took_ms": took, "took_us": took * 1000})
    in_ms, in_us = (laptime.Estimator(target=name, features=["batch"]).fit(frame) for name in ("took_ms", "took_us"))
    rows = {"batch": [3, 17, 28]}
    one, other = (predict(estimator, rows, budget_ms=3.8).answers for estimator in (in_ms, in_us))
    for name in ("median_ms", "bound_ms", "probability_within"):
        assert np.allclose(one[name], other[name], rtol=1e-6)
    assert np.allclose(in_us.predict(pl.DataFrame(rows)), 1000 * one["median_ms"].to_numpy())  # its own unit
    reports = [laptime.budget(estimator, frame, 3.8) for estimator in (in_ms, in_us)]
    assert 0 < reports[0].feasible == reports[1].feasible < 30
    assert [rule.late for rule in reports[0].rules] == [rule.late for rule in reports[1].rules]
    errors = [estimator.evaluate(frame).splits[0].metrics["mae_ms"].mean for estimator in (in_ms, in_us)]
    assert errors[0] == pytest.approx(errors[1])
