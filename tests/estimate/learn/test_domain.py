"""The training domain: a polygon in logarithms, and how far outside it a row is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.estimate.learn.domain import domain_of, unseen_levels
from laptime.estimate.table.table import UNSEEN, Encoded


def rows(*values: tuple[float, ...]) -> Encoded:
    table = np.array(values, dtype=np.float64)
    return Encoded(table, np.zeros((len(table), 0), dtype=np.int64))


def test_training_rows_are_inside() -> None:
    table = np.random.default_rng(0).lognormal(0, 3, (500, 4))
    encoded = Encoded(table, np.zeros((500, 0), dtype=np.int64))
    assert (domain_of(encoded).distances(table) == 0).all()


def test_the_distance_is_the_log_of_the_largest_factor() -> None:
    domain = domain_of(rows((1, 10), (64, 10), (1, 4000), (64, 4000)))
    asked = np.array([[8, 100], [128, 100], [1, 16000], [128, 16000], [0.25, 100]])
    assert domain.distances(asked) == pytest.approx(np.log([1, 2, 4, 8, 4]))


def test_two_sizes_that_were_never_large_together_are_outside() -> None:
    """Each is within its own range; their product is 64 times what was seen."""
    domain = domain_of(rows((1, 64), (64, 1), (1, 1), (8, 8)))
    assert domain.distances(np.array([[64.0, 64.0]])) == pytest.approx([np.log(64)])
    assert domain.distances(np.array([[8.0, 8.0]])) == [0.0]


def test_columns_with_zeros_and_negatives_have_a_distance_too() -> None:
    domain = domain_of(rows((0, -1), (10, 1), (0, 1), (10, -1)))
    assert (domain.distances(np.array([[5.0, 0.0], [0.0, -1.0]])) == 0).all()
    assert (domain.distances(np.array([[100.0, 0.0], [5.0, 9.0], [-3.0, -4.0]])) > 0).all()


def test_an_unseen_level_is_found() -> None:
    codes = np.array([[0, 1], [UNSEEN, 0], [2, UNSEEN]])
    assert unseen_levels(Encoded(np.zeros((3, 0)), codes)).tolist() == [False, True, True]


def test_a_table_without_numbers_has_no_outside() -> None:
    empty = Encoded(np.zeros((3, 0)), np.zeros((3, 1), dtype=np.int64))
    assert domain_of(empty).distances(np.zeros((2, 0))).tolist() == [0.0, 0.0]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 5).flatmap(lambda p: st.lists(st.lists(st.floats(1, 1e6), min_size=p, max_size=p), min_size=2)),
    st.data(),
)
def test_a_row_larger_by_any_product_is_never_inside(table, data):
    encoded = rows(*map(tuple, table))
    values, count = encoded.numeric, encoded.numeric.shape[1]
    columns = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    asked = values[:1].copy()
    largest = values[:, columns].prod(axis=1).max()
    asked[0, columns[0]] *= 1.01 * largest / asked[0, columns].prod()
    assert domain_of(encoded).distances(asked)[0] > 0.009


def test_the_product_of_three_sizes_is_judged_where_no_two_are_new():
    """Every pair was measured together at its largest, all three never."""
    table = ((64, 64, 1), (64, 1, 64), (1, 64, 64), (1, 1, 1))
    assert domain_of(rows(*table)).distances(np.array([[64.0, 64.0, 64.0]])) == pytest.approx([np.log(64)])
    assert domain_of(rows(*table)).distances(np.array([[16.0, 16.0, 16.0]])) == [0.0]


def test_units_change_no_distance():
    table = np.random.default_rng(1).lognormal(0, 2, (80, 4))
    asked, units = np.random.default_rng(2).lognormal(0, 3, (200, 4)), np.array([1e-3, 1e3, 1024.0, 8.0])
    plain = domain_of(rows(*map(tuple, table))).distances(asked)
    scaled = domain_of(rows(*map(tuple, table * units))).distances(asked * units)
    assert scaled == pytest.approx(plain, abs=1e-9)
    assert 0 < (plain > 0).mean() < 1
