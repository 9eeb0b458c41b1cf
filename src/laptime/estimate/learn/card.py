"""The model card: what an estimator learnt from, what was compared and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from laptime.data.stats import Floats
from laptime.estimate.learn.conformal import CalibratedRegressor
from laptime.estimate.learn.folds import Fold
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


def chosen_regressor(
    best: Score, ratios: Floats, folds: Sequence[Fold], chosen: CalibratedRegressor, sizes: list[str]
) -> ChosenRegressor:
    """The line of the card about the winner of a question.

    ratios: log(measured / predicted) of the single calls that were held out, by the winner alone. sizes: the schema's.
    """
    terms = chosen.regressor.terms
    written = (
        []
        if terms is None
        else [f"{rate:.4g} * {name}" for rate, name in zip(terms.rates, terms.terms.names(sizes), strict=True)]
    )
    return ChosenRegressor(
        question=best.question,
        candidate=best.name,
        error=float(np.mean(np.abs(ratios))),
        folds=[fold.what for fold in folds],
        residuals=len(ratios),
        spread=chosen.spread,
        terms=written,
    )
