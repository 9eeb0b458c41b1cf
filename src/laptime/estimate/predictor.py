"""The protocol that budgets, lookup tables, rewards and evaluations need of an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from laptime.data.stats import Floats


class Predictor(Protocol):
    """An Estimator, or anything that answers as it does. Frames are polars frames, answers have one value a row."""

    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]

    @property
    def constants(self) -> dict[str, str]:
        """What had one value only in training, as text."""

    def predict(self, frame: Any) -> Floats: ...
    def quantile(self, frame: Any, q: Any) -> Floats: ...
    def probability_within(self, frame: Any, budget_ms: Any) -> Floats: ...
    def support(self, frame: Any) -> Sequence[Any]: ...


def positive_of(predictor: Predictor) -> dict[str, bool]:
    """Estimator.positive; nothing where a predictor of somebody's own doesn't say."""
    positive: dict[str, bool] = getattr(predictor, "positive", {})
    return positive
