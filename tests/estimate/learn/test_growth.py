"""Beyond the sizes: the nearest row inside, how far times may grow from there, and steps that were held out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import laptime
from laptime.estimate.learn.conformal import bound, over_steps
from laptime.estimate.learn.domain import domain_of
from laptime.estimate.learn.growth import growth_of
from laptime.estimate.table.table import Encoded


def encoded(table: np.ndarray, codes: np.ndarray | None = None) -> Encoded:
    none = np.zeros((len(table), 0), dtype=np.int64)
    return Encoded(np.asarray(table, dtype=np.float64), none if codes is None else codes)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_nearest_row_is_inside_and_inside_rows_are_their_own(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    table, asked = rng.lognormal(0, 2, (60, columns)), rng.lognormal(0, 4, (80, columns))
    domain = domain_of(encoded(table))
    nearest, larger_by = domain.nearest(asked)
    assert (domain.distances(nearest) < 0.02).all()
    assert (larger_by >= 0).all()
    inside = domain.distances(asked) == 0
    assert nearest[inside] == pytest.approx(asked[inside])
    assert np.log(asked / nearest)[larger_by > 0] == pytest.approx(larger_by[larger_by > 0], abs=1e-9)


def test_a_level_that_was_measured_less_far_has_sides_of_its_own() -> None:
    sizes = np.geomspace(1, 1024, 60)
    table = np.concatenate([sizes, sizes / 64])[:, None]
    codes = np.repeat([0, 1], 60)[:, None]
    domain = domain_of(encoded(table, codes))
    asked = np.array([[900.0], [900.0], [10.0]])
    of = np.array([[0], [1], [1]])
    assert domain.distances(asked, of) == pytest.approx([0, np.log(900 / 16), 0])
    assert domain.distances(asked) == pytest.approx([0, 0, 0])
    assert domain.nearest(asked, of)[0][:, 0] == pytest.approx([900, 16, 10])


def test_the_largest_elasticity_is_that_of_the_law() -> None:
    """time = 5 + 0.01 batch * length: nothing grows faster than in proportion, and the other size not at all."""
    rng = np.random.default_rng(0)
    table = np.exp(rng.uniform(0, 7, (300, 3)))
    found = growth_of(encoded(table), np.log(5 + 0.01 * table[:, 0] * table[:, 1])).elasticities
    assert found == pytest.approx([1, 1, 0], abs=0.1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.5, 0.98))
def test_no_last_step_has_a_narrower_bound_than_it_needs(seed: int, steps: int, q: float) -> None:
    rng = np.random.default_rng(seed)
    folds = np.repeat(np.arange(steps), rng.integers(30, 80, steps))
    first = [bool(value) for value in rng.random(steps) < 0.5]
    residuals = rng.normal(size=len(folds)) * (1 + folds)
    reach = bound(over_steps(residuals, folds, first), np.array([q]))[0]
    for step in np.flatnonzero(first):
        own = residuals[folds == step]
        assert (own <= reach).mean() >= q - 1 / len(own)


def products(seed: int) -> pl.DataFrame:
    """Matrix products of two dtypes: one is bound by its launch until just below the edge, the other was not."""
    rng = np.random.default_rng(seed)
    sizes = 2 ** rng.integers(3, 12, (1200, 3)).astype(float)
    dtype = rng.random(1200) < 0.5
    rate, launch = np.where(dtype, 6e8, 1e9), np.where(dtype, 0.004, 0.02)
    ms = np.maximum(launch, sizes.prod(axis=1) / rate) * np.exp(0.03 * rng.normal(size=1200))
    return pl.DataFrame({"m": sizes[:, 0], "n": sizes[:, 1], "k": sizes[:, 2], "slow": dtype.astype(str), "ms": ms})


def test_a_change_of_regime_at_the_edge_keeps_the_bound() -> None:
    table = products(0)
    work = (table["m"] * table["n"] * table["k"]).to_numpy()
    edge = np.quantile(work, 0.8)
    train, asked = table.filter(work <= edge)[:350], table.filter(work > edge)
    est = laptime.Estimator(target="ms", features=["m", "n", "k"], categorical=["slow"]).fit(train)
    assert {one.question for one in est.support(asked)} == {"beyond"}
    bounds, took = est.quantile(asked, 0.95), asked["ms"].to_numpy()
    given_one = np.isfinite(bounds)
    assert given_one.mean() > 0.5
    assert (took <= bounds)[given_one].mean() > 0.93
    assert np.median((bounds / took)[given_one]) < 1.6
    assert (est.predict(asked) <= bounds).all()
    at_bound = est.probability_within(asked.filter(pl.Series(given_one)), bounds[given_one])
    assert (at_bound >= 0.95 - 1e-9).all()
