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


def unpromised_of(predictor: Predictor, frame: Any) -> list[str | None]:
    """Estimator.unpromised; nothing where a predictor of somebody's own doesn't say."""
    said = getattr(predictor, "unpromised", None)
    reasons: list[str | None] = [None] * len(frame) if said is None else said(frame)
    return reasons


def bases_of(predictor: Predictor, frame: Any) -> list[str | None]:
    """Estimator.bases; nothing where a predictor of somebody's own doesn't say."""
    said = getattr(predictor, "bases", None)
    reasons: list[str | None] = [None] * len(frame) if said is None else said(frame)
    return reasons


def outside_of(predictor: Predictor, frame: Any) -> list[str | None]:
    """Estimator.outside; nothing where a predictor of somebody's own doesn't say."""
    said = getattr(predictor, "outside", None)
    reasons: list[str | None] = [None] * len(frame) if said is None else said(frame)
    return reasons


def first_reasons(many: Sequence[Sequence[str | None]]) -> list[str | None]:
    """For each row the first reason that one of several predictors gives."""
    return [next((reason for reason in row if reason is not None), None) for row in zip(*many, strict=True)]
