"""The share of a table's rows that an estimator was fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.stats import Floats
from laptime.estimate.table.row_marks import KEPT, kept_marks, row_marks, share_seen
from laptime.estimate.table.table import Encoded


def table(rows: int, seed: int) -> tuple[Encoded, Floats]:
    rng = np.random.default_rng(seed)
    return Encoded(rng.choice([1.0, 2.0, 4.0], (rows, 2)), rng.integers(0, 2, (rows, 1))), rng.lognormal(3, 1, rows)


@given(st.integers(10, 300), st.integers(0, 300))
def test_the_share_of_a_small_table_is_exact(old: int, new: int) -> None:
    (seen, times), (other, later) = table(old, 0), table(max(1, new), 1)
    kept = kept_marks(row_marks(seen, times))
    asked = Encoded(np.vstack([seen.numeric, other.numeric[:new]]), np.vstack([seen.codes, other.codes[:new]]))
    marks = row_marks(asked, np.concatenate([times, later[:new]]))
    assert share_seen(marks, kept) == pytest.approx(old / (old + new))


def test_of_a_large_table_a_sample_tells_it() -> None:
    (seen, times), (other, later) = table(30_000, 0), table(30_000, 1)
    kept = kept_marks(row_marks(seen, times))
    assert len(kept) == KEPT
    half = Encoded(np.vstack([seen.numeric, other.numeric]), np.vstack([seen.codes, other.codes]))
    assert share_seen(row_marks(half, np.concatenate([times, later])), kept) == pytest.approx(0.5, abs=0.05)
    assert share_seen(row_marks(other, later), kept) == 0
    few = np.arange(5)
    assert share_seen(row_marks(other.take(few), later[few]), kept) is None
    assert share_seen(row_marks(seen, times), []) is None


def test_a_row_is_another_one_by_any_of_its_values() -> None:
    rows, times = table(40, 0)
    kept = kept_marks(row_marks(rows, times))
    for changed in (
        (Encoded(rows.numeric + 1, rows.codes), times),
        (Encoded(rows.numeric, rows.codes + 1), times),
        (rows, times + 1e-9),
    ):
        assert share_seen(row_marks(*changed), kept) == 0
