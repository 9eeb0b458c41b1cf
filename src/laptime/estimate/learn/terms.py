"""Non-negative least squares on roofline terms: a sum of costs, none of which can be negative.

A sum of non-negative terms keeps growing with the sizes as it did within them, which no tree does. `power` says whose
errors count: 0 weighs milliseconds (large rows rule, best beyond the largest sizes), 1 weighs relative errors, 0.5 is
between. Cross-validation chooses one of them, not this file.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from laptime.data.stats import Floats
from laptime.estimate.learn.term_set import TermSet, derive_terms, joined, work_terms
from laptime.estimate.table.table import Encoded

Basis = str
BASES: tuple[Basis, ...] = ("sizes", "work", "both")
"""What terms are offered: products of the numeric columns, the work computed of a row, or both."""

SCREENING_ROWS = 1000


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """time = sum of rates[i] * term[i], at least `floor` (a thousandth of the least time seen)."""

    terms: TermSet
    rates: list[float]
    floor: float

    def log_ms(self, rows: Encoded) -> Floats:
        """log of the time, (n,)."""
        value = self.terms.values(rows.sizes) @ np.array(self.rates)
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
    work = work_terms(rows.numeric.shape[1], rows.work)
    return work if basis == "work" else joined(derive_terms(rows.numeric), work)


def _solve(terms: TermSet, rows: Encoded, log_ms: Floats, power: float) -> Terms:
    values = terms.values(rows.sizes)
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
    used = {row for terms in fitted for row in zip(map(tuple, terms.exponents), terms.tiled, terms.tiles, strict=True)}
    order = sorted(used)
    return TermSet(
        columns=fitted[0].columns,
        offsets=fitted[0].offsets,
        exponents=[list(powers) for powers, _, _ in order],
        tiled=[tiled for _, tiled, _ in order],
        tiles=[tile for _, _, tile in order],
    )
