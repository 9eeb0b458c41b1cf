"""A table of an estimator's answers for all combinations of discrete knobs: asking it is indexing.

A table holds, for each combination of the knobs' values (a cell), the median, the bound for one coverage, how it is
supported, and the shape of its residuals. Cells are numbered in C order of the knobs, so a choice is
`codes @ strides`, and a million choices are a few array operations.

Bounds are float32, rounded up: the table never promises more than the estimator did. P(T <= B) interpolates between
levels by the lower one, so it never exceeds the estimator's either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.errors import LaptimeError
from laptime.estimate.grid import grid_frame
from laptime.estimate.in_ms import in_ms
from laptime.estimate.predictor import Predictor

MOST_CELLS = 20_000_000
CHUNK = 20_000
GRID = 4096
"""Cells that the range of a curve is cut into."""
BLOCK = 1 << 15
"""Values worked on together: they stay in the cache."""
LEVELS = (*(round(0.02 * i, 2) for i in range(1, 48)), 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)
WHERE = ("inside", "near", "outside")


class LookupTable(msgspec.Struct, frozen=True):
    """The answers for all combinations of `knobs`; arrays have one element for each cell."""

    knobs: dict[str, list[Any]]
    q: float
    strides: tuple[int, ...]
    median_ms: npt.NDArray[np.float32]
    bound_ms: npt.NDArray[np.float32]
    log_median: npt.NDArray[np.float64]
    where: npt.NDArray[np.uint8]  # places in WHERE
    curve: npt.NDArray[np.uint32]  # rows of `curves`
    curves: npt.NDArray[np.float64]  # log(quantile / median) at LEVELS

    def __len__(self) -> int:
        return len(self.bound_ms)

    def cells(self, codes: Sequence[npt.NDArray[np.integer[Any]]]) -> npt.NDArray[np.int64]:
        """Cell numbers from one array of value numbers for each knob, in the knobs' order."""
        if len(codes) != len(self.strides):
            raise LaptimeError(f"{len(codes)} knobs given, the table has {len(self.strides)}: {', '.join(self.knobs)}")
        cells = np.zeros(len(codes[0]), dtype=np.int64)
        for number, stride in zip(codes, self.strides, strict=True):
            cells += number if stride == 1 else number * np.int64(stride)
        return cells

    def cell(self, choice: Mapping[str, Any]) -> int:
        """The cell of one combination. Raises LaptimeError for a knob or a value that the table does not have."""
        cell = 0
        for (name, values), stride in zip(self.knobs.items(), self.strides, strict=True):
            if name not in choice or choice[name] not in values:
                wanted = ", ".join(map(str, values[:12]))
                raise LaptimeError(f"{name} = {choice.get(name)}: the table knows {name} = {wanted}")
            cell += values.index(choice[name]) * stride
        return cell

    def choice(self, cell: int) -> dict[str, Any]:
        """The knobs' values of one cell."""
        sizes = [len(values) for values in self.knobs.values()]
        places = np.unravel_index(cell, sizes)
        return {name: values[int(i)] for (name, values), i in zip(self.knobs.items(), places, strict=True)}

    def probability_within(self, cells: npt.ArrayLike, budget_ms: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """P(T <= budget) of each cell, rounded down to a level of LEVELS; `budget_ms` is one number or one per cell.

        Raises LaptimeError for a budget that is negative or NaN.
        """
        at = np.asarray(cells, dtype=np.int64)
        budget = np.asarray(budget_ms, dtype=np.float64)
        if not (budget >= 0).all():
            raise LaptimeError("a budget is above 0")
        with np.errstate(divide="ignore"):
            margin = np.log(budget) + 1e-9 - self.log_median.take(at)
        levels = np.array([0.0, *LEVELS])
        if len(self.curves) == 1:
            return np.asarray(levels.take(steps_reached(self.curves[0], margin)), dtype=np.float64)
        share = np.empty(at.shape)
        curves = self.curve[at]
        for number in np.flatnonzero(np.bincount(curves.ravel())):
            own = curves == number
            share[own] = levels.take(np.searchsorted(self.curves[number], margin[own], side="right"))
        return share

    def feasible(self, budget_ms: float) -> npt.NDArray[np.bool_]:
        """Which cells' bounds keep the budget; cells outside the training domain are refused."""
        kept: npt.NDArray[np.bool_] = (self.bound_ms <= budget_ms) & (self.where != WHERE.index("outside"))
        return kept

    def best(self, budget_ms: float, accuracy: npt.NDArray[Any]) -> int | None:
        """The feasible cell of the highest accuracy (the fastest of equals); None when nothing is feasible."""
        if len(accuracy) != len(self):
            raise LaptimeError(f"{len(accuracy)} accuracies for {len(self)} cells; one for each is needed")
        cells = np.flatnonzero(self.feasible(budget_ms))
        if len(cells) == 0:
            return None
        good = accuracy[cells]
        equals = cells[good == good.max()]
        return int(equals[np.argmin(self.bound_ms[equals])])


def steps_reached(steps: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many of the ascending steps each value has reached: `searchsorted` from the right, for many values.

    The steps' range is cut into cells of equal width, so that a value's cell is a product and not a search. Only values
    in a cell that a step lies in, or touches, are searched.
    """
    finite = steps[np.isfinite(steps)]
    if len(finite) == 0 or finite[-1] <= finite[0] or values.size < GRID:
        return np.searchsorted(steps, values, side="right")
    margin = (finite[-1] - finite[0]) / 100  # most values lie below or above all steps: no step is in the outer cells
    low, per_cell = finite[0] - margin, GRID / (finite[-1] - finite[0] + 2 * margin)
    middles = low + (np.arange(-1, GRID + 1) + 0.5) / per_cell
    reached = np.searchsorted(steps, middles, side="right")
    searched = np.zeros(GRID + 2, dtype=np.bool_)
    for rounding in (-1e-3, 0.0, 1e-3):
        searched[np.clip(np.floor((finite - low) * per_cell + rounding).astype(np.int64) + 1, 0, GRID + 1)] = True
    counts = np.empty(values.shape, dtype=np.int64)
    flat, out = values.ravel(), counts.ravel()
    for start in range(0, flat.size, BLOCK):
        some = flat[start : start + BLOCK]
        with np.errstate(over="ignore"):
            cell = np.clip((some - low) * per_cell, -1.0, GRID).astype(np.int64)
        cell += 1
        below = reached.take(cell)
        doubtful = np.flatnonzero(searched.take(cell))
        below[doubtful] = np.searchsorted(steps, some[doubtful], side="right")
        out[start : start + BLOCK] = below
    if len(finite) < len(steps):
        counts[values == np.inf] = len(steps)
    return counts


def build(estimator: Predictor, knobs: Mapping[str, Sequence[Any]], *, q: float = 0.95) -> LookupTable:
    """Ask an estimator for every combination of the knobs' values.

    `knobs` names all of the estimator's features; one value makes it fixed. Raises LaptimeError for a feature that is
    missing, a knob without values, or more than MOST_CELLS combinations.
    """
    estimator = in_ms(estimator)
    values = {name: list(dict.fromkeys(some)) for name, some in knobs.items()}
    missing = [name for name in dict.fromkeys([*estimator.features, *estimator.categorical]) if name not in values]
    if missing:
        raise LaptimeError(f"the table needs values of {', '.join(missing)} too; give a single value to fix one")
    if empty := [name for name, some in values.items() if not some]:
        raise LaptimeError(f"no values of {', '.join(empty)}; give at least one of each knob")
    sizes = [len(some) for some in values.values()]
    count = prod(sizes)
    if count > MOST_CELLS:
        raise LaptimeError(f"{count} combinations are more than {MOST_CELLS}; give fewer values of some knobs")
    parts = [_ask(estimator, values, sizes, at, min(at + CHUNK, count), q) for at in range(0, count, CHUNK)]
    median, bound, where, shapes = (np.concatenate(part) for part in zip(*parts, strict=True))
    curves, curve = _distinct(shapes)
    upward = bound.astype(np.float32)
    upward = np.where(upward < bound, np.nextafter(upward, np.float32(np.inf)), upward)
    strides = tuple(prod(sizes[i + 1 :]) for i in range(len(sizes)))
    single = median.astype(np.float32)
    return LookupTable(values, q, strides, single, upward, np.log(single.astype(np.float64)), where, curve, curves)


def _ask(
    estimator: Predictor, values: dict[str, list[Any]], sizes: list[int], start: int, stop: int, q: float
) -> tuple[npt.NDArray[Any], ...]:
    frame = grid_frame(values, start, stop)
    median = estimator.predict(frame)
    quantiles = estimator.quantile(frame, [q, *LEVELS])
    where = np.array([WHERE.index(one.where) for one in estimator.support(frame)], dtype=np.uint8)
    with np.errstate(divide="ignore"):
        shapes = np.round(np.log(quantiles[:, 1:] / median[:, None]), 6)
    return median, quantiles[:, 0], where, np.maximum.accumulate(shapes, axis=1).astype(np.float32)


def _distinct(shapes: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint32]]:
    """Cells inside the domain share a shape: keep each once."""
    whole = np.ascontiguousarray(shapes).view(np.dtype((np.void, shapes.dtype.itemsize * shapes.shape[1]))).ravel()
    _, first, number = np.unique(whole, return_index=True, return_inverse=True)
    return shapes[first].astype(np.float64), number.astype(np.uint32)
