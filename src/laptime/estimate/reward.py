"""A reward for training policies that choose knobs under a budget: accuracy counts where the bound keeps the budget.

    b <= B                      r = accuracy_weight * accuracy
    b >  B                      r = -late_weight * min(ln(b / B), ln(most_late))
    no bound, or not supported  r = -late_weight * ln(most_late)

b is the estimator's upper bound of the total time (vision, prefill, and decode for the expected number of tokens), B
the budget. A reward from prefill alone would let every choice pass. The reasons for this form:

- The bound and not the mean: times exceed the mean about half of the time, and a policy would settle on these cases.
- A late answer earns nothing for its accuracy, and less the later it is. So where no choice fits the budget, the
  fastest is still the best one.
- Outside the training domain a predicted time is a guess, and a policy that searches for high rewards finds the guesses
  that err in its favour. There the reward is the lowest of all.

Rewards lie in [-late_weight ln(most_late), accuracy_weight]. They never rise with the bound, never fall with the budget
or the accuracy.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.in_ms import in_ms
from laptime.estimate.predictor import Predictor


class RewardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of the reward; the formula stands at the top of this file."""

    accuracy_weight: float = 1.0
    late_weight: float = 1.0
    most_late: float = 4.0  # times the budget; later is not worse

    def __post_init__(self) -> None:
        if not (self.accuracy_weight >= 0 and self.late_weight >= 0 and self.most_late > 1):
            raise LaptimeError(
                f"reward: accuracy_weight {self.accuracy_weight:g} and late_weight {self.late_weight:g} must not be "
                f"negative, most_late {self.most_late:g} must be above 1"
            )


DEFAULT = RewardSettings()


def rewards(
    accuracy: npt.ArrayLike,
    bound_ms: npt.ArrayLike,
    budget_ms: npt.ArrayLike,
    supported: npt.ArrayLike = True,
    settings: RewardSettings = DEFAULT,
) -> Floats:
    """Rewards of many choices at once; the arguments broadcast.

    `accuracy` in [0, 1] (measured or expected), `bound_ms` above 0 (infinite or NaN: no bound), `budget_ms` above 0,
    `supported`: whether the estimator was fitted on anything like it. Raises LaptimeError for an accuracy outside
    [0, 1] or a budget that is not above 0.
    """
    good = np.asarray(accuracy, dtype=np.float64)
    bound, budget = np.asarray(bound_ms, dtype=np.float64), np.asarray(budget_ms, dtype=np.float64)
    if not ((good >= 0) & (good <= 1)).all():
        raise LaptimeError("reward: an accuracy lies between 0 and 1")
    if not (budget > 0).all():
        raise LaptimeError("reward: a budget is above 0 ms")
    known = np.asarray(supported, dtype=np.bool_) & np.isfinite(bound)
    if not (bound[np.isfinite(bound)] > 0).all():
        raise LaptimeError("reward: a bound is above 0 ms")
    late = np.log(np.where(known, bound, 1.0)) - np.log(budget)
    late = np.where(known, np.minimum(late, np.log(settings.most_late)), np.log(settings.most_late))
    return np.where(late <= 0, settings.accuracy_weight * good, -settings.late_weight * late)


def estimator_rewards(
    estimator: Predictor,
    frame: Any,
    accuracy: npt.ArrayLike,
    budget_ms: npt.ArrayLike,
    *,
    q: float = 0.95,
    settings: RewardSettings = DEFAULT,
) -> Floats:
    """Rewards of a frame's rows by an estimator of the total; rows outside its training domain get the worst reward."""
    bound = in_ms(estimator).quantile(frame, q)
    supported = np.array([one.where != "outside" for one in estimator.support(frame)], dtype=np.bool_)
    return rewards(accuracy, bound, budget_ms, supported, settings)
