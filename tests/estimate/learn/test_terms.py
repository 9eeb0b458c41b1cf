"""Candidate terms: what is derived from columns, and what it evaluates to."""

from __future__ import annotations

import numpy as np
import pytest

from laptime.estimate.learn.terms import MOST_TERMS, derive_terms, plain_products
from laptime.estimate.table.table import UNSEEN


def test_products_and_quotients_of_columns_are_offered() -> None:
    table = np.array([[2.0, 3.0, 8.0], [4.0, 5.0, 2.0], [8.0, 7.0, 1.0]])
    terms = derive_terms(table)
    names = terms.names(["tokens", "width", "gpus"])
    assert {"1", "tokens", "tokens*width", "tokens*width/gpus", "tokens^2", "1/gpus", "tokens^2*width"} <= set(names)
    values = terms.values(table)
    assert values[:, names.index("1")].tolist() == pytest.approx([1, 1, 1])
    assert values[:, names.index("tokens*width/gpus")] == pytest.approx(table[:, 0] * table[:, 1] / table[:, 2])
    assert values[:, names.index("tokens^2*width")] == pytest.approx(table[:, 0] ** 2 * table[:, 1])
    assert len(set(names)) == len(names)


def test_whole_columns_of_many_values_are_tiled() -> None:
    tokens = np.arange(1, 301, dtype=np.float64)
    table = np.column_stack([tokens, np.tile([2.0, 4.0], 150)])
    terms = derive_terms(table)
    names = terms.names(["tokens", "width"])
    found = terms.values(table)[:, names.index("ceil128(tokens)*width")]
    assert found == pytest.approx(np.ceil(tokens / 128) * 128 * table[:, 1])
    assert not any("ceil" in name and "(width)" in name for name in names)


def test_a_switch_counts_as_one_and_two_and_negative_columns_give_no_term() -> None:
    table = np.array([[0.0, -1.0, 3.0], [1.0, 2.0, 5.0]])
    terms = derive_terms(table)
    names = terms.names(["gated", "offset", "width"])
    assert terms.values(table)[:, names.index("(gated+1)*width")] == pytest.approx([3.0, 10.0])
    assert not any("offset" in name for name in names)


@pytest.mark.parametrize("columns", [1, 3, 6, 9, 15, 30])
def test_the_number_of_terms_is_bounded(columns: int) -> None:
    table = np.random.default_rng(0).uniform(1, 9, (40, columns))
    assert columns <= len(derive_terms(table).exponents) <= max(MOST_TERMS, columns + 1)


def test_values_beyond_what_was_seen_stay_finite() -> None:
    terms = derive_terms(np.array([[1.0, 2.0], [3.0, 5.0]]))
    assert np.isfinite(terms.values(np.array([[0.0, 1e9], [-5.0, 0.0]]))).all()


def test_plain_products_have_rates_by_level_that_other_levels_share_nothing_of() -> None:
    table = np.array([[2.0, 3.0, 8.0], [4.0, 5.0, 2.0], [8.0, 7.0, 1.0]])
    codes = np.array([[0], [1], [UNSEEN]])
    terms = plain_products(table, codes[:2])
    names = terms.names(["m", "n", "k"])
    assert {"1", "m*n*k", "m*k", "m*n*k (level 1 of 1)"} <= set(names)
    assert not any("^" in name or "ceil" in name for name in names)
    values = terms.values(table, codes)
    work = table.prod(axis=1)
    assert values[:, names.index("m*n*k")] == pytest.approx(work)
    assert values[:, names.index("m*n*k (level 1 of 1)")] == pytest.approx([0, work[1], 0])
