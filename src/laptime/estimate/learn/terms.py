"""Non-negative least squares on roofline terms: a sum of costs, none of which can be negative.

A sum of non-negative terms keeps growing with the sizes as it did within them, which no tree does. `power` says whose
errors count: 0 weighs milliseconds (large rows rule, best beyond the largest sizes), 1 weighs relative errors, 0.5 is
between. Cross-validation chooses one of them, not this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement
from math import comb

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from laptime.data.stats import Floats, Ints
from laptime.estimate.table.table import Encoded

Basis = str
BASES: tuple[Basis, ...] = ("sizes", "products", "work", "both")
"""What terms are offered: products and quotients of the numeric columns, each also rounded up to tiles; plain products
of different columns alone; the work computed of a row; or that and the first."""

SCREENING_ROWS = 600


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """time = sum of rates[i] * term[i], at least `floor` (a thousandth of the least time seen)."""

    terms: TermSet
    rates: list[float]
    floor: float

    def log_ms(self, rows: Encoded) -> Floats:
        """log of the time, (n,)."""
        value = self.terms.values(rows.sizes, rows.codes) @ np.array(self.rates)
        return np.asarray(np.log(np.maximum(value, self.floor)), dtype=np.float64)


def fit_terms(
    rows: Encoded, log_ms: Floats, *, power: float, of: TermSet | None = None, basis: Basis = "sizes"
) -> Terms:
    """Fit by non-negative least squares, reweighted once by the fitted times; `of` these terms, or of all of a basis.

    Of all terms, those are taken that a fit to at most SCREENING_ROWS of the rows uses.
    """
    if of is None:
        few = _spread_rows(log_ms)
        of = _solve(all_terms(rows, basis), rows.take(few), log_ms[few], power).terms
    return _solve(of, rows, log_ms, power)


def all_terms(rows: Encoded, basis: Basis) -> TermSet:
    """Every term that a basis offers for these rows."""
    if basis == "sizes":
        return derive_terms(rows.numeric)
    if basis == "products":
        return plain_products(rows.numeric, rows.codes)
    work = work_terms(rows.numeric.shape[1], rows.work)
    return work if basis == "work" else joined(derive_terms(rows.numeric), work)


def _solve(terms: TermSet, rows: Encoded, log_ms: Floats, power: float) -> Terms:
    values = terms.values(rows.sizes, rows.codes)
    target = np.exp(log_ms)
    expected = target
    rates = np.zeros(values.shape[1])
    for _ in range(2 if power else 1):
        weight = expected**-power
        weighted = np.column_stack([values * weight[:, None], target * weight])
        reduced: Floats = np.asarray(np.linalg.qr(weighted, mode="r"), dtype=np.float64)
        matrix, right = reduced[:, :-1], reduced[:, -1]
        scale = np.sqrt((matrix * matrix).sum(axis=0))
        scale[scale == 0] = 1.0
        solution, _ = nnls(matrix / scale, right, maxiter=50 * values.shape[1])
        rates = solution / scale
        expected = np.maximum(values @ rates, 0.2 * target)
    used = [int(i) for i in np.flatnonzero(rates > 0)]
    return Terms(terms=terms.take(used), rates=[float(rates[i]) for i in used], floor=float(target.min() / 1000))


def _spread_rows(log_ms: Floats) -> npt.NDArray[np.intp]:
    """At most SCREENING_ROWS rows, evenly over the sorted times: the smallest and the largest are among them."""
    if len(log_ms) <= SCREENING_ROWS:
        return np.arange(len(log_ms))
    places = np.linspace(0, len(log_ms) - 1, SCREENING_ROWS).round().astype(np.intp)
    return np.sort(np.argsort(log_ms, kind="stable")[places])


def screen_terms(rows: Encoded, log_ms: Floats, powers: Sequence[float], basis: Basis = "sizes") -> TermSet:
    """The terms that any of the powers uses on these rows: a short list, for comparing many fits."""
    fitted = [fit_terms(rows, log_ms, power=power, basis=basis).terms for power in powers]
    used = {
        row
        for terms in fitted
        for row in zip(map(tuple, terms.exponents), terms.tiled, terms.tiles, map(tuple, terms.level_of), strict=True)
    }
    order = sorted(used)
    return TermSet(
        columns=fitted[0].columns,
        offsets=fitted[0].offsets,
        exponents=[list(powers) for powers, _, _, _ in order],
        tiled=[tiled for _, tiled, _, _ in order],
        tiles=[tile for _, _, tile, _ in order],
        levels=[list(level) for _, _, _, level in order] if any(level for _, _, _, level in order) else [],
    )


TINY = 1e-12
MOST_TERMS = 260
"""Before tiling. Wider tables get products of fewer columns."""
TILES = (64, 128, 256)
TILED_FROM = 20
"""A column is tiled when it has more distinct whole values than this."""


class TermSet(msgspec.Struct, frozen=True, kw_only=True):
    """Terms over `columns` (places among the numeric features): term = product of (tile(x) + offset) ** exponent."""

    columns: list[int]
    offsets: list[float]
    """Added to a column: 1 where it holds zeros (a switch then doubles the work), else 0."""
    exponents: list[list[int]]
    tiled: list[int]
    """Per term the place in `columns` that is rounded up, or -1."""
    tiles: list[int]
    """Per term the tile's size; 1 where nothing is rounded."""
    levels: list[list[int]] = []
    """Per term the categorical column and the level that it is for, or nothing where it is for all rows. Empty: all."""

    @property
    def level_of(self) -> list[list[int]]:
        """`levels` with a value for each term."""
        return self.levels or [[] for _ in self.exponents]

    def values(self, numeric: Floats, codes: Ints | None = None) -> Floats:
        """(n, terms) in the product of the columns' units; 0 for a row of another level."""
        if not self.exponents:
            return np.empty((len(numeric), 0))
        powers = np.array(self.exponents, dtype=np.float64).T
        shifted = np.maximum(numeric[:, self.columns] + np.array(self.offsets), TINY)
        logs = np.log(shifted)
        total = logs @ powers
        tiled = np.array(self.tiled)
        for place in set(self.tiled) - {-1}:
            for tile in set(self.tiles) - {1}:
                which = (tiled == place) & (np.array(self.tiles) == tile)
                if which.any():
                    raised = np.log(np.ceil(shifted[:, place] / tile) * tile) - logs[:, place]
                    total[:, which] += raised[:, None] * powers[place, which]
        values = np.asarray(np.exp(total), dtype=np.float64)
        for term, level in enumerate(self.levels):
            if level:
                own = np.zeros(len(numeric), bool) if codes is None else codes[:, level[0]] == level[1]
                values[~own, term] = 0.0
        return values

    def take(self, which: list[int]) -> TermSet:
        """Only these terms."""
        return TermSet(
            columns=self.columns,
            offsets=self.offsets,
            exponents=[self.exponents[i] for i in which],
            tiled=[self.tiled[i] for i in which],
            tiles=[self.tiles[i] for i in which],
            levels=[self.levels[i] for i in which] if self.levels else [],
        )

    def names(self, features: list[str]) -> list[str]:
        """What each term is: "num_tokens*n_embd/num_tensor_parallel_workers", "ceil128(num_tokens)*n_embd", "1"."""
        return [self._name(i, features) for i in range(len(self.exponents))]

    def _name(self, term: int, features: list[str]) -> str:
        above: list[str] = []
        below: list[str] = []
        for place, power in enumerate(self.exponents[term]):
            if power == 0:
                continue
            name = features[self.columns[place]]
            if self.offsets[place]:
                name = f"({name}+{self.offsets[place]:g})"
            if self.tiled[term] == place:
                name = f"ceil{self.tiles[term]}({name})"
            if abs(power) > 1:
                name = f"{name}^{abs(power)}"
            (above if power > 0 else below).append(name)
        level = "" if not self.level_of[term] else f" (level {self.levels[term][1]} of {self.levels[term][0] + 1})"
        return "*".join(above or ["1"]) + "".join(f"/{name}" for name in below) + level


def work_terms(first: int, work: Floats) -> TermSet:
    """A constant and each column of work as it is; they follow `first` numeric columns. Its rates are a device's."""
    columns = [first + place for place, column in enumerate(work.T) if np.ptp(column) > 0 and column.min() >= 0]
    exponents = [[0] * len(columns), *np.eye(len(columns), dtype=int).tolist()]
    count = len(exponents)
    return TermSet(
        columns=columns, offsets=[0.0] * len(columns), exponents=exponents, tiled=[-1] * count, tiles=[1] * count
    )


def joined(one: TermSet, other: TermSet) -> TermSet:
    """All terms of both; a term that both have is there once."""
    columns = [*one.columns, *(column for column in other.columns if column not in one.columns)]
    offsets = dict(zip([*other.columns, *one.columns], [*other.offsets, *one.offsets], strict=True))
    distinct: dict[tuple[tuple[int, ...], int, int], None] = {}
    for terms in (one, other):
        place = [columns.index(column) for column in terms.columns]
        for powers, tiled, tile in zip(terms.exponents, terms.tiled, terms.tiles, strict=True):
            spread = [0] * len(columns)
            for at, power in zip(place, powers, strict=True):
                spread[at] = power
            distinct[tuple(spread), -1 if tiled < 0 else place[tiled], tile] = None
    return TermSet(
        columns=columns,
        offsets=[offsets[column] for column in columns],
        exponents=[list(powers) for powers, _, _ in distinct],
        tiled=[tiled for _, tiled, _ in distinct],
        tiles=[tile for _, _, tile in distinct],
    )


def derive_terms(numeric: Floats) -> TermSet:
    """The candidate terms of a training table, (n, p) of numeric features. Columns with negative values give none."""
    columns, offsets, whole = [], [], []
    for place in range(numeric.shape[1]):
        column = numeric[:, place]
        if column.min() < 0 or np.ptp(column) == 0:
            continue
        columns.append(place)
        offsets.append(1.0 if column.min() == 0 else 0.0)
        distinct = np.unique(column)
        whole.append(len(distinct) > TILED_FROM and bool((distinct == np.round(distinct)).all()))
    exponents = _exponents(len(columns))
    tiled, tiles = [-1] * len(exponents), [1] * len(exponents)
    for place, is_whole in enumerate(whole):
        if not is_whole or sum(whole) > 3:
            continue
        for tile in TILES:
            again = [powers for powers in exponents[: len(tiled)] if powers[place] == 1 and min(powers) >= -1]
            again = [p for p in again if p in exponents]
            exponents = exponents + again
            tiled += [place] * len(again)
            tiles += [tile] * len(again)
    return TermSet(columns=columns, offsets=offsets, exponents=exponents, tiled=tiled, tiles=tiles)


FEW_VALUES = 8
"""A column of so few values may divide the work: a degree of parallelism."""


MOST_BY_LEVEL = 400


def plain_products(numeric: Floats, codes: Ints) -> TermSet:
    """The products of up to four different columns, each divided by a column of few values too, and each by level.

    A few terms that work is known to be made of (m * n * k, m * n): beyond the sizes a term that is there by chance
    errs by the product of all that has grown. By level each dtype or GPU has a rate of its own; what it has no rate for
    it shares with the others.
    """
    columns = [i for i, column in enumerate(numeric.T) if column.min() >= 0 and np.ptp(column) > 0]
    offsets = [1.0 if numeric[:, i].min() == 0 else 0.0 for i in columns]
    count = len(columns)
    few = [place for place, i in enumerate(columns) if len(np.unique(numeric[:, i])) <= FEW_VALUES]
    degree = next((d for d in (4, 3, 2) if sum(comb(count, k) for k in range(d + 1)) * (1 + len(few)) <= MOST_TERMS), 1)
    exponents = []
    for size in range(degree + 1):
        for chosen in combinations(range(count), size):
            powers = [int(place in chosen) for place in range(count)]
            exponents.append(powers)
            exponents += [[p - (i == j) for i, p in enumerate(powers)] for j in few if j not in chosen]
    levels: list[list[int]] = [[] for _ in exponents]
    shared = list(exponents)
    for column in range(codes.shape[1]):
        seen = [int(code) for code in np.unique(codes[:, column]) if code >= 0]
        if len(exponents) + len(shared) * len(seen) <= MOST_BY_LEVEL:
            exponents += shared * len(seen)
            levels += [[column, code] for code in seen for _ in shared]
    terms = len(exponents)
    return TermSet(
        columns=columns,
        offsets=offsets,
        exponents=exponents,
        tiled=[-1] * terms,
        tiles=[1] * terms,
        levels=levels if len(exponents) > len(shared) else [],
    )


def _exponents(count: int) -> list[list[int]]:
    """All products that fit under MOST_TERMS: degree 3 with divisors, else degree 2 with, else 2 and 1 without."""
    for degree, divisors in ((3, True), (2, True), (2, False), (1, False)):
        products = _products(count, degree, divisors)
        if len(products) <= MOST_TERMS:
            break
    return products


def _products(count: int, degree: int, divisors: bool) -> list[list[int]]:
    products = []
    for size in range(degree + 1):
        for chosen in combinations_with_replacement(range(count), size):
            powers = [chosen.count(place) for place in range(count)]
            if max(powers, default=0) > 2:
                continue
            products.append(powers)
            if divisors:
                products += [[p - (i == j) for i, p in enumerate(powers)] for j in range(count) if powers[j] == 0]
    return [list(powers) for powers in sorted(set(map(tuple, products)))]
