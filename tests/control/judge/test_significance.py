"""p-values of pairs against their published forms, and their correction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.judge.significance import holm, paired_p


def test_mcnemars_exact_test_counts_only_the_questions_that_differ() -> None:
    first = np.array([1.0] * 8 + [0.0] * 2 + [1.0] * 50)
    second = np.array([0.0] * 8 + [1.0] * 2 + [1.0] * 50)
    assert paired_p(first, second) == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # B(10, 1/2), 2 or fewer, both tails
    assert paired_p(first, first) == 1.0
    assert paired_p(first[:1], second[:1]) is None


def test_fractional_scores_get_a_paired_t_test() -> None:
    draw = np.random.default_rng(0)
    first = draw.random(200)
    assert paired_p(first + 0.1 + draw.normal(0, 0.05, 200), first) < 1e-6
    assert paired_p(first + 0.5, first) == 0.0


def test_holm() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06], nan_ok=True)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_a_corrected_value_is_never_smaller_and_keeps_the_order(values: list[float]) -> None:
    corrected = holm(values)
    assert all(one is not None and one >= value for one, value in zip(corrected, values, strict=True))
    order = np.argsort(values, kind="stable")
    assert list(np.array(corrected)[order]) == sorted(corrected)  # type: ignore[type-var]


def test_rarely_sure_over_many_pairs_that_do_not_differ() -> None:
    draw = np.random.default_rng(1)
    sure = 0
    for _ in range(100):
        values = [paired_p(*(draw.random((2, 80)) < 0.7).astype(float)) for _ in range(10)]
        sure += any(one is not None and one < 0.05 for one in holm(values))
    assert sure <= 10
