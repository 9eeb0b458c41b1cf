"""Splits: nothing is on both sides, groups stay whole, the largest are held out, outliers are counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.judge.splits import (
    by_group,
    growing,
    held_out,
    largest,
    outlier_filter,
    product,
    row_labels,
    where,
    within_quartiles,
)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=5, max_size=60), st.integers(0, 100))
def test_every_row_is_on_one_side_and_groups_stay_whole(groups, seed):
    if len(set(groups)) < 2:
        with pytest.raises(LaptimeError, match="one group"):
            list(by_group("new-config", groups, seeds=[seed]))
        return
    (split,) = by_group("new-config", groups, seeds=[seed])
    assert sorted([*split.train, *split.test]) == list(range(len(groups)))
    assert len(split.train)
    assert len(split.test)
    labels = np.array(groups)
    assert not set(labels[split.train]) & set(labels[split.test])


def test_seeds_repeat_and_differ():
    groups = np.repeat(np.arange(40), 3)
    first, again, other = (tuple(s.test) for s in by_group("random", groups, seeds=[1, 1, 2]))
    assert first == again != other
    assert len(first) == 24


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=5, max_size=80))
def test_the_largest_are_held_out(sizes):
    if len(set(sizes)) == 1:
        with pytest.raises(LaptimeError, match="--size"):
            list(largest(sizes))
        return
    (split,) = largest(sizes, name="batch")
    values = np.array(sizes)
    assert values[split.train].max() < values[split.test].min()
    assert split.detail.startswith("batch above ")


def test_every_level_is_held_out_once_if_enough_is_left():
    found = list(held_out("gpu", ["a"] * 30 + ["b"] * 25 + ["c"] * 3))
    assert [split.detail for split in found] == ["gpu = a", "gpu = b", "gpu = c"]
    assert [len(split.test) for split in found] == [30, 25, 3]
    assert next(held_out("gpu", ["a"] * 60 + ["b"] * 3)).detail == "gpu = b"
    (one,) = where("big", np.array([True, False]))
    assert (list(one.train), list(one.test)) == ([1], [0])


def test_equal_rows_get_one_label():
    words = np.array(["x", "x", None, None, "x"], dtype=object)
    labels = row_labels([np.array([1.0, 1.0, np.nan, np.nan, 2.0]), words], 5)
    assert labels[0] == labels[1]
    assert labels[2] == labels[3]
    assert len(set(labels)) == 3
    assert list(row_labels([], 3)) == [0, 0, 0]
    assert len(set(row_labels([np.array(["1", 1], dtype=object)], 2))) == 2


def test_the_size_is_made_of_what_the_time_grows_with():
    rng = np.random.default_rng(0)
    batch, layer = rng.integers(1, 64, 200), rng.integers(0, 5, 200)
    assert growing({"batch": batch, "layer": layer, "flat": np.ones(200)}, batch * 1.5) == ["batch"]
    assert list(product([[2, 0, 3], [5, 7, 0]])) == [10, 7, 3]


def test_a_filter_works_within_a_configuration_and_says_what_it_took():
    values = np.concatenate([np.full(20, 10.0) + np.arange(20) * 0.01, np.full(20, 1000.0) + np.arange(20)])
    values[3], values[7] = 30.0, 2.0
    groups = np.repeat(["small", "large"], 20)
    keep, said = outlier_filter(values, groups)
    assert list(np.flatnonzero(~keep)) == [3, 7]
    assert (said.removed, said.rows, said.slower, said.groups_touched) == (2, 40, 1, 1)
    assert said.ceiling_before < said.ceiling_after
    assert within_quartiles(np.array([1.0, 1.0, 900.0]), [0, 0, 0]).all(), "three repeats have no quartiles"
