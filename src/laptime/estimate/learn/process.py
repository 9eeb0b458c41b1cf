"""A Gaussian process on the log residual: what varies smoothly with the sizes, and by level.

The kernel is a product over columns of (1 + weight * k), k a Matern-5/2 kernel of a numeric column's logarithm or
"same level" of a categorical one: expanded, a sum over all subsets of columns, so effects of single columns are learnt
from all rows and their interactions where the data ask for them (Duvenaud et al. 2011, additive Gaussian processes;
Plate 1999). Away from the data it returns to the roofline below it. Its 2p + c + 2 parameters maximise the marginal
likelihood of a subset of rows, its weights solve the subset-of-regressors equations (Quinonero-Candela and Rasmussen
2005) on all of them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.table.table import Encoded

FIT_ROWS = 300
"""Rows on which the parameters are chosen: each step costs their cube."""
CENTRES = 400
"""Rows that carry the weights: a prediction costs them times the columns."""
STEPS = 60
BLOCK = 128
"""Rows predicted together: their kernel stays in the cache."""
MOST_DISTINCT = 512
"""Distinct values of a column whose factors are kept: 512 of 400 centres are 1.6 MB."""


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """How numeric columns enter: "log", "log1p" (zeros occur) or "plain" (negatives do), then standardised."""

    kinds: list[str]
    least: list[float]
    """The smallest argument of a logarithm: a value below is taken as this."""
    middle: list[float]
    width: list[float]

    def apply(self, numeric: Floats) -> Floats:
        """(n, p) of standard scores."""
        columns = np.empty_like(numeric)
        for place, kind in enumerate(self.kinds):
            column = numeric[:, place]
            if kind == "log":
                column = np.log(np.maximum(column, self.least[place]))
            elif kind == "log1p":
                column = np.log1p(np.maximum(column, 0.0))
            columns[:, place] = column
        return np.asarray((columns - np.array(self.middle)) / np.array(self.width), dtype=np.float64)


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """log residual = offset + kernel(row, centres) @ weights."""

    scaling: Scaling
    lengths: list[float]
    shares: list[float]
    """Weight of each numeric and then each categorical column in the product."""
    offset: float
    centres: list[list[float]]
    codes: list[list[int]]
    weights: list[float]

    def log_ms(self, rows: Encoded) -> Floats:
        """The residual's prediction, (n,)."""
        scores = self.scaling.apply(rows.numeric)
        centres = np.array(self.centres).reshape(len(self.weights), scores.shape[1])
        codes = np.array(self.codes, dtype=np.int64).reshape(len(self.weights), rows.codes.shape[1])
        weights, out = np.array(self.weights), np.empty(len(rows))
        kernel = _Kernel(scores, rows.codes, centres, codes, self.lengths, self.shares)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            out[part] = kernel.block(part) @ weights
        return out + self.offset


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What the likelihood chose, as logarithms: lengths (p), shares (p + c), amplitude and noise."""

    values: list[float]


def scaling_of(numeric: Floats) -> Scaling:
    """The scaling of a training table's numeric columns."""
    kinds = ["plain" if c.min() < 0 else "log1p" if c.min() == 0 else "log" for c in numeric.T]
    least = [float(c.min()) / 1000 for c in numeric.T]
    raw = Scaling(kinds=kinds, least=least, middle=[0.0] * len(kinds), width=[1.0] * len(kinds))
    scores = raw.apply(numeric)
    width = scores.std(axis=0)
    width[width == 0] = 1.0
    return Scaling(kinds=kinds, least=least, middle=scores.mean(axis=0).tolist(), width=width.tolist())


def choose_parameters(
    rows: Encoded, log_residual: Floats, repeats: Floats, *, seed: int, steps: int = STEPS, fit_rows: int = FIT_ROWS
) -> Parameters:
    """Maximise the marginal likelihood (with a weak prior around the start) on at most `fit_rows` rows."""
    chosen = np.random.default_rng(seed).permutation(len(rows))[:fit_rows]
    scores = scaling_of(rows.numeric).apply(rows.numeric[chosen])
    codes, noise_weight = rows.codes[chosen], np.sqrt(repeats[chosen])
    z = _standard(log_residual)[0][chosen]
    p, c = scores.shape[1], codes.shape[1]
    pairs = _Pairs.of(scores, codes)
    start = np.concatenate([np.full(p, 0.5), np.full(p + c, -0.5), [-1.0], [-3.0]])

    def negative(theta: Floats) -> tuple[float, Floats]:
        shares = np.exp(theta[p : 2 * p + c])
        parts, slopes = [], []
        for i, distinct in enumerate(pairs.distinct):
            r = distinct * np.exp(-theta[i]) if i < p else distinct
            decay = np.exp(-r)
            parts.append((1 + r + r * r / 3) * decay if i < p else distinct)
            slopes.append(r * r / 3 * (1 + r) * decay)
        factors = [1 + share * part for share, part in zip(shares, parts, strict=True)]
        kernel = np.full(len(pairs.rows), np.exp(2 * theta[-2]))
        for factor, place in zip(factors, pairs.places, strict=True):
            kernel *= factor[place]
        noise = np.exp(2 * theta[-1]) / noise_weight
        with_noise = np.zeros((len(z), len(z)), order="F")
        with_noise[pairs.rows, pairs.columns] = kernel
        with_noise[pairs.diagonal] += noise + 1e-8 * kernel[0]
        try:
            lower = cholesky(with_noise, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(theta)
        alpha = cho_solve((lower, True), z, check_finite=False)
        value = 0.5 * z @ alpha + np.log(lower[pairs.diagonal]).sum()
        inverse, _ = dpotri(lower, lower=1, overwrite_c=1)
        slope = 0.5 * (inverse[pairs.rows, pairs.columns] - alpha[pairs.rows] * alpha[pairs.columns])
        gradient = np.empty_like(theta)
        gradient[-1] = 2 * (slope[pairs.on_diagonal] * noise).sum()
        slope *= kernel * pairs.counted
        gradient[-2] = 2 * slope.sum()
        for i, (factor, place) in enumerate(zip(factors, pairs.places, strict=True)):
            per_share = np.bincount(place, slope, len(factor)) / factor * shares[i]
            gradient[p + i] = per_share @ parts[i]
            if i < p:
                gradient[i] = per_share @ slopes[i]
        return float(value + (((theta - start) / 2) ** 2).sum() / 2), gradient + (theta - start) / 4

    bounds = [(-4.0, 8.0)] * p + [(-8.0, 6.0)] * (p + c) + [(-8.0, 4.0), (-7.0, 1.0)]
    optimum = minimize(negative, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return Parameters(values=[float(value) for value in optimum.x])


class _Pairs(NamedTuple):
    """Every pair of rows once: a kernel is symmetric, and knobs have few values, so that few distances differ."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    counted: Floats
    """How often a pair stands in the kernel: 1 on the diagonal, else 2."""
    on_diagonal: npt.NDArray[np.intp]
    """Places of the pairs of a row and itself."""
    distinct: list[Floats]
    """Per column the distances that there are; of a categorical column 0 and 1, "same level"."""
    places: list[npt.NDArray[np.intp]]
    """Per column which of them each pair has."""

    @classmethod
    def of(cls, scores: Floats, codes: npt.NDArray[np.int64]) -> _Pairs:
        """The pairs of rows with these standard scores and levels."""
        rows, columns = np.tril_indices(len(scores))
        distinct, places = [], []
        for column in scores.T:
            values, place = np.unique(np.abs(column[rows] - column[columns]) * np.sqrt(5), return_inverse=True)
            distinct.append(values)
            places.append(place)
        for levels in codes.T:
            distinct.append(np.array([0.0, 1.0]))
            places.append((levels[rows] == levels[columns]).astype(np.intp))
        same = rows == columns
        return cls(rows, columns, np.where(same, 1.0, 2.0), np.flatnonzero(same), distinct, places)

    @property
    def diagonal(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The diagonal's places in the matrix."""
        return self.rows[self.on_diagonal], self.columns[self.on_diagonal]


class Equations(NamedTuple):
    """What the weights on the centres solve, but for the residual: processes with the same parameters share it."""

    scaling: Scaling
    lengths: list[float]
    shares: list[float]
    amplitude: float
    centres: Floats
    codes: npt.NDArray[np.int64]
    lower: Floats
    half: Floats
    precision: Floats
    system: tuple[Floats, bool]


def equations_of(
    rows: Encoded, repeats: Floats, parameters: Parameters, *, seed: int, centres: int = CENTRES
) -> Equations:
    """The subset-of-regressors equations of these rows, factored once for any residual of theirs."""
    scaling = scaling_of(rows.numeric)
    scores = scaling.apply(rows.numeric)
    p, c = scores.shape[1], rows.codes.shape[1]
    theta = np.array(parameters.values)
    lengths, shares = np.exp(theta[:p]).tolist(), np.exp(theta[p : 2 * p + c]).tolist()
    amplitude, noise = np.exp(2 * theta[-2]), np.exp(2 * theta[-1])
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:centres])
    at, codes = scores[chosen], rows.codes[chosen]
    everything = slice(None)
    inner = amplitude * _Kernel(at, codes, at, codes, lengths, shares).block(everything)
    across = amplitude * _Kernel(scores, rows.codes, at, codes, lengths, shares).block(everything)
    lower = _jittered_cholesky(inner)
    half = solve_triangular(lower, across.T, lower=True, check_finite=False)
    precision = np.sqrt(repeats) / noise
    system = dsyrk(1.0, half * np.sqrt(precision), lower=1)
    system[np.diag_indices(len(chosen))] += 1
    factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    return Equations(scaling, lengths, shares, float(amplitude), at, codes, lower, half, precision, factor)


def fit_process(equations: Equations, log_residual: Floats) -> Process:
    """The weights on the centres, for the residual of the rows that the equations are of."""
    z, offset, width = _standard(log_residual)
    solution = cho_solve(equations.system, equations.half @ (equations.precision * z))
    weights = solve_triangular(equations.lower.T, solution) * equations.amplitude * width
    return Process(
        scaling=equations.scaling,
        lengths=equations.lengths,
        shares=equations.shares,
        offset=offset,
        centres=equations.centres.tolist(),
        codes=equations.codes.tolist(),
        weights=weights.tolist(),
    )


def matern_factor(scores: Floats, centres: Floats, length: float, share: float) -> Floats:
    """A numeric column's factor of the kernel: 1 + share (1 + r + r^2 / 3) exp(-r), (n, centres)."""
    per_length = np.sqrt(5) / length
    return matern((scores * per_length)[:, None] - centres * per_length, share / 3)


def matern(r: Floats, third: float | Floats) -> Floats:
    """1 + share (1 + |r| + r^2 / 3) exp(-|r|), `third` of a share given; overwrites r."""
    np.abs(r, out=r)
    np.negative(r, out=r)
    factor = np.exp(r)
    r -= 1.5  # 1 + |r| + r^2 / 3 = ((|r| + 1.5)^2 + 0.75) / 3: one pass over the memory less
    r *= r
    r += 0.75
    factor *= r
    factor *= third
    factor += 1
    return factor


def level_factor(codes: npt.NDArray[np.int64], centres: npt.NDArray[np.int64], share: float) -> Floats:
    """A categorical column's factor of the kernel: 1 + share where the level is the centre's, (n, centres)."""
    return np.asarray(1 + share * (codes[:, None] == centres), dtype=np.float64)


class _Kernel:
    """The kernel of rows and centres, block by block.

    Knobs have few values: of a column with few distinct ones each one's factors are computed once, and a row copies its
    own. The numbers are those of computing every row's.
    """

    def __init__(
        self,
        scores: Floats,
        codes: npt.NDArray[np.int64],
        centres: Floats,
        centre_codes: npt.NDArray[np.int64],
        lengths: list[float],
        shares: list[float],
    ) -> None:
        self._rows, self._centres = len(scores), len(centres)
        self._direct = []
        self._tables = []
        for i, (length, share) in enumerate(zip(lengths, shares, strict=False)):
            values, place = np.unique(scores[:, i], return_inverse=True)
            if len(values) <= min(MOST_DISTINCT, len(scores) / 2):
                self._tables.append((matern_factor(values, centres[:, i], length, share), place))
            else:
                self._direct.append((scores[:, i], centres[:, i], length, share))
        for i, share in enumerate(shares[len(lengths) :]):
            levels, place = np.unique(codes[:, i], return_inverse=True)
            self._tables.append((level_factor(levels, centre_codes[:, i], share), place))

    def block(self, part: slice) -> Floats:
        """Of these rows, (rows of the part, centres)."""
        count = len(range(self._rows)[part])
        kernel = np.ones((count, self._centres))
        room = np.empty_like(kernel)
        for table, place in self._tables:
            kernel *= np.take(table, place[part], axis=0, out=room, mode="clip")  # "raise" would copy once more
        for scores, centres, length, share in self._direct:
            kernel *= matern_factor(scores[part], centres, length, share)
        return kernel


def _jittered_cholesky(matrix: Floats) -> Any:
    """The factor of a matrix that may be singular to rounding: the smallest addition to its diagonal that works."""
    for power in range(-9, 1):
        with suppress(LinAlgError):
            return cholesky(matrix + 10.0**power * matrix[0, 0] * np.eye(len(matrix)), lower=True)
    raise LaptimeError("the features are too large or too alike to tell rows apart; scale them or leave some out")


def _standard(values: Floats) -> tuple[Floats, float, float]:
    middle, width = float(values.mean()), float(values.std()) or 1.0
    return (values - middle) / width, middle, width
