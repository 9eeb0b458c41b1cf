"""How large residuals are around a row, over what is usual in the table.

Some configurations are noisier than others, and where one kernel gives way to another a predictor that saw both sides
can be wrong by a factor, while it is off by a few percent elsewhere. A bound of one width for all rows is too wide for
most of them then, and too narrow where it matters. So held-out residuals are divided by the size of their neighbours'
before they are sorted, and a bound multiplies the size around its own row back (normalised conformal prediction). Where
that is far above the usual the table doesn't say on which side of a jump a row is, and no bound is given.

Source: Papadopoulos, Gammerman and Vovk 2008 (residuals normalised by those of the nearest neighbours).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.process import Scaling, scaling_of
from laptime.estimate.learn.ranks import bound
from laptime.estimate.table.table import Encoded

NEIGHBOURS = (8, 16, 32)
"""Over how many neighbours sizes are averaged: few see a jump, many see which configurations are noisy."""
NEAREST = 3
"""The averages of so many rows are looked up: what a row asks costs little."""
MOST_PLACES = 2000
MOST_LEVELS = 12
"""The levels of a categorical column with more of them are not told apart here."""
PRIOR = 1.0
"""So many median residuals are added to each: a few neighbours that were met by chance say little."""
LEAST = 1e-6
WORTH = 0.97
"""Surroundings are looked at where they make the pinball loss of held-out bounds this much smaller."""
USUAL = 0.95
MOST_WIDER = float(np.log(2.0))
"""A bound may be this much wider than the usual one (in logarithms): what is wider promises nothing of use."""


class Places(msgspec.Struct, frozen=True):
    """Held-out rows and how large their residuals were, as they are saved."""

    scaling: Scaling
    levels: list[list[int]]
    """Of each categorical column the codes that have a coordinate of their own."""
    coordinates: list[list[float]]
    sizes: list[float]
    """The mean size of the residuals around each, over the usual."""
    most: float
    """Where the size around a row exceeds this, no bound is given."""


class Surroundings:
    """Looks up the held-out rows that are nearest to any row."""

    __slots__ = ("_tree", "_values", "places")

    def __init__(self, places: Places) -> None:
        from scipy.spatial import KDTree

        self.places = places
        self._values = np.array(places.sizes, dtype=np.float64)
        self._tree: Any = KDTree(np.array(places.coordinates, dtype=np.float64))

    def at(self, rows: Encoded) -> Floats:
        """The size of residuals around each row, (n,): 1 where it is usual, infinite where no bound is to be given."""
        size = self.sizes(rows)
        return np.where(size > self.places.most, np.inf, size)

    def sizes(self, rows: Encoded) -> Floats:
        """The size of residuals around each row, (n,), over the usual."""
        coordinates = _coordinates(rows, self.places.scaling, self.places.levels)
        return _nearest_mean(self._tree, self._values, coordinates, NEAREST)


class Looked(msgspec.Struct, frozen=True):
    """Surroundings that describe held-out rows better than one width does, and the size around each without itself."""

    surroundings: Surroundings
    local: Floats


def surroundings_of(rows: Encoded, residuals: Floats, folds: Ints, *, seed: int) -> Looked | None:
    """The surroundings of held-out rows, or None where a bound of one width is about as good.

    residuals: log(measured / predicted) of each row. folds: what it was held out with; the size around a row is that of
    other folds' residuals. Good is a small pinball loss of the bound at USUAL.
    """
    levels = _levels(rows)
    if not (rows.numeric.shape[1] or any(levels)):
        return None
    one_width = _reach(residuals)
    if not np.isfinite(one_width):
        return None
    scaling, sizes = scaling_of(rows.numeric), np.abs(residuals)
    sizes = sizes + max(PRIOR * float(np.median(sizes)), LEAST)
    coordinates = _coordinates(rows, scaling, levels)
    best, chosen = WORTH * _pinball(residuals - one_width), None
    for neighbours, around in _around_each(coordinates, sizes, folds, seed).items():
        usual = float(np.median(around))
        reach = _reach(residuals * usual / around)
        loss = _pinball(residuals - reach * around / usual)
        if loss < best:
            best, chosen = loss, (neighbours, usual, around / usual, reach)
    if chosen is None:
        return None
    neighbours, usual, local, reach = chosen
    some = _some(np.arange(len(sizes)), seed)
    field = _averages(coordinates[some], sizes[some], (neighbours,))[neighbours] / usual
    most = 1.0 + MOST_WIDER / max(reach, LEAST)
    return Looked(Surroundings(Places(scaling, levels, coordinates[some].tolist(), field.tolist(), most)), local)


def _around_each(coordinates: Floats, sizes: Floats, folds: Ints, seed: int) -> dict[int, Floats]:
    """By number of neighbours, the size around each row that the other folds' residuals tell."""
    from scipy.spatial import KDTree

    counts = tuple(count for count in NEIGHBOURS if 3 * count <= len(sizes))
    found = {count: np.empty(len(sizes)) for count in counts}
    for fold in np.unique(folds) if counts else ():
        own = folds == fold
        others = _some(np.flatnonzero(~own), seed)
        tree = KDTree(coordinates[others])
        for count, field in _averages(coordinates[others], sizes[others], counts).items():
            found[count][own] = _nearest_mean(tree, field, coordinates[own], NEAREST)
    return found


def _averages(coordinates: Floats, sizes: Floats, counts: tuple[int, ...]) -> dict[int, Floats]:
    """By number of neighbours, the mean size of that many rows around each row, itself among them."""
    from scipy.spatial import KDTree

    most = min(max(counts), len(sizes))
    _, near = KDTree(coordinates).query(coordinates, k=most)
    values = sizes[near].reshape(len(sizes), most)
    return {count: values[:, :count].mean(axis=1) for count in counts}


def _nearest_mean(tree: Any, values: Floats, coordinates: Floats, count: int) -> Floats:
    count = min(count, len(values))
    _, near = tree.query(coordinates, k=count)
    found: Floats = values[near].reshape(len(coordinates), count).mean(axis=1)
    return found


def _some(rows: Ints, seed: int) -> Ints:
    if len(rows) <= MOST_PLACES:
        return rows
    return rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_PLACES])]


def _reach(residuals: Floats) -> float:
    return float(bound(np.sort(residuals), np.array([USUAL]))[0])


def _pinball(above: Floats) -> float:
    return float(np.mean(np.where(above > 0, USUAL * above, (USUAL - 1) * above)))


def _levels(rows: Encoded) -> list[list[int]]:
    each = [np.unique(column).tolist() for column in rows.codes.T]
    return [levels if len(levels) <= MOST_LEVELS else [] for levels in each]


def _coordinates(rows: Encoded, scaling: Scaling, levels: list[list[int]]) -> Floats:
    """Standard scores of the numeric columns, and for each level whether a row has it, (n, coordinates)."""
    has = [column == level for column, some in zip(rows.codes.T, levels, strict=True) for level in some]
    return np.column_stack([scaling.apply(rows.numeric), *(one.astype(np.float64) for one in has)])
