"""The training domain: an octagon in logarithms, and how far outside it a row is."""

from __future__ import annotations

import numpy as np
import pytest

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
