"""Rules of thumb beside the calibrated bound, and what each rule costs where measured times are known.

Rules of thumb admit a configuration by its prediction + 1 or 2 standard deviations of the error, or + 20 or 25 %. A
rule costs what it admits that is late too often, and what it refuses that isn't.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.estimate.predictor import Predictor

ONE_SIGMA = 0.8413447460685429
"""The normal distribution's share below one standard deviation above its middle."""


class RuleCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule admits, and what that costs. Counts are of configurations."""

    rule: str
    admitted: int
    of: int
    also_calibrated: int  # admitted by the calibrated bound too
    wrongly_admitted: int | None  # late more often than the confidence allows; None where nothing was measured
    wrongly_refused: int | None
    late: float | None  # share of measured requests of admitted configurations that exceeded the budget
    unused: float | None  # mean share of the budget that admitted configurations leave, by their measured quantile
    best_accuracy: float | None = None  # of an admitted configuration
    limit_ms: float | None = None  # what the rule compares with the budget, when one configuration was asked about


def rules_of_thumb(median_ms: Floats, sigma_ms: float) -> dict[str, Floats]:
    """The limits that rules of thumb compare with the budget."""
    return {
        "prediction": median_ms,
        "prediction + 1 sd": median_ms + sigma_ms,
        "prediction + 2 sd": median_ms + 2 * sigma_ms,
        "prediction + 20 %": median_ms * 1.2,
        "prediction + 25 %": median_ms * 1.25,
    }


def standard_error(
    estimator: Predictor,
    frame: Any,
    median: Floats,
    measured: Sequence[Floats] | None,
    inside: npt.NDArray[np.bool_],
) -> tuple[float, int]:
    """One standard deviation of the prediction's error in ms, as rules of thumb take it, and over how many rows.

    From measured times where there are any, else from the estimator's own residuals (root mean square of the distance
    between the median and the quantile at one normal standard deviation). Of these only rows inside the training domain
    count where there are some: the error of one far outside is no other row's.
    """
    errors = [
        times - centre
        for times, centre in zip(measured or [], median, strict=False)
        if len(times) and np.isfinite(centre)
    ]
    if errors:
        return float(np.sqrt(np.mean(np.concatenate(errors) ** 2))), len(errors)
    limit = estimator.quantile(frame, ONE_SIGMA)
    known = np.isfinite(limit) & np.isfinite(median)
    known = known & inside if (known & inside).any() else known
    reach = limit[known] - median[known]
    return (float(np.sqrt(np.mean(reach**2))) if len(reach) else 0.0), len(reach)


class AllRules(NamedTuple):
    """What every rule is judged by. Arrays have one value for each configuration."""

    calibrated: npt.NDArray[np.bool_]
    budget_ms: float
    confidence: float
    accuracy: Floats | None
    measured: Sequence[Floats] | None

    def cost(self, rule: str, limit: Floats) -> RuleCost:
        """What the rule admits that compares `limit` (ms) with the budget, and what that costs."""
        admitted = limit <= self.budget_ms
        rows = np.flatnonzero(admitted)
        accuracy = np.empty(0) if self.accuracy is None else self.accuracy[rows][~np.isnan(self.accuracy[rows])]
        late, unused = self._late_and_unused(admitted)
        wrongly_admitted, wrongly_refused = self._wrong(admitted)
        return RuleCost(
            rule=rule,
            admitted=len(rows),
            of=len(limit),
            also_calibrated=int((admitted & self.calibrated).sum()),
            wrongly_admitted=wrongly_admitted,
            wrongly_refused=wrongly_refused,
            late=late,
            unused=unused,
            best_accuracy=float(accuracy.max()) if len(accuracy) else None,
            limit_ms=float(limit[0]) if len(limit) == 1 and np.isfinite(limit[0]) else None,
        )

    def _times(self) -> dict[int, Floats]:
        """The measured times of each configuration that has some."""
        return {row: times for row, times in enumerate(self.measured or []) if len(times)}

    def _wrong(self, admitted: npt.NDArray[np.bool_]) -> tuple[int | None, int | None]:
        in_time = {row: (times <= self.budget_ms).mean() >= self.confidence for row, times in self._times().items()}
        if not in_time:
            return None, None
        return (
            sum(bool(admitted[row]) and not good for row, good in in_time.items()),
            sum(not admitted[row] and bool(good) for row, good in in_time.items()),
        )

    def _late_and_unused(self, admitted: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
        times = [some for row, some in self._times().items() if admitted[row]]
        if not times:
            return None, None
        left = [1 - np.quantile(some, self.confidence) / self.budget_ms for some in times]
        return float(np.mean(np.concatenate(times) > self.budget_ms)), float(np.mean(left))
