"""Each value once: the same as np.unique, of any integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from laptime.trace.read.distinct import each_once


@given(st.sampled_from([np.int8, np.int32, np.int64]).flatmap(lambda kind: arrays(kind, st.integers(0, 40))))
def test_each_value_is_there_once_in_rising_order(values):
    found = each_once(values)
    assert found.dtype == values.dtype
    assert found.tolist() == sorted(set(values.tolist()))


@pytest.mark.parametrize(
    "values", [[5, 5], [3, 1, 2, 1], [[4, 4], [2, 9]], [-(2**63), 2**63 - 1, 0, 0], [2**62, 2**62 + 1]]
)
def test_dense_and_sparse_values(values):
    column = np.array(values, dtype=np.int64)
    assert each_once(column).tolist() == np.unique(column).tolist()
