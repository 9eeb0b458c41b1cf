"""The domain of a training table, and how far outside it a row lies.

The domain is a polygon in the logarithms of the numeric features: the range of each, of the sum and difference of each
two, and the largest product of any number of sizes (columns that don't just describe a level). So 128 requests of 4096
tokens are outside a table that has 128 requests and 4096 tokens, but never both, and so is a matrix product that is
larger than any measured one in m * n * k. The distance is the largest excess over any side, as the logarithm of a
factor: 0.69 is twice as large as anything measured.
A level has sides of its own, in each size and in their product, where it was measured less far than others.
A row with a level that was never seen is outside whatever its sizes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.process import Scaling, scaling_of
from laptime.estimate.learn.regressors import described
from laptime.estimate.table.table import UNSEEN, Encoded

NEAR = float(np.log(1.25))
"""Up to a quarter beyond the training sizes is near."""
MOST_COLUMNS = 24
"""Wider tables are judged by single ranges: pairs grow with the square."""
FEWEST_OF_LEVEL = 15
"""Rows of a level from which its own largest sizes are told."""
MOST_MOVES = 60
MOST_PRODUCTS = 250
"""Of three columns and more. Wider tables are judged by the products of as many columns as this allows, and of all."""


class LevelSides(msgspec.Struct, frozen=True):
    """Upper sides for the rows of one level: a dtype that was measured up to a size, where another goes on."""

    column: int
    level: int
    sides: list[int]
    """Places among the domain's directions."""
    high: list[float]


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Sides of the polygon: low <= directions @ logs <= high."""

    kinds: list[str]
    least: list[float]
    scale: list[float]
    """What a column is divided by before pairs are formed: 1 for logarithms, its spread for plain columns."""
    directions: list[list[float]]
    low: list[float]
    high: list[float]
    levels: list[LevelSides] = []
    """What was measured of single levels, where that is less."""

    def distances(self, numeric: Floats, codes: Ints | None = None) -> Floats:
        """How far each row is outside, (n,); 0 inside. `codes`: its levels, or None where they don't count."""
        if not self.directions:
            return np.zeros(len(numeric))
        logs = self._logs(numeric) @ np.array(self.directions).T
        excess = np.maximum(logs - self._high(logs, codes), np.array(self.low) - logs)
        distance: Floats = np.maximum(excess.max(axis=1), 0.0)
        distance[distance < 1e-9] = 0.0
        return distance

    def ranges(self) -> tuple[Floats, Floats]:
        """The smallest and the largest measured value of each column, (columns,) each."""
        columns = len(self.kinds)
        low, high = self._values(np.array([self.low[:columns], self.high[:columns]]))
        return low, high

    def larger(self, numeric: Floats) -> Floats:
        """By how much each row is larger than all that was measured, in a size or a product of sizes, (n,); 0: not so.

        The logarithm of a factor. Levels don't count here, nor do columns that have negative values.
        """
        factors = np.array([kind != "plain" for kind in self.kinds], dtype=np.bool_)
        sides = np.array(self.directions).reshape(-1, len(self.kinds))
        growing = (sides >= 0).all(axis=1) & ~(sides[:, ~factors] != 0).any(axis=1)
        if not growing.any():
            return np.zeros(len(numeric))
        along = self._logs(numeric) @ sides[growing].T
        return np.asarray(np.maximum((along - np.array(self.high)[growing]).max(axis=1), 0.0), dtype=np.float64)

    def _high(self, along: Floats, codes: Ints | None) -> Floats:
        """The upper side of each row in each direction, (n, sides): its level's where it exceeds that by NEAR."""
        high: Floats = np.broadcast_to(np.array(self.high), along.shape)
        if codes is None or not self.levels:
            return high
        high = np.array(high)
        for one in self.levels:
            place = np.ix_(np.flatnonzero(codes[:, one.column] == one.level), np.array(one.sides))
            limit = np.array(one.high)
            high[place] = np.where(along[place] > limit + NEAR, np.minimum(limit, high[place]), high[place])
        return high

    def nearest(self, numeric: Floats, codes: Ints | None = None) -> tuple[Floats, Floats]:
        """The nearest row inside of each row, and the logarithm of how much larger each size is than there.

        Both (n, columns); of a column with negative values no factor is told. Rows are moved across the side that they
        exceed most, again and again: an approximation of the nearest point that ends inside. Sizes are made smaller
        where that is enough: a row with more GPUs than it asks for would be another, faster one.
        """
        logs = self._logs(numeric)
        moved = logs.copy()
        sides, low = np.array(self.directions), np.array(self.low)
        high = self._high(logs @ sides.T, codes) if len(sides) else np.empty((len(logs), 0))
        lengths = (sides * sides).sum(axis=1) if len(sides) else np.empty(0)
        open_rows = np.arange(len(moved)) if len(sides) else np.empty(0, dtype=np.int64)
        for _ in range(MOST_MOVES):
            along = moved[open_rows] @ sides.T if len(open_rows) else np.empty((0, len(sides)))
            over = np.maximum(along - high[open_rows], 0.0) - np.maximum(low - along, 0.0)
            worst = np.abs(over / np.sqrt(lengths)).argmax(axis=1) if len(open_rows) else open_rows
            by = over[np.arange(len(open_rows)), worst]
            outside = np.abs(by) > 1e-9
            open_rows, worst, by = open_rows[outside], worst[outside], by[outside]
            if not len(open_rows):
                break
            along_side = sides[worst]
            smaller = np.where(along_side * by[:, None] > 0, along_side, 0.0)
            way = np.where(smaller.any(axis=1, keepdims=True), smaller, along_side)
            moved[open_rows] -= (by / (way * along_side).sum(axis=1))[:, None] * way
        factors = np.array([kind != "plain" for kind in self.kinds], dtype=np.bool_)
        return self._values(moved), np.where(factors, np.maximum(logs - moved, 0.0), 0.0)

    def scaled(self, numeric: Floats, logs: Floats) -> Floats:
        """Rows with their sizes times exp(logs), (n, columns)."""
        return self._values(self._logs(numeric) + logs)

    def _values(self, logs: Floats) -> Floats:
        """What `_logs` was made of."""
        values = logs * np.array(self.scale)
        for place, kind in enumerate(self.kinds):
            if kind != "plain":
                values[:, place] = np.exp(values[:, place]) if kind == "log" else np.expm1(values[:, place])
        return np.asarray(values, dtype=np.float64)

    def _logs(self, numeric: Floats) -> Floats:
        scaling = Scaling(kinds=self.kinds, least=self.least, middle=[0.0] * len(self.kinds), width=self.scale)
        return scaling.apply(numeric)


def domain_of(rows: Encoded) -> Domain:
    """The domain of a training table."""
    numeric = rows.numeric
    if numeric.shape[1] == 0:
        return Domain(kinds=[], least=[], scale=[], directions=[], low=[], high=[])
    scaling = scaling_of(numeric)
    scale = [scaling.width[i] if kind == "plain" else 1.0 for i, kind in enumerate(scaling.kinds)]
    count = numeric.shape[1]
    directions = [np.eye(count)[i] for i in range(count)]
    if count <= MOST_COLUMNS:
        directions += [
            np.eye(count)[i] + sign * np.eye(count)[j] for i in range(count) for j in range(i) for sign in (1, -1)
        ]
    bare = Domain(
        kinds=scaling.kinds,
        least=scaling.least,
        scale=scale,
        directions=[d.tolist() for d in directions],
        low=[],
        high=[],
    )
    logs = bare._logs(numeric)
    along = logs @ np.array(directions).T
    low, high = along.min(axis=0).tolist(), along.max(axis=0).tolist()
    sizes = [i for i, kind in enumerate(scaling.kinds) if kind != "plain" and not described(rows, i)]
    for columns in _products_of_many(sizes) if count <= MOST_COLUMNS else ():
        direction = _indicator(columns, count)
        directions.append(direction)
        high.append(float((logs @ direction).max()))
        low.append(float(logs[:, list(columns)].min(axis=0).sum()))  # the ranges of the columns say no more
    product = [
        place for place, side in enumerate(directions) if len(sizes) > 1 and (side == _indicator(sizes, count)).all()
    ]
    return msgspec.structs.replace(
        bare,
        directions=[d.tolist() for d in directions],
        low=low,
        high=high,
        levels=_level_sides(rows, logs @ np.array(directions).T, [*sizes, *product]),
    )


def _indicator(columns: Sequence[int], count: int) -> Floats:
    direction = np.zeros(count)
    direction[list(columns)] = 1.0
    return direction


def _level_sides(rows: Encoded, along: Floats, sides: list[int]) -> list[LevelSides]:
    """The largest that was measured of each level in these directions, of levels with rows enough to tell."""
    found = []
    for column, codes in enumerate(rows.codes.T):
        for level in np.unique(codes):
            own = along[codes == level][:, sides]
            if len(own) >= FEWEST_OF_LEVEL and (own.max(axis=0, initial=-np.inf) < along[:, sides].max(axis=0)).any():
                found.append(LevelSides(column, int(level), sides, own.max(axis=0).tolist()))
    return found


def _products_of_many(sizes: list[int]) -> list[tuple[int, ...]]:
    """Columns whose product is a side of the domain: three or more of them, every subset that there is room for."""
    found: list[tuple[int, ...]] = []
    for many in range(3, len(sizes) + 1):
        subsets = list(combinations(sizes, many))
        if len(found) + len(subsets) > MOST_PRODUCTS:
            break
        found += subsets
    every = tuple(sizes)
    return [*found, *([every] if len(sizes) > 2 and every not in found else [])]


def unseen_levels(rows: Encoded) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows with a level that the training table did not have."""
    return np.asarray((rows.codes == UNSEEN).any(axis=1), dtype=np.bool_)


def only_column(marked: np.ndarray[tuple[int, int], np.dtype[np.bool_]], names: Sequence[str]) -> list[str | None]:
    """For each row the one column that is marked, by its name; None where there is none, or several.

    marked: (n, columns).
    """
    single = marked.sum(axis=1) == 1
    columns = marked.argmax(axis=1) if marked.shape[1] else np.zeros(len(marked), dtype=np.int64)
    return [names[column] if one else None for column, one in zip(columns, single, strict=True)]
