"""A predictor's answers in milliseconds, whatever unit its target's name says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laptime.data.stats import Floats
from laptime.estimate.predictor import Predictor, bases_of, outside_of, positive_of, unpromised_of
from laptime.estimate.table.units import ms_per_unit


def in_ms(predictor: Predictor) -> Predictor:
    """The predictor itself where its target is in milliseconds, else one that converts its answers."""
    factor = ms_per_unit(predictor.target)
    return predictor if factor == 1.0 or isinstance(predictor, InMilliseconds) else InMilliseconds(predictor, factor)


class InMilliseconds:
    """Answers as another predictor does, times a factor; budgets are divided by it.

    factor: milliseconds in one of its target's unit.
    """

    def __init__(self, predictor: Predictor, factor: float) -> None:
        self._of = predictor
        self._factor = factor
        self.target = predictor.target
        self.features = predictor.features
        self.categorical = predictor.categorical
        self.group = predictor.group
        self.positive = positive_of(predictor)

    @property
    def constants(self) -> dict[str, str]:
        """What had one value only in training, as text."""
        return self._of.constants

    def predict(self, frame: Any) -> Floats:
        """The median time of each row in ms, (n,)."""
        return self._of.predict(frame) * self._factor

    def quantile(self, frame: Any, q: float | Sequence[float]) -> Floats:
        """The upper bound in ms."""
        return self._of.quantile(frame, q) * self._factor

    def probability_within(self, frame: Any, budget_ms: Any) -> Floats:
        """P(time <= budget) of each row, (n,)."""
        return self._of.probability_within(frame, np.asarray(budget_ms, dtype=np.float64) / self._factor)

    def support(self, frame: Any) -> Sequence[Any]:
        """How the training table supports each row."""
        return self._of.support(frame)

    def unpromised(self, frame: Any) -> list[str | None]:
        """For each row why no bound can be promised."""
        return unpromised_of(self._of, frame)

    def bases(self, frame: Any) -> list[str | None]:
        """For each row what was held out to check its bound, where it is of a new group or level."""
        return bases_of(self._of, frame)

    def outside(self, frame: Any) -> list[str | None]:
        """For each row what of it lies outside the training table."""
        return outside_of(self._of, frame)
