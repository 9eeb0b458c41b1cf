"""One prediction at a time, without frames: what a scheduler asks while a request waits.

    ask = estimator.one_row()
    median, bound, probability, question = ask([8, 1024, "h100"], budget_ms=40.0, q=0.95)

The same numbers as `predict`, `quantile` and `probability_within` give, to rounding. Values are in the order of
`estimator.card.features`; of groups nothing is known here, so their own residuals are not used. An object of this
kind is for one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, inf, log, log1p
from typing import NamedTuple

import numpy as np

from laptime.errors import LaptimeError
from laptime.estimate import conformal
from laptime.estimate.answers import SLACK, Answer
from laptime.estimate.fast_trees import FastTrees
from laptime.estimate.features import TINY
from laptime.estimate.fitting import Fitted
from laptime.estimate.process import Process
from laptime.estimate.selection import Question
from laptime.estimate.table import UNSEEN, Floats
from laptime.estimate.terms import Terms


class Reply(NamedTuple):
    """The median, the bound at the level asked for, P(time <= budget), and which held-out rows stand behind them."""

    median: float
    bound: float
    probability: float
    question: Question


class OneRow:
    """A fitted estimator, its parts as arrays that are ready to be used."""

    def __init__(self, fitted: Fitted) -> None:
        schema, domain = fitted.schema, fitted.domain
        self._numeric = len(schema.numeric)
        self._width = len(schema.features)
        self._levels = [{text: code for code, text in enumerate(schema.levels[name])} for name in schema.categorical]
        self._logs = [(place, *kind) for place, kind in enumerate(zip(domain.kinds, domain.least, strict=True))]
        self._scale = np.array(domain.scale)
        self._directions = np.array(domain.directions).reshape(-1, self._numeric)
        self._middle = (np.array(domain.high) + np.array(domain.low)) / 2
        self._reach = (np.array(domain.high) - np.array(domain.low)) / 2
        self._answers: dict[Question, _ReadyAnswer] = {}
        self._fitted = fitted

    def __call__(self, values: Sequence[float | str], *, budget_ms: float, q: float = 0.95) -> Reply:
        """Ask about one row. Raises LaptimeError for a row of another length or a budget or level out of range."""
        if len(values) != self._width or not budget_ms > 0 or not 0 < q < 1:
            raise LaptimeError(
                f"one row needs {self._width} values ({', '.join(self._fitted.schema.features)}), a budget above 0 "
                "and a level between 0 and 1"
            )
        numeric = np.array(values[: self._numeric], dtype=np.float64)
        codes = [
            known.get(value if isinstance(value, str) else f"{value:g}", UNSEEN)
            for known, value in zip(self._levels, values[self._numeric :], strict=True)
        ]
        distance = self._distance(numeric)
        question: Question = "level" if UNSEEN in codes else "beyond" if distance > 0 else "inside"
        ready = self._answers.get(question)
        if ready is None:
            ready = self._answers[question] = _ReadyAnswer(self._fitted.answers[question])
        log_ms = ready.log_ms(numeric, codes)
        scale = 1.0 + distance / ready.spread
        if q != ready.level:
            ready.set_level(q)
        spare = (log(budget_ms) - log_ms + SLACK) / scale
        share = bisect_right(ready.residuals, spare) / (len(ready.residuals) + 1)
        if ready.floor:
            share = min(share, bisect_right(ready.floor, spare) / (len(ready.floor) + 1))
        return Reply(exp(log_ms), exp(log_ms + scale * ready.reach), share, question)

    def _distance(self, numeric: Floats) -> float:
        if not self._numeric:
            return 0.0
        logs = np.array([_as_log(kind, least, float(numeric[place])) for place, kind, least in self._logs])
        excess = np.abs(self._directions @ (logs / self._scale) - self._middle) - self._reach
        distance = float(excess.max())
        return distance if distance >= 1e-9 else 0.0


def _as_log(kind: str, least: float, value: float) -> float:
    if kind == "log":
        return log(max(value, least))
    return log1p(max(value, 0.0)) if kind == "log1p" else value


class _ReadyAnswer:
    def __init__(self, answer: Answer) -> None:
        regressor = answer.regressor
        self.residuals = answer.residuals.tolist()
        self.floor = answer.floor.tolist()
        self.spread = answer.spread
        self.level = self.reach = -inf
        self._middle = regressor.middle
        self._clamps = [(clamp.column, clamp.low, clamp.high) for clamp in regressor.clamps]
        self._seen = regressor.candidate.categories
        self._guided = regressor.candidate.residual == "guided"
        self._terms = None if regressor.terms is None else _ReadyTerms(regressor.terms)
        self._process = None if regressor.process is None else _ReadyProcess(regressor.process)
        self._trees = None
        if regressor.trees is not None:
            self._trees = FastTrees(regressor.trees.text, regressor.trees.features)

    def set_level(self, q: float) -> None:
        """Look the level up in the residuals; kept until another level is asked for."""
        levels = np.array([q])
        self.reach = float(conformal.bound(np.array(self.residuals), levels)[0])
        if self.floor:
            self.reach = max(self.reach, float(conformal.bound(np.array(self.floor), levels)[0]))
        self.level = q

    def log_ms(self, numeric: Floats, codes: list[int]) -> float:
        for column, low, high in self._clamps:
            numeric[column] = min(max(numeric[column], low), high)
        seen = codes if self._seen else []
        total = self._middle
        if self._terms is not None:
            total += self._terms.log_ms(numeric)
        roof = total
        if self._process is not None:
            total += self._process.log_ms(numeric, seen)
        if self._trees is not None:
            total += self._trees.ask(np.array([*numeric, *seen, *([roof] if self._guided else [])]))
        return total


class _ReadyTerms:
    def __init__(self, terms: Terms) -> None:
        found = terms.terms
        self._columns = np.array(found.columns, dtype=np.intp)
        self._offsets = np.array(found.offsets)
        self._powers = np.array(found.exponents, dtype=np.float64).reshape(len(terms.rates), len(found.columns))
        self._rates = np.array(terms.rates)
        self._floor = terms.floor
        rounded = [(i, place, tile) for i, (place, tile) in enumerate(zip(found.tiled, found.tiles, strict=True))]
        self._rounded = [(i, place, tile) for i, place, tile in rounded if tile > 1]

    def log_ms(self, numeric: Floats) -> float:
        shifted = np.maximum(numeric[self._columns] + self._offsets, TINY)
        logs = self._powers @ np.log(shifted)
        for term, place, tile in self._rounded:
            value = float(shifted[place])
            logs[term] += log(-(-value // tile) * tile / value) * self._powers[term, place]
        return log(max(float(np.exp(logs) @ self._rates), self._floor))


class _ReadyProcess:
    def __init__(self, process: Process) -> None:
        scaling, count = process.scaling, len(process.weights)
        self._logs = list(zip(scaling.kinds, scaling.least, strict=True))
        per_length = np.sqrt(5) / np.array(process.lengths)
        self._shift = np.array(scaling.middle)
        self._width = np.array(scaling.width) / per_length
        self._centres = (np.array(process.centres).reshape(count, -1) * per_length).T.copy()
        self._codes = np.array(process.codes, dtype=np.int64).reshape(count, -1).T.copy()
        shares = np.array(process.shares)[:, None]
        self._numeric_shares, self._level_shares = shares[: len(self._logs)], shares[len(self._logs) :]
        self._weights = np.array(process.weights)
        self._offset = process.offset

    def log_ms(self, numeric: Floats, codes: list[int]) -> float:
        logs = np.array([_as_log(*kind, value) for kind, value in zip(self._logs, numeric.tolist(), strict=True)])
        r = np.abs(self._centres - ((logs - self._shift) / self._width)[:, None])
        factors = np.exp(-r)
        r += r * r / 3
        r += 1
        factors *= r
        factors *= self._numeric_shares
        factors += 1
        kernel = np.multiply.reduce(factors, axis=0)
        if codes:
            same = self._codes == np.array(codes)[:, None]
            kernel *= np.multiply.reduce(1 + self._level_shares * same, axis=0)
        return float(kernel @ self._weights) + self._offset
