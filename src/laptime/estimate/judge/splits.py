"""Ways to hold rows out, from the one that flatters most to the one that asks most.

| split | held out | what it asks |
|---|---|---|
| random | rows at random; rows that look the same to a predictor stay together | between what was measured |
| new-config | whole configurations | a configuration that was never run |
| largest | the rows with the largest sizes | beyond what was measured |
| held-out NAME=LEVEL | one level of a column at a time | a model, a GPU, a dataset that was never seen |

Row numbers in, row numbers out; nothing is shuffled twice with one seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.judge.ceiling import ceiling

Rows = npt.NDArray[np.int64]

TEST_SHARE = 0.2
GROWS = 0.2
FEWEST_TRAIN = 20
"""Fewer rows than an estimator can be fitted on: such a split is left out."""


class Split(NamedTuple):
    """Which rows to fit on, and which to judge by."""

    kind: str  # random, new-config, largest, held-out
    detail: str  # what was held out, in words
    seed: int
    train: Rows
    test: Rows


def by_group(kind: str, groups: npt.ArrayLike, *, seeds: Sequence[int], share: float = TEST_SHARE) -> Iterator[Split]:
    """Hold out `share` of the groups (at least one), once for each seed. One split kind for random and new-config:
    what differs is what a group is.

    Raises LaptimeError with fewer than two groups.
    """
    labels, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(labels) < 2:
        raise LaptimeError(f"split {kind}: all {len(codes)} rows are one group; it takes two to hold one out")
    held = min(max(1, round(share * len(labels))), len(labels) - 1)
    for seed in seeds:
        out = np.zeros(len(labels), dtype=bool)
        out[np.random.default_rng(seed).permutation(len(labels))[:held]] = True
        yield Split(kind, f"{held} of {len(labels)} groups", seed, *_parts(out[codes]))


def largest(
    sizes: npt.ArrayLike, *, name: str = "size", share: float = TEST_SHARE, seeds: Sequence[int] = (0,)
) -> Iterator[Split]:
    """Hold out the rows whose size exceeds the (1 - share) quantile; equal sizes stay on one side.

    Raises LaptimeError when all sizes are equal.
    """
    values = np.asarray(sizes, dtype=np.float64)
    limit = float(np.quantile(values, 1 - share, method="lower"))
    if not (values > limit).any():  # the largest size alone is more than `share` of the rows
        below = values[values < limit]
        if len(below) == 0:
            raise LaptimeError(
                "split largest: all rows have the same size; laptime evaluate --size A,B names the columns that say it"
            )
        limit = float(below.max())
    for seed in seeds:
        yield Split("largest", f"{name} above {limit:g}", seed, *_parts(values > limit))


def growing(columns: Mapping[str, npt.ArrayLike], target: npt.ArrayLike) -> list[str]:
    """The columns that the target grows with (rank correlation GROWS or more): their product is a row's size."""
    from scipy.stats import spearmanr  # takes as long to import as a prediction takes

    names = []
    for name, values in columns.items():
        array = np.asarray(values, dtype=np.float64)
        if np.ptp(array) > 0 and array.min() >= 0 and float(spearmanr(array, target).statistic) >= GROWS:
            names.append(name)
    return names


def product(columns: Sequence[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Row by row; a zero counts as one, so that a size of none does not hide the others."""
    sizes = np.ones(len(np.asarray(columns[0])))
    for column in columns:
        values = np.asarray(column, dtype=np.float64)
        sizes *= np.where(values == 0, 1.0, values)
    return sizes


def held_out(name: str, levels: Sequence[object] | npt.NDArray[np.generic], *, seed: int = 0) -> Iterator[Split]:
    """Hold out one level of a column after the other; levels that leave too few rows to fit on are skipped."""
    words = np.asarray([str(level) for level in levels])
    for level in np.unique(words):
        out = words == level
        if (~out).sum() >= FEWEST_TRAIN and out.any():
            yield Split("held-out", f"{name} = {level}", seed, *_parts(out))


def where(detail: str, out: npt.NDArray[np.bool_], *, seeds: Sequence[int] = (0,)) -> Iterator[Split]:
    """Hold out exactly the rows that `out` marks."""
    for seed in seeds:
        yield Split("held-out", detail, seed, *_parts(out))


def row_labels(columns: Sequence[Sequence[object] | npt.NDArray[np.generic]], rows: int) -> Rows:
    """One number for each distinct combination of the columns' values: the same number, the same combination.

    Numbers are compared as numbers and everything else by its text; missing values are a value of their own. No
    column at all makes one combination.
    """
    label = np.zeros(rows, dtype=np.int64)
    for column in columns:
        array = np.asarray(column)
        if array.dtype.kind not in "biuf":
            array = np.asarray([f"{type(value).__name__}:{value}" for value in column])
        _, codes = np.unique(array, return_inverse=True)  # NaN equals NaN here
        label = np.unique(label * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[1]
    return label.astype(np.int64)


def _parts(out: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
    return np.flatnonzero(~out), np.flatnonzero(out)


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
        raise LaptimeError(f"`iqr` {factor:g}: write a number of interquartile ranges above 0; 1.5 is usual")
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
