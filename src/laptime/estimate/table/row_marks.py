"""Has an estimator been fitted on these rows? A mark for each row, of which an estimator keeps some.

A mark is a hash of a row's features and its time. An estimator keeps the smallest marks of its training rows, so a
table that shares rows with the training table shares marks below the largest one that was kept: a random sample, found
by the same rule in every table (Broder 1997, the sketch of the smallest hashes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.estimate.table.table import Encoded

KEPT = 2000
FEWEST = 10
"""From fewer marks that could have been kept nothing is said."""

Marks = npt.NDArray[np.uint64]


def row_marks(rows: Encoded, times: Floats) -> Marks:
    """A mark for each row, (n,)."""
    marks = _mixed(np.ascontiguousarray(times, dtype=np.float64).view(np.uint64))
    for column in [*rows.numeric.T, *rows.codes.T.astype(np.float64)]:
        marks = _mixed(marks ^ np.ascontiguousarray(column + 0.0).view(np.uint64))
    return np.asarray(marks >> np.uint64(1), dtype=np.uint64)  # what JSON readers take for a whole number too


def kept_marks(marks: Marks) -> list[int]:
    """The smallest of a training table's marks."""
    return [int(mark) for mark in np.unique(marks)[:KEPT]]


def share_seen(marks: Marks, kept: Sequence[int]) -> float | None:
    """The share of a table's rows that are rows of the training table; None where too few say so."""
    if not kept:
        return None
    below = marks if len(kept) < KEPT else marks[marks <= np.uint64(kept[-1])]
    if len(below) < FEWEST:
        return None
    return float(np.isin(below, np.array(kept, dtype=np.uint64)).mean())


def _mixed(bits: Marks) -> Marks:
    """splitmix64's finisher (Steele, Lea and Flood 2014): every bit of the result depends on every bit."""
    mixed = bits + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)
