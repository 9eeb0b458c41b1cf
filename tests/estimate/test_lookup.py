"""A precomputed table answers as its estimator does, never promises more, and refuses what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.lookup import WHERE, build, grid_frame
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
    with pytest.raises(LaptimeError, match="more than 20,000,000"):
        build(MADE, {"batch": range(5000), "prompt": range(5000), "model": ["a"]})
    with pytest.raises(LaptimeError, match="one for each"):
        TABLE.best(10.0, np.ones(3))
