"""A small, honest estimator to judge: least squares on logarithms, bounds from its residuals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from laptime.estimate.learn.conformal import bound, share_below


class Where(NamedTuple):
    where: str


class LogLinear:
    """Fitted on all rows; rows beyond the largest size are outside."""

    def __init__(
        self, target: str, features: Sequence[str], categorical: Sequence[str] = (), group: Sequence[str] = ()
    ) -> None:
        self.target, self.features = target, list(features)
        self.categorical, self.group = list(categorical), list(group)
        self.constants: dict[str, str] = {}

    def fit(self, frame: pl.DataFrame) -> LogLinear:
        logs = np.log(frame[self.target].to_numpy())
        self.weights = np.linalg.lstsq(self._design(frame), logs, rcond=None)[0]
        self.residuals = np.sort(logs - self._design(frame) @ self.weights)
        self.largest = {name: float(frame[name].max()) for name in self.features}
        return self

    def predict(self, frame: pl.DataFrame) -> Any:
        return np.exp(self._design(frame) @ self.weights)

    def quantile(self, frame: pl.DataFrame, q: Any) -> Any:
        levels = np.atleast_1d(np.asarray(q, dtype=float))
        made = self.predict(frame)[:, None] * np.exp(bound(self.residuals, levels))[None, :]
        return made[:, 0] if np.ndim(q) == 0 else made

    def probability_within(self, frame: pl.DataFrame, budget_ms: Any) -> Any:
        return share_below(self.residuals, np.log(budget_ms) - np.log(self.predict(frame)))

    def support(self, frame: pl.DataFrame) -> list[Where]:
        beyond = np.any([frame[n].to_numpy() > m for n, m in self.largest.items()], axis=0)
        return [Where("outside" if far else "inside") for far in beyond]

    def _design(self, frame: pl.DataFrame) -> Any:
        return np.column_stack([np.ones(len(frame)), *(np.log(frame[name].to_numpy()) for name in self.features)])


def step_table(
    *, repeats: int = 6, noise: float = 0.05, seed: int = 0, models: Sequence[str] = ("a", "b")
) -> pl.DataFrame:
    """time = 2 ms * batch^0.7 * prompt^0.4 with lognormal noise; the config is named by its knobs."""
    rng = np.random.default_rng(seed)
    rows = [
        (model, batch, prompt, f"{model}-{batch}-{prompt}", 2 * batch**0.7 * prompt**0.4 * np.exp(noise * rng.normal()))
        for model in models
        for batch in (1, 2, 4, 8, 16)
        for prompt in (64, 128, 256, 512)
        for _ in range(repeats)
    ]
    return pl.DataFrame(rows, schema=["model", "batch", "prompt", "config", "step_ms"], orient="row")
