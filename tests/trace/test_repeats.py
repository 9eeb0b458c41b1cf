"""Repeats of short and damaged sequences: no level where nothing repeats, and no figure from nothing."""

import warnings

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from laptime.trace.repeats import levels

SHORT = [
    [2, 0, 3, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 3, 3, 4, 1, 2, 1, 5],
    [4, 2, 5, 5, 3, 4, 4, 4, 3, 4, 1, 5, 5, 4, 3, 1, 4, 5],
]


def quietly(sequence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return levels(np.array(sequence, dtype=np.int64))


@example(SHORT[0])  # intervals that hold no whole period besides their edges
@example(SHORT[1])
@given(st.lists(st.integers(min_value=0, max_value=4), max_size=80))
def test_any_sequence_is_judged_without_a_warning(sequence):
    for level in quietly(sequence):
        assert 0 < level.period < len(sequence)


def test_what_repeats_is_found():
    unit = [0, 1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert 10 in [level.period for level in quietly(unit * 12)]
