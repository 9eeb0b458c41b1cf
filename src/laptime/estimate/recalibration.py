"""Recalibration: carry an estimator over to a new GPU with few samples, by a line in logarithms.

    ln T_new = shift + slope * ln m(x) + e          m: the old estimator's median

Least squares, with the slope pulled towards 1 as by PRIOR further samples (ten samples of similar size can't determine
a slope). The bound uses each sample's residual as it would be without that sample (in closed form, from the leverages),
so it contains the errors of shift and slope too:

- From ceil(q / (1 - q)) samples on (19 for 95 %), split conformal's rank on these leave-one-out residuals: the
  one-sided jackknife (Barber, Candes, Ramdas and Tibshirani 2021, section 1.2). No distribution is assumed; coverage is
  close to q, not guaranteed.
- With fewer samples no such bound exists at q. Then Student's t prediction bound of the regression is used. It assumes
  normal residuals, and `assumes_normal` says so.

Samples must be spread over the sizes that will be asked about: a slope from small sizes says little about large ones.
Rows beyond the samples' sizes are reported as outside.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats, t_quantile
from laptime.errors import LaptimeError

FEWEST = 5
PRIOR = 2.0
"""Weight of the slope's prior, in units of the residual variance over the old logarithms' own variance."""
NEAR = float(np.log(1.25))


class Recalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The correction of one estimator for another machine. JSON: laptime.recalibration/1."""

    schema: str = "laptime.recalibration/1"
    samples: int
    shift: float  # at the middle of the samples
    slope: float
    middle: float  # mean of ln m over the samples
    low: float  # smallest and largest ln m of the samples
    high: float
    curvature: float  # (X'X + prior)^-1 of the slope
    sigma: float  # standard deviation of the residuals
    left_out: tuple[float, ...]  # residuals of each sample without it, ascending, each over its prediction's spread

    def median_ms(self, old_median_ms: npt.ArrayLike) -> Floats:
        """The new machine's medians from the old estimator's."""
        return np.exp(self._log(np.log(np.asarray(old_median_ms, dtype=np.float64))))

    def bound_ms(self, old_median_ms: npt.ArrayLike, q: float = 0.95) -> Floats:
        """Upper bounds for coverage q; rows beyond the samples' sizes are widened by the regression's own error."""
        old = np.log(np.asarray(old_median_ms, dtype=np.float64))
        return np.exp(self._log(old) + self._reach(q) * self._spread(old))

    def probability_within(self, old_median_ms: npt.ArrayLike, budget_ms: float) -> Floats:
        """P(T <= budget), by the same residuals."""
        old = np.log(np.asarray(old_median_ms, dtype=np.float64))
        reach = (np.log(budget_ms) - self._log(old)) / self._spread(old)
        if self.assumes_normal(0.95):
            from scipy.stats import t  # takes longer to import than all of this

            return np.asarray(t.cdf(reach / max(self.sigma, 1e-12), self.samples - 2), dtype=np.float64)
        below: Floats = np.searchsorted(self.left_out, reach + 1e-12, side="right") / (self.samples + 1)
        return below

    def assumes_normal(self, q: float = 0.95) -> bool:
        """Whether there are too few samples for a bound without a distribution."""
        return _rank(self.samples, q) > self.samples

    def outside(self, old_median_ms: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which rows are larger or smaller than the samples by more than a quarter."""
        old = np.log(np.asarray(old_median_ms, dtype=np.float64))
        far: npt.NDArray[np.bool_] = (old > self.high + NEAR) | (old < self.low - NEAR)
        return far

    def _log(self, old: Floats) -> Floats:
        return self.shift + self.slope * (old - self.middle)

    def _spread(self, old: Floats) -> Floats:
        """sqrt(1 + leverage) of a new row: how much wider than a residual its error is."""
        return np.sqrt(1 + 1 / self.samples + self.curvature * (old - self.middle) ** 2)

    def _reach(self, q: float) -> float:
        if not self.assumes_normal(q):
            return self.left_out[_rank(self.samples, q) - 1]
        return t_quantile(self.samples - 2, q) * self.sigma


def recalibrate(old_median_ms: npt.ArrayLike, measured_ms: npt.ArrayLike) -> Recalibration:
    """The correction from samples on the new machine: (n,) old predictions and (n,) measured times, in ms.

    Samples should be of different configurations: repeats of one tell its noise only. Raises LaptimeError with fewer
    than FEWEST samples, or times that are not above 0.
    """
    old, new = (np.asarray(values, dtype=np.float64) for values in (old_median_ms, measured_ms))
    if old.shape != new.shape or old.ndim != 1:
        raise LaptimeError(f"recalibration: {old.size} predictions for {new.size} measured times; each needs one")
    if len(old) < FEWEST:
        raise LaptimeError(f"recalibration: {len(old)} samples are too few; measure {FEWEST} configurations or more")
    if not (np.isfinite(old).all() and np.isfinite(new).all() and (old > 0).all() and (new > 0).all()):
        raise LaptimeError("recalibration: every prediction and measured time must be above 0 and finite")
    x, y = np.log(old), np.log(new)
    middle, n = float(x.mean()), len(x)
    centred = x - middle
    squares = float((centred**2).sum())
    prior = PRIOR * squares / n
    curvature = 1 / (squares + prior) if squares > 0 else 0.0
    shift = float(y.mean())
    slope = (float((centred * y).sum()) + prior) * curvature if squares > 0 else 1.0
    residual = y - shift - slope * centred
    leverage = 1 / n + curvature * centred**2
    left_out = residual / (1 - leverage) / np.sqrt(1 + leverage / (1 - leverage))
    return Recalibration(
        samples=n,
        shift=shift,
        slope=slope,
        middle=middle,
        low=float(x.min()),
        high=float(x.max()),
        curvature=curvature,
        sigma=float(np.sqrt((residual**2).sum() / (n - 2))),
        left_out=tuple(np.sort(left_out).tolist()),
    )


def _rank(samples: int, q: float) -> int:
    return int(np.ceil((samples + 1) * q - 1e-9))
