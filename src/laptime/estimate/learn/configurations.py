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
    _, first, configuration = np.unique(table, axis=0, return_index=True, return_inverse=True)
    configuration = configuration.reshape(-1).astype(np.int64)
    repeats = np.bincount(configuration).astype(np.float64)
    order = np.lexsort((log_ms, configuration))
    ordered, start = log_ms[order], np.concatenate([[0], np.cumsum(repeats[:-1])]).astype(np.int64)
    count = repeats.astype(np.int64)
    medians = (ordered[start + (count - 1) // 2] + ordered[start + count // 2]) / 2
    _, units = np.unique(table[first, :-1], axis=0, return_inverse=True)
    return (
        configuration,
        Training(rows.take(first), medians, repeats),
        groups[first],
        units.reshape(-1).astype(np.int64),
    )


def rows_of(held: Ints, configuration: Ints) -> tuple[Ints, Ints]:
    """The rows of each held-out configuration, and the place in `held` of each of these rows."""
    order = np.argsort(configuration, kind="stable")
    count = np.bincount(configuration)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    sizes = count[held]
    place = np.repeat(np.arange(len(held)), sizes)
    inner = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[start[held[place]] + inner].astype(np.int64), place.astype(np.int64)
