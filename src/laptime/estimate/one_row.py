"""One prediction at a time, without frames: what a scheduler asks while a request waits.

    ask = estimator.one_row()
    median, bound, probability, question = ask([8, 1024, "h100"], budget_ms=40.0, q=0.95)

The same numbers as `predict`, `quantile` and `probability_within` give, to rounding. Values are in the order of
`estimator.card.features`; of groups nothing is known here, so their own residuals are not used. An object of this
kind is for one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import exp, inf, isfinite, log, log1p
from typing import Any, NamedTuple, TypeVar

import numpy as np

from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError
from laptime.estimate.fast_trees import FastTrees
from laptime.estimate.learn.answers import SLACK, Answer, bound
from laptime.estimate.learn.fitting import Fitted
from laptime.estimate.learn.process import Process, level_factor, matern
from laptime.estimate.learn.selection import Question
from laptime.estimate.roofline.terms import TINY, Terms
from laptime.estimate.roofline.work import INPUTS, MODEL, Work
from laptime.estimate.table.table import UNSEEN, Schema

MOST_KEPT = 512
"""Values of a column whose contributions are kept: 400 centres of each are 1.6 MB."""


class Reply(NamedTuple):
    """The median, the bound at the level asked for, P(time <= budget), and which held-out rows stand behind them."""

    median: float
    bound: float
    probability: float
    question: Question


class OneRow:
    """A fitted estimator, its parts as arrays that are ready to be used.

    The values of knobs come again: the factors of the kernel that one contributes are kept, but of no column that had
    more than MOST_KEPT values in training.
    """

    def __init__(self, fitted: Fitted) -> None:
        schema, domain = fitted.schema, fitted.domain
        self._numeric = len(schema.numeric)
        self._names = schema.features
        self._levels = [{text: code for code, text in enumerate(schema.levels[name])} for name in schema.categorical]
        counts = {one.feature: one.distinct for one in fitted.card.ranges}
        self._keeps = [counts.get(name, 0) <= MOST_KEPT for name in schema.numeric]
        self._logs = [_scaled_log(*column) for column in zip(domain.kinds, domain.least, domain.scale, strict=True)]
        directions = np.array(domain.directions).reshape(-1, self._numeric)
        self._sides = np.concatenate([directions, -directions])
        self._limits = np.concatenate([np.array(domain.high), -np.array(domain.low)])
        self._excess = np.empty(len(self._limits))
        self._work = None if schema.work is None else _ReadyWork(schema.work, schema)
        self._answers: dict[Question, _ReadyAnswer] = {}
        self._fitted = fitted

    def __call__(self, values: Sequence[float | str], *, budget_ms: float, q: float = 0.95) -> Reply:
        """Ask about one row. Raises LaptimeError for a row of another length, a number that is missing or not finite,
        or a budget or level out of range."""
        if len(values) != len(self._names) or not budget_ms > 0 or not 0 < q < 1:
            raise LaptimeError(
                f"one row needs {len(self._names)} values ({', '.join(self._names)}), a budget above 0 "
                "and a level between 0 and 1"
            )
        numeric = values[: self._numeric]
        codes = [
            known.get(value if isinstance(value, str) else f"{value:g}", UNSEEN)
            for known, value in zip(self._levels, values[self._numeric :], strict=True)
        ]
        distance = self._distance(numeric)
        question: Question = "level" if UNSEEN in codes else "beyond" if distance > 0 else "inside"
        ready = self._answers.get(question)
        if ready is None:
            ready = self._answers[question] = _ReadyAnswer(self._fitted.answers[question], self._keeps)
        work = self._work(values) if self._work is not None and ready.needs_work else []
        log_ms = ready.log_ms(numeric, codes, work)
        scale = 1.0 + distance / ready.spread
        if q != ready.level:
            ready.set_level(q)
        spare = (log(budget_ms) - log_ms + SLACK) / scale
        share = bisect_right(ready.residuals, spare) / (len(ready.residuals) + 1)
        if ready.floor:
            share = min(share, bisect_right(ready.floor, spare) / (len(ready.floor) + 1))
        return Reply(exp(log_ms), exp(log_ms + scale * ready.reach), share, question)

    def _distance(self, numeric: Sequence[Any]) -> float:
        if not self._numeric:
            return 0.0
        try:
            logs = [log_(value) for log_, value in zip(self._logs, numeric, strict=True)]
        except (TypeError, ValueError):
            raise LaptimeError(f"one row: a number is needed for each of {', '.join(self._names)}") from None
        if not isfinite(sum(logs)):
            raise LaptimeError("one row: a value is missing or not finite")
        excess = self._sides.dot(np.array(logs), out=self._excess)
        excess -= self._limits
        distance = float(np.maximum.reduce(excess))
        return distance if distance >= 1e-9 else 0.0


V = TypeVar("V")


class _Kept(dict[Any, V]):
    """What a value of one column contributes, computed when it is first asked for."""

    def __init__(self, compute: Callable[[float], V]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, value: Any) -> V:
        found = self._compute(value)
        if len(self) >= MOST_KEPT:
            self.clear()
        self[value] = found
        return found


def _scaled_log(kind: str, least: float, scale: float) -> Callable[[float], float]:
    """As a column's values are taken: `Scaling.apply` of one number, over `scale`. NaN stays NaN."""
    lowest = log(least) if kind == "log" else 0.0
    if kind == "log" and scale == 1.0:
        return lambda value: lowest if value <= least else log(value)
    if kind == "log1p" and scale == 1.0:
        return lambda value: lowest if value <= 0 else log1p(value)
    return lambda value: _as_log(kind, least, float(value)) / scale


def _as_log(kind: str, least: float, value: float) -> float:
    if kind == "log":
        return log(max(value, least))
    return log1p(max(value, 0.0)) if kind == "log1p" else value


class _ReadyWork:
    """The columns of work of one row, in plain floats."""

    def __init__(self, work: Work, schema: Schema) -> None:
        self._of, self._shape = work.of, work.shape
        self._inputs = [(place, name) for place, name in enumerate(schema.numeric) if name in INPUTS]
        self._model = work.model
        self._place = schema.features.index(MODEL) if work.model is None else -1

    def __call__(self, values: Sequence[float | str]) -> list[float]:
        model = str(values[self._place]) if self._model is None else self._model
        return self._of({name: float(values[place]) for place, name in self._inputs}, self._shape(model))  # type: ignore[return-value]


class _ReadyAnswer:
    def __init__(self, answer: Answer, keeps: list[bool]) -> None:
        regressor = answer.regressor
        self.residuals = answer.residuals.tolist()
        self.floor = answer.floor.tolist()
        self.spread = answer.spread
        self.level = self.reach = -inf
        self.needs_work = regressor.needs_work
        self._middle = regressor.middle
        self._clamps = [(clamp.column, clamp.low, clamp.high) for clamp in regressor.clamps]
        self._seen = regressor.candidate.categories
        self._guided = regressor.candidate.residual == "guided"
        self._terms = None if regressor.terms is None else _ReadyTerms(regressor.terms)
        self._process = None if regressor.process is None else _ReadyProcess(regressor.process, keeps)
        self._trees = None
        if regressor.trees is not None:
            self._trees = FastTrees(regressor.trees.text, regressor.trees.features)

    def set_level(self, q: float) -> None:
        """Look the level up in the residuals; kept until another level is asked for."""
        levels = np.array([q])
        self.reach = float(bound(np.array(self.residuals), levels)[0])
        if self.floor:
            self.reach = max(self.reach, float(bound(np.array(self.floor), levels)[0]))
        self.level = q

    def log_ms(self, numeric: Sequence[Any], codes: list[int], work: list[float]) -> float:
        if self._clamps:
            numeric = list(numeric)
            for column, low, high in self._clamps:
                numeric[column] = min(max(numeric[column], low), high)
        seen = codes if self._seen else []
        total = self._middle
        if self._terms is not None:
            total += self._terms.log_ms([*numeric, *work] if work else numeric)
        roof = total
        if self._process is not None:
            total += self._process.log_ms(numeric, seen)
        if self._trees is not None:
            total += self._trees.ask([*numeric, *seen, roof] if self._guided else [*numeric, *seen])
        return total


class _ReadyTerms:
    def __init__(self, terms: Terms) -> None:
        found = terms.terms
        powers = np.array(found.exponents, dtype=np.float64).reshape(len(terms.rates), len(found.columns))
        used = [place for place in range(len(found.columns)) if powers[:, place].any()]
        self._columns = [(found.columns[place], found.offsets[place]) for place in used]
        self._powers = np.ascontiguousarray(powers[:, used])
        self._rates = np.array(terms.rates)
        self._floor = terms.floor
        self._rounded = [
            (term, used.index(place), float(tile), float(powers[term, place]))
            for term, (place, tile) in enumerate(zip(found.tiled, found.tiles, strict=True))
            if tile > 1 and place in used
        ]

    def log_ms(self, sizes: Sequence[Any]) -> float:
        shifted = [max(sizes[column] + offset, TINY) for column, offset in self._columns]
        logs = self._powers.dot(np.array([log(value) for value in shifted]))
        for term, place, tile, power in self._rounded:
            value = shifted[place]
            logs[term] += log(-(-value // tile) * tile / value) * power
        return log(max(float(np.exp(logs).dot(self._rates)), self._floor))


class _ReadyProcess:
    """The kernel of one row is the product of its values' factors: one array of centres for each column's value."""

    def __init__(self, process: Process, keeps: list[bool]) -> None:
        scaling, count = process.scaling, len(process.weights)
        self._logs = [_scaled_log(kind, least, 1.0) for kind, least in zip(scaling.kinds, scaling.least, strict=True)]
        per_length = np.sqrt(5) / np.array(process.lengths)
        self._middle = np.array(scaling.middle)
        self._times = per_length / np.array(scaling.width)
        self._centres = (np.array(process.centres).reshape(count, -1) * per_length).T.copy()
        thirds = np.array(process.shares[: len(per_length)])[:, None] / 3
        self._thirds = np.repeat(thirds, count, axis=1)  # whole: a product with a column takes twice as long
        self._numeric: list[dict[Any, Floats]] = [{} for _ in self._logs]
        self._keeps = keeps
        codes = np.array(process.codes, dtype=np.int64).reshape(count, -1).T
        self._levels = [
            _Kept(_level_factors(column.copy(), share))
            for column, share in zip(codes, process.shares[len(per_length) :], strict=True)
        ]
        self._weights = np.array(process.weights)
        self._offset = process.offset
        self._kernel = np.empty(count)

    def log_ms(self, numeric: Sequence[Any], codes: list[int]) -> float:
        factors: list[Any] = [kept.get(value) for kept, value in zip(self._numeric, numeric, strict=True)]
        new = [place for place, factor in enumerate(factors) if factor is None]
        if new:
            for place, factor in zip(new, self._new(numeric, new), strict=True):
                factors[place] = factor
        if codes:
            factors += [kept[code] for kept, code in zip(self._levels, codes, strict=True)]
        kernel, multiply, first = self._kernel, np.multiply, self._weights
        for factor in factors[:-1]:
            first = multiply(first, factor, out=kernel)
        return float(first.dot(factors[-1])) + self._offset

    def _new(self, numeric: Sequence[Any], new: list[int]) -> Floats:
        """The factors of values that were not asked for before, of all their columns at once."""
        scores = np.array([self._logs[place](numeric[place]) for place in new], dtype=np.float64)
        at: Any = slice(None) if len(new) == len(self._logs) else new
        scores -= self._middle[at]
        scores *= self._times[at]
        factors = matern(self._centres[at] - scores[:, None], self._thirds[at])
        for place, factor in zip(new, factors, strict=True):
            if self._keeps[place]:
                kept = self._numeric[place]
                if len(kept) >= MOST_KEPT:
                    kept.clear()
                kept[numeric[place]] = factor
        return factors


def _level_factors(centres: Ints, share: float) -> Callable[[float], Floats]:
    return lambda code: level_factor(np.array([int(code)]), centres, share)[0]
