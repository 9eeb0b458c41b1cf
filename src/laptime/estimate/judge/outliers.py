"""Outliers by the interquartile range: which rows to leave out of fitting, and what that removes.

A filter on measured times makes every figure look better, whether the times it removed were broken or real. So it
works within a configuration (a filter over the whole table would remove the large configurations), on logarithms
(times have long tails), only on rows to fit on, and its effect is reported.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.judge.ceiling import ceiling

FEWEST = 4
"""Quartiles of fewer repeats say nothing: such groups are kept whole."""


class Filtered(msgspec.Struct, frozen=True, kw_only=True):
    """What an outlier filter removed. JSON: in laptime.evaluation/1."""

    factor: float  # of the interquartile range
    rows: int
    removed: int
    share: float
    groups_touched: int
    slower: int  # of the removed, those above the median of their group: the tail that a bound is for
    ceiling_before: float | None
    ceiling_after: float | None


def within_quartiles(values: Floats, groups: npt.ArrayLike, factor: float = 1.5) -> npt.NDArray[np.bool_]:
    """Which rows lie within [Q1 - factor IQR, Q3 + factor IQR] of their group's logarithms (Tukey 1977)."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    logs = np.log(np.asarray(values, dtype=np.float64))
    order = np.argsort(codes, kind="stable")
    keep = np.ones(len(logs), dtype=bool)
    for rows in np.split(order, np.cumsum(np.bincount(codes))[:-1]):
        if len(rows) >= FEWEST:
            low, high = np.quantile(logs[rows], [0.25, 0.75])
            air = factor * (high - low)
            keep[rows] = (logs[rows] >= low - air) & (logs[rows] <= high + air)
    return keep


class OutlierFilter(NamedTuple):
    """Which rows of a table are kept, and what was removed."""

    keep: npt.NDArray[np.bool_]
    removed: Filtered


def outlier_filter(values: Floats, groups: npt.ArrayLike, factor: float = 1.5) -> OutlierFilter:
    """The rows to keep, and what leaving out the others does to the ceiling.

    Raises LaptimeError for a factor that is not above 0.
    """
    if not factor > 0:
        raise LaptimeError(f"--iqr {factor:g}: write a number of interquartile ranges above 0; 1.5 is usual")
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    keep = within_quartiles(values, labels, factor)
    before, after = ceiling(values, labels), ceiling(values[keep], labels[keep])
    removed = np.flatnonzero(~keep)
    medians = {group: float(np.median(values[labels == group])) for group in np.unique(labels[removed])}
    slower = sum(values[row] > medians[labels[row]] for row in removed)
    summary = Filtered(
        factor=factor,
        rows=len(values),
        removed=len(removed),
        share=len(removed) / len(values) if len(values) else 0.0,
        groups_touched=len(np.unique(labels[removed])),
        slower=int(slower),
        ceiling_before=before.value if before else None,
        ceiling_after=after.value if after else None,
    )
    return OutlierFilter(keep, summary)
