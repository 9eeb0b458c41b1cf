"""Odds against "B takes as long as A", process pair by process pair; they may be looked at after each of them.

Let d_i be ln(B/A) of the i-th pair of processes. If B is A times the factor exp(c), d_i - c is as likely above 0 as
below by the same amount, whatever the machine does: a coin decides which of the two runs first. Then
1 + STAKE tanh(k (d_i - c)) has a mean of 1 for every k, and so has its product over the pairs, and the average of such
products over a set of k. By Ville's inequality that average ever exceeds 1/error with a probability of at most `error`,
however often one looks and whenever one stops. It needs no variance, no normal noise and no number of pairs that was
fixed beforehand. A pair that something else disturbed costs a factor of 1 - STAKE at most. One coin orders two pairs
(ABBA or BAAB), so that a drift cancels. Noise that takes both pairs of a block the same way makes it less than exact;
benchmarks/compare_worlds.py shows how often it errs then.

Odds pay for being looked at after every pair. So they get half of the error, and the other half is for one look when
all planned processes have run: Wilcoxon's signed-rank test of all pairs, which finds more (Bonferroni over the two).

Source: B. Efron, Student's t-test under symmetry conditions, JASA 64 (1969); V. de la Peña, A general class of
exponential inequalities for martingales and ratios, Annals of Probability 27 (1999); A. Ramdas, J. Ruf, M. Larsson and
W. Koolen, Admissible anytime-valid sequential inference must rely on nonnegative martingales (2020), section 5.
"""

from __future__ import annotations

from math import exp, inf, log

import numpy as np

from laptime.comparisons.ratio_interval import paired_interval
from laptime.data.record import Interval
from laptime.data.stats import Floats

RATES = np.array([15.0, 30.0, 60.0, 120.0, 240.0, 480.0])
"""The k that are averaged: they look for differences of about 1/k, 0.2 to 7 %, in steps of two."""

STAKE = 0.9
"""What of the odds each pair puts at stake. With all of it a single disturbed pair could lose them."""

GRID = 100
"""Candidates of the factor that an interval tries at first; its ends are then halved to RESOLUTION."""

RESOLUTION = 1e-5

EVEN, MANY = 1.25, 1e6
"""Odds below the first are about even; larger ones than the second say no more."""


def log_odds(log_ratios: Floats, factor_log: float = 0.0) -> float:
    """The logarithm of the odds against one factor, in favour of any other; 0 at the beginning."""
    return float(_log_odds(np.asarray(log_ratios, dtype=np.float64), np.array([factor_log]))[0])


def _log_odds(log_ratios: Floats, factor_logs: Floats) -> Floats:
    """The same for many factors at once."""
    away = np.subtract.outer(-factor_logs, -log_ratios)  # (factors, pairs)
    x = np.multiply.outer(np.concatenate([RATES, -RATES]), away)  # both directions, each with half of the odds
    products = np.log1p(STAKE * np.tanh(x)).sum(axis=2)
    return np.asarray(np.logaddexp.reduce(products, axis=0) - log(len(products)))


def odds_words(odds: float) -> str:
    """Odds as one says them: about 19 to 1 against, about 3.2 to 1 for."""
    if 1 / EVEN < odds < EVEN:
        return "about even"
    larger = odds if odds > 1 else 1 / odds if odds > 0 else inf
    shown = "over a million" if larger > MANY else f"about {larger:.1f}" if larger < 10 else f"about {larger:.0f}"
    return f"{shown} to 1 {'for' if odds > 1 else 'against'}"


def turns_interval(log_ratios: Floats, confidence: float, *, last: bool) -> Interval:
    """The factors that the odds don't exclude. The ends are None while the pairs are too few to exclude any.

    The estimate is Hodges and Lehmann's: the median of all averages of two pairs.
    last: all planned processes have run, so that the signed-rank test excludes factors too.
    """
    d = np.sort(np.asarray(log_ratios, dtype=np.float64))
    each = (1 - confidence) / 2
    ranked = paired_interval(d, 1 - each)
    middle, reach = log(ranked.value), float(np.ptp(d)) + 10 / RATES[0]
    ends = [_end(d, middle, middle + side * reach, -log(each)) for side in (-1, 1)]
    low, high = (None if end is None else exp(end) for end in ends)
    if last and ranked.low is not None and ranked.high is not None:
        low, high = max(ranked.low, low or 0.0), min(ranked.high, high or inf)
    return Interval(ranked.value, low, high, len(d))


def _end(d: Floats, inside: float, far: float, limit: float) -> float | None:
    """The last factor towards `far` that isn't excluded; None if even `far` is not."""
    steps = np.linspace(inside, far, GRID)
    kept = np.flatnonzero(_log_odds(d, steps) < limit)
    if len(kept) and kept[-1] == GRID - 1:
        return None
    under = float(steps[kept[-1]]) if len(kept) else inside
    over = under + (far - inside) / (GRID - 1)
    while abs(over - under) > RESOLUTION:
        t = (under + over) / 2
        under, over = (t, over) if log_odds(d, t) < limit else (under, t)
    return over
