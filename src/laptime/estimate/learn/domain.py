"""The domain of a training table, and how far outside it a row lies.

The domain is a polygon in the logarithms of the numeric features: the range of each, of the sum and difference of each
two, and the largest product of any number of sizes (columns that don't just describe a level). So 128 requests of 4096
tokens are outside a table that has 128 requests and 4096 tokens, but never both, and so is a matrix product that is
larger than any measured one in m * n * k. The distance is the largest excess over any side, as the logarithm of a
factor: 0.69 is twice as large as anything measured.
A row with a level that was never seen is outside whatever its sizes are.
"""

from __future__ import annotations

from itertools import combinations

import msgspec
import numpy as np

from laptime.data.stats import Floats
from laptime.estimate.learn.process import Scaling, scaling_of
from laptime.estimate.learn.regressors import described
from laptime.estimate.table.table import UNSEEN, Encoded

NEAR = float(np.log(1.25))
"""Up to a quarter beyond the training sizes is near."""
MOST_COLUMNS = 24
"""Wider tables are judged by single ranges: pairs grow with the square."""
MOST_PRODUCTS = 250
"""Of three columns and more. Wider tables are judged by the products of as many columns as this allows, and of all."""


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """Sides of the polygon: low <= directions @ logs <= high."""

    kinds: list[str]
    least: list[float]
    scale: list[float]
    """What a column is divided by before pairs are formed: 1 for logarithms, its spread for plain columns."""
    directions: list[list[float]]
    low: list[float]
    high: list[float]

    def distances(self, numeric: Floats) -> Floats:
        """How far each row is outside, (n,); 0 inside."""
        if not self.directions:
            return np.zeros(len(numeric))
        logs = self._logs(numeric) @ np.array(self.directions).T
        excess = np.maximum(logs - np.array(self.high), np.array(self.low) - logs)
        distance: Floats = np.maximum(excess.max(axis=1), 0.0)
        distance[distance < 1e-9] = 0.0
        return distance

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
        direction = np.zeros(count)
        direction[list(columns)] = 1.0
        directions.append(direction)
        high.append(float((logs @ direction).max()))
        low.append(float(logs[:, list(columns)].min(axis=0).sum()))  # the ranges of the columns say no more
    return msgspec.structs.replace(bare, directions=[d.tolist() for d in directions], low=low, high=high)


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
