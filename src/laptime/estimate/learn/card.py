"""The model card: what an estimator learnt from, what was compared and what was chosen."""

from __future__ import annotations

import msgspec

from laptime.estimate.learn.selection import Score


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A numeric feature in the training table."""

    feature: str
    low: float
    high: float
    distinct: int


class ChosenRegressor(msgspec.Struct, frozen=True, kw_only=True):
    """The regressor that answers one question, with its error and its residuals on that question's folds."""

    question: str
    candidate: str
    error: float | None
    """Mean absolute log ratio of single held-out calls, the folds that its bounds come from (more than those that
    chose it). None when nothing could be held out for this question."""
    folds: list[str]
    residuals: int
    spread: float
    """The distance outside the domain at which a bound's exponent doubles."""
    terms: list[str]
    """Roofline terms with their rates, where the regressor has them."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about an estimator that a reader should know before trusting it."""

    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]
    rows: int
    configurations: int
    groups: int
    seed: int
    laptime: str
    ranges: list[Range]
    levels: dict[str, list[str]]
    choices: list[ChosenRegressor]
    scores: list[Score]
    notes: list[str]
    output_tokens: Range | None = None
    """The lengths of the answers that were learnt from, where the table says them."""
