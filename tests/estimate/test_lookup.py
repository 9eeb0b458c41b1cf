"""A precomputed table answers as its estimator does, never promises more, and refuses what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.lookup import WHERE, build, grid_frame, steps_reached
from tests.estimate.log_linear import LogLinear, step_table

KNOBS = {"model": ["a", "b"], "batch": [1, 2, 4, 8, 64], "prompt": [64, 100, 256]}
MADE = LogLinear("step_ms", ["batch", "prompt"], ["model"]).fit(step_table())
TABLE = build(MADE, KNOBS, q=0.95)
FRAME = grid_frame(KNOBS)


def test_every_cell_is_what_the_estimator_says():
    assert len(TABLE) == len(FRAME) == 30
    bound = MADE.quantile(FRAME, 0.95)
    assert TABLE.median_ms == pytest.approx(MADE.predict(FRAME), rel=1e-6)
    assert (TABLE.bound_ms >= bound).all()
    assert TABLE.bound_ms == pytest.approx(bound, rel=1e-6)
    assert [WHERE[i] for i in TABLE.where] == [one.where for one in MADE.support(FRAME)]


@settings(deadline=None)
@given(st.integers(0, 29))
def test_cells_choices_and_codes_agree(cell):
    choice = TABLE.choice(cell)
    assert TABLE.cell(choice) == cell
    assert FRAME.row(cell, named=True) == choice
    codes = [np.array([values.index(choice[name])]) for name, values in KNOBS.items()]
    assert TABLE.cells(codes) == [cell]


@settings(deadline=None)
@given(st.floats(1.0, 300.0))
def test_its_probability_never_exceeds_the_estimators(budget):
    found = TABLE.probability_within(np.arange(30), budget)
    exact = MADE.probability_within(FRAME, budget)
    assert (found <= exact + 1e-6).all()
    inner = (exact > 0.03) & (exact < 0.99)
    assert (exact - found)[inner].max(initial=0) < 0.03


@settings(deadline=None)
@given(st.floats(1.0, 300.0))
def test_what_is_feasible_has_its_bound_within_the_budget_and_is_supported(budget):
    feasible = TABLE.feasible(budget)
    bound = MADE.quantile(FRAME, 0.95)
    assert not (feasible & (bound > budget)).any()
    assert not (feasible & (TABLE.where == WHERE.index("outside"))).any()
    accuracy = np.arange(30) % 7 / 7
    best = TABLE.best(budget, accuracy)
    if best is None:
        assert not feasible.any()
    else:
        assert feasible[best]
        assert accuracy[best] == accuracy[feasible].max()


def test_what_it_does_not_know_is_one_line():
    with pytest.raises(LaptimeError, match="batch = 3: the table knows batch = 1, 2, 4, 8, 64"):
        TABLE.cell({"model": "a", "batch": 3, "prompt": 64})
    with pytest.raises(LaptimeError, match="2 knobs given, the table has 3"):
        TABLE.cells([np.array([0]), np.array([1])])
    with pytest.raises(LaptimeError, match="needs values of prompt, model"):
        build(MADE, {"batch": [1]})
    with pytest.raises(LaptimeError, match="no values of batch"):
        build(MADE, {"batch": [], "prompt": [1], "model": ["a"]})
    with pytest.raises(LaptimeError, match="more than 20000000"):
        build(MADE, {"batch": range(5000), "prompt": range(5000), "model": ["a"]})
    with pytest.raises(LaptimeError, match="one for each"):
        TABLE.best(10.0, np.ones(3))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=60), st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_steps_are_counted_as_a_search_would(steps, infinite, seed):
    """On each step, just beside it, far away, and on infinity; equal and infinite steps among them."""
    rng = np.random.default_rng(seed)
    ordered = np.concatenate([np.sort(np.round(steps, 2)), np.full(infinite, np.inf)])
    values = np.concatenate(
        [ordered, np.nextafter(ordered, 9), np.nextafter(ordered, -9), [-np.inf, np.inf], rng.normal(0, 2, 5000)]
    )
    assert (steps_reached(ordered, values) == np.searchsorted(ordered, values, side="right")).all()


def test_a_million_choices_say_what_each_alone_says():
    cells = np.random.default_rng(0).integers(0, len(TABLE), 50_000)
    for budget in (1e-3, 20.0, 60.0, 1e6):
        alone = [float(TABLE.probability_within([cell], budget)[0]) for cell in range(len(TABLE))]
        assert (TABLE.probability_within(cells, budget) == np.array(alone)[cells]).all()


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_that_can_not_be_is_one_line(budget):
    with pytest.raises(LaptimeError, match="a budget is above 0"):
        TABLE.probability_within([0], budget)
