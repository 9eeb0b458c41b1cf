"""How much a time can grow beyond the sizes that were measured.

A regressor alone says little there: a kernel that was bound by its launch becomes bound by its arithmetic, and no row
showed the second rate. What the table does show is how fast times grew with each size where they grew fastest. So a row
beyond is predicted from the nearest row inside (its times are known well), and between two limits: no growth from
there, and growth by every size to the power of its largest elasticity that was seen. The bound starts from the upper
limit. Held-out steps, each from the sizes below to those just above, say how far that is off.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.data.stats import Floats
from laptime.estimate.learn.domain import Domain
from laptime.estimate.learn.regressors import Regressor
from laptime.estimate.learn.terms import Terms, fit_terms
from laptime.estimate.table.table import Encoded

BASES = ("sizes", "products")
"""The terms of the rooflines whose elasticities are looked at: one alone can leave a size out by chance."""
FASTEST = 0.95
"""The share of the training rows whose elasticity is at most the largest that counts."""
UNSEEN_PER_FACTOR = 0.07
"""What is added to a bound for each factor of e beyond: however well held-out steps were met, 7 % is not known."""


BACK = float(np.log(1.25))
"""Growth is also reckoned from this far within the edge: what is flat there may end at the edge."""


COUNTS = 0.3
"""A size with a larger elasticity than this may be what the work is proportional to."""


class Growth(msgspec.Struct, frozen=True):
    """The largest elasticity of each numeric column: d log(time) / d log(size), at least 0."""

    elasticities: list[float]


class Reach(msgspec.Struct, frozen=True):
    """Of rows beyond the sizes: the prediction, and how far the bound's start lies above it, both in logarithms."""

    log_ms: Floats
    above: Floats
    nearest: Encoded
    """The nearest row inside of each."""
    larger_by: Floats
    """By how much each size is larger than there, (n, columns), in logarithms."""


def growth_of(rows: Encoded, log_ms: Floats) -> Growth:
    """What a training table shows of each size."""
    count = rows.numeric.shape[1]
    largest = np.zeros(count)
    for basis in BASES if count else ():
        terms = fit_terms(rows, log_ms, power=0.5, basis=basis)
        largest = np.maximum(largest, np.quantile(_elasticities(terms, rows), FASTEST, axis=0))
    return Growth(largest.tolist())


def proportional(growth: Growth) -> Growth:
    """The same with sizes that count growing in proportion at least: for tables that show too little of growth."""
    return Growth([max(value, 1.0) if value > COUNTS else value for value in growth.elasticities])


def _elasticities(terms: Terms, rows: Encoded) -> Floats:
    """The share-weighted power of each numeric column in each row's time, (n, columns)."""
    values = terms.terms.values(rows.sizes, rows.codes) * np.array(terms.rates)
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300)
    found = np.zeros((len(rows), rows.numeric.shape[1]))
    if terms.rates:
        found[:, terms.terms.columns] = shares @ np.array(terms.terms.exponents, dtype=np.float64)
    return found


def _grown(larger_by: Floats, elasticities: Floats) -> Floats:
    """By how much times grow with these elasticities, (n,), in logarithms.

    An elasticity of 1.3 is that of a sum of which 0.3 grow with the square: further out the square is more of it. One
    below 1 counts as it is: what doesn't grow may be a launch, whose share says nothing of what comes after it.
    """
    whole = np.floor(elasticities)
    faster = np.where(whole > 0, np.log1p((elasticities - whole) * np.expm1(larger_by)), larger_by * elasticities)
    return np.asarray((larger_by * whole + faster).sum(axis=1), dtype=np.float64)


def reach(growth: Growth, domain: Domain, near: Regressor, far: Regressor, rows: Encoded, threads: int = 0) -> Reach:
    """What is predicted of rows beyond a domain, and where their bound starts.

    near: what predicts best inside; it is asked about the nearest rows there.
    threads: of trees; 1 beside other fits (learn/trees).
    far: a roofline; its own growth counts up to proportion, or what a size may grow by whose elasticity was above 1.
    """
    nearest, larger_by = domain.nearest(rows.numeric, rows.codes)
    inside = Encoded(nearest, rows.codes, rows.work)
    elasticities = np.array(growth.elasticities)
    at_edge, forecast = near.log_ms(inside, threads=threads), far.log_ms(rows, threads=threads)
    grown = np.clip(
        forecast - far.log_ms(inside, threads=threads), 0.0, _grown(larger_by, np.maximum(elasticities, 1.0))
    )
    back = BACK * larger_by / np.maximum(larger_by.sum(axis=1, keepdims=True), 1e-12)
    within = Encoded(domain.scaled(nearest, -back), rows.codes, rows.work)
    before = near.log_ms(within, threads=threads) + back @ elasticities
    highest = np.maximum(at_edge, before) + np.maximum(_grown(larger_by, elasticities), grown)
    middle = (np.clip(forecast, at_edge, highest) + highest) / 2
    return Reach(
        middle, highest - middle + UNSEEN_PER_FACTOR * domain.distances(rows.numeric, rows.codes), inside, larger_by
    )
