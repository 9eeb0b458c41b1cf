"""How large residuals are around a row, over what is usual in the table.

Some configurations are noisier than others, and where one kernel gives way to another a predictor that saw both sides
can be wrong by a factor, while it is off by a few percent elsewhere. A bound of one width for all rows is too wide for
most of them then, and too narrow where it matters. So held-out residuals are divided by the size of their neighbours'
before they are sorted, and a bound multiplies the size around its own row back (normalised conformal prediction). Where
several neighbours were off by a factor the table doesn't say on which side of a jump a row is, and no bound is given.

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
OFF_AT_A_JUMP = 2
"""Times jump where so many of a held-out row's few neighbours were further off than three times the usual bound. One
alone may be noise. A row is next to a jump if one of its nearest rows is."""
TOLD_APART = 1.5
"""Sizes up to this, over the median one, count as equal: means of eight differ so much by chance (by 27 %, one standard
deviation, where residuals are normal)."""
MOST_PLACES = 2000
MOST_LEVELS = 12
"""The levels of a categorical column with more of them are not told apart here."""
PRIOR = 1.0
"""So many median residuals are added to each: a few neighbours that were met by chance say little."""
LEAST = 1e-6
WORTH = 0.97
"""Surroundings are looked at where they make the pinball loss of held-out bounds this much smaller."""
USUAL = 0.95
MOST_WIDER = float(np.log(3.0))
"""How much further off than the usual bound (in logarithms) a residual is that stands for a jump."""


class Places(msgspec.Struct, frozen=True):
    """Held-out rows and how large their residuals were, as they are saved."""

    scaling: Scaling
    levels: list[list[int]]
    """Of each categorical column the codes that have a coordinate of their own."""
    coordinates: list[list[float]]
    sizes: list[float]
    """The mean size of the residuals around each, over the usual; all 1 where one width is as good."""
    jumps: list[int]
    """Places among them where times jump."""


class Surroundings:
    """Looks up the held-out rows that are nearest to any row."""

    __slots__ = ("_jumps", "_sizes", "_tree", "places")

    def __init__(self, places: Places) -> None:
        from scipy.spatial import KDTree

        self.places = places
        self._sizes = np.array(places.sizes, dtype=np.float64)
        self._jumps = np.zeros(len(places.sizes), dtype=np.bool_)
        self._jumps[places.jumps] = True
        self._tree: Any = KDTree(np.array(places.coordinates, dtype=np.float64))

    def at(self, rows: Encoded) -> Floats:
        """The size of residuals around each row, (n,): 1 where it is usual or smaller, infinite next to a jump."""
        near = _nearest(self._tree, _coordinates(rows, self.places.scaling, self.places.levels), len(self._sizes))
        return np.where(self._jumps[near].any(axis=1), np.inf, self._sizes[near].mean(axis=1))


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
    best, chosen, local = WORTH * _pinball(residuals - one_width), 0, np.ones(len(sizes))
    usual = 1.0
    for neighbours, around in _around_each(coordinates, sizes, folds, seed).items():
        least = TOLD_APART * float(np.median(around))
        over = np.maximum(around / least, 1.0)
        loss = _pinball(residuals - _reach(residuals / over) * over)
        if loss < best:
            best, chosen, local, usual = loss, neighbours, over, least
    some = _some(np.arange(len(sizes)), seed)
    near = _neighbours(coordinates[some], max(chosen, NEIGHBOURS[0]))
    off = np.sort(np.abs(residuals[some])[near[:, : NEIGHBOURS[0]]], axis=1)[:, -min(OFF_AT_A_JUMP, near.shape[1])]
    jumps = np.flatnonzero(off > max(one_width, 0.0) + MOST_WIDER)
    if not chosen and not len(jumps):
        return None
    field = np.ones(len(some))
    if chosen:
        field = np.maximum(sizes[some][near[:, :chosen]].mean(axis=1) / usual, 1.0)
    places = Places(scaling, levels, coordinates[some].tolist(), field.tolist(), jumps.tolist())
    return Looked(Surroundings(places), local)


def _around_each(coordinates: Floats, sizes: Floats, folds: Ints, seed: int) -> dict[int, Floats]:
    """By number of neighbours, the size around each row that the other folds' residuals tell."""
    from scipy.spatial import KDTree

    counts = tuple(count for count in NEIGHBOURS if 3 * count <= len(sizes))
    found = {count: np.empty(len(sizes)) for count in counts}
    for fold in np.unique(folds) if counts else ():
        own = folds == fold
        others = _some(np.flatnonzero(~own), seed)
        around = _neighbours(coordinates[others], max(counts))
        asked = _nearest(KDTree(coordinates[others]), coordinates[own], len(others))
        for count in counts:
            found[count][own] = sizes[others][around[:, :count]].mean(axis=1)[asked].mean(axis=1)
    return found


def _neighbours(coordinates: Floats, count: int) -> Ints:
    """The places of the nearest rows of each row, itself first, (n, count or fewer)."""
    from scipy.spatial import KDTree

    count = min(count, len(coordinates))
    return np.reshape(KDTree(coordinates).query(coordinates, k=count)[1], (len(coordinates), count))


def _nearest(tree: Any, coordinates: Floats, rows: int) -> Ints:
    """The places of the NEAREST rows of a tree that has so many."""
    count = min(NEAREST, rows)
    return np.reshape(tree.query(coordinates, k=count)[1], (len(coordinates), count))


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
