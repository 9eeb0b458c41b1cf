"""Beyond the sizes: the nearest row inside, how far times may grow from there, and steps that were held out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import laptime
from laptime.estimate.learn.conformal import bound, by_direction, over_steps
from laptime.estimate.learn.domain import domain_of, only_column
from laptime.estimate.learn.growth import Growth, growth_of, reach
from laptime.estimate.learn.regressors import Candidate, Regressor, Training, fit_regressor
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


def test_a_sum_with_a_square_is_followed_beyond_the_sizes() -> None:
    """time = x + x² / 1000: at 1000 it grows with the power 1.5, and from there faster and faster."""
    sizes = np.geomspace(10, 1000, 60)
    rows, law = encoded(sizes[:, None]), lambda x: np.log(x + x * x / 1000)
    asked = encoded(np.array([[2000.0], [4000.0]]))
    bare = Regressor(candidate=Candidate(power=None, residual="none"))
    near = fit_regressor(Training(rows, law(sizes), np.ones(60)), Candidate(power=0.5, residual="none"))
    domain = domain_of(rows)
    found = reach(Growth([1.5]), domain, near, bare, asked)
    limit = found.log_ms + found.above
    assert (limit >= law(asked.numeric[:, 0])).all()
    assert (limit <= law(asked.numeric[:, 0]) + 0.2).all()


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


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(0.5, 0.98))
def test_a_direction_keeps_what_its_own_steps_need_and_a_third_of_all(seed: int, steps: int, q: float) -> None:
    rng = np.random.default_rng(seed)
    folds = np.repeat(np.arange(steps), rng.integers(30, 80, steps))
    directions = [str(rng.integers(3)) for _ in range(steps)]
    residuals = rng.normal(size=len(folds)) * rng.exponential(size=steps)[folds]
    found = by_direction(residuals, folds, directions)
    assert set(found) == set(directions)
    for name, ascending in found.items():
        assert (np.diff(ascending) >= 0).all()
        reach = bound(ascending, np.array([q]))[0]
        held = [(residuals[folds == step] <= reach).mean() >= q - 1 / (folds == step).sum() for step in range(steps)]
        assert all(ok for ok, direction in zip(held, directions, strict=True) if direction == name)
        assert sum(held) >= 1


def test_the_one_marked_column_is_named() -> None:
    marked = np.array([[True, False], [False, True], [True, True], [False, False]])
    assert only_column(marked, ["a", "b"]) == ["a", "b", None, None]
    assert only_column(np.zeros((2, 0), dtype=np.bool_), []) == [None, None]


def test_a_jump_along_one_size_widens_no_bound_along_another() -> None:
    """Each value of `rows` finds another kernel, faster or slower by a half; times grow smoothly with the others."""
    rng = np.random.default_rng(0)
    rows, sizes = rng.integers(1, 9, 400), np.exp(rng.uniform(0, 6, (400, 3)))
    jump = np.array([1.0, 1.6, 0.8, 1.4, 0.7, 1.5, 0.8, 1.3])[rows - 1]
    names = ["rows", "a", "b", "c"]
    table = pl.DataFrame(np.column_stack([rows, sizes]), schema=names)
    table = table.with_columns(ms=pl.Series((2 + 0.1 * sizes.sum(axis=1)) * jump * np.exp(0.01 * rng.normal(size=400))))
    est = laptime.Estimator(target="ms", features=names).fit(table)
    longer = pl.DataFrame({"rows": [2.0], "a": [600.0], "b": [20.0], "c": [20.0]})
    more = longer.with_columns(rows=pl.lit(9.0), a=pl.lit(20.0))
    assert {one.question for one in est.support(pl.concat([longer, more]))} == {"beyond"}
    along, across = (float((est.quantile(asked, 0.8) / est.predict(asked))[0]) for asked in (longer, more))
    assert along < 1.1 < across


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
