"""Rows and configurations: repeats of equal features are fitted as one, and judged one by one."""

from __future__ import annotations

import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.regressors import Training
from laptime.estimate.table.table import Encoded


def collapse(rows: Encoded, log_ms: Floats, groups: Ints) -> tuple[Ints, Training, Ints, Ints]:
    """Rows of equal features and group become one configuration with their median.

    Returns each row's configuration, the configurations, each one's group, and which of them share their features.
    """
    table = np.column_stack([rows.numeric, rows.codes, groups])
    first, configuration = unique_rows(table)
    repeats = np.bincount(configuration).astype(np.float64)
    order = np.lexsort((log_ms, configuration))
    ordered, start = log_ms[order], np.concatenate([[0], np.cumsum(repeats[:-1])]).astype(np.int64)
    count = repeats.astype(np.int64)
    medians = (ordered[start + (count - 1) // 2] + ordered[start + count // 2]) / 2
    _, units = unique_rows(table[first, :-1])
    return configuration, Training(rows.take(first), medians, repeats), groups[first], units


def unique_rows(table: Floats) -> tuple[Ints, Ints]:
    """The first row of each different row, by their values in the order of the columns; and each row's place there.

    As np.unique over an axis, but column by column: numbers are sorted faster than whole rows.
    """
    keys, kinds = np.zeros(len(table), dtype=np.int64), 1
    for column in table.T:
        known, codes = np.unique(column, return_inverse=True)
        if kinds * len(known) > 2**62:
            some, keys = np.unique(keys, return_inverse=True)
            kinds = len(some)
        keys, kinds = keys * len(known) + codes, kinds * max(1, len(known))
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    return first.astype(np.int64), place.reshape(-1).astype(np.int64)


def rows_of(held: Ints, configuration: Ints) -> tuple[Ints, Ints]:
    """The rows of each held-out configuration, and the place in `held` of each of these rows."""
    order = np.argsort(configuration, kind="stable")
    count = np.bincount(configuration)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    sizes = count[held]
    place = np.repeat(np.arange(len(held)), sizes)
    inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[start[held[place]] + inner].astype(np.int64), place.astype(np.int64)
