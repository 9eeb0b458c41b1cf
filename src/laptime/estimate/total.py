"""The total as the sum of its stages, for a given or a distributed number of output tokens.

    T(N) = vision + prefill + (N - 1) * decode per token + other

Where a run was measured by token, decode per token is the mean of the answer's own steps
(laptime.estimate.table.positions).

Each stage has an estimator of its own, so the total of an answer length that was never measured is known too, between
the lengths that were (laptime.estimate.answer_lengths says what is known of others). The stages' residuals are taken to
rise together (comonotone): at every level the total's quantile is the sum of the stages' quantiles. Stages of one
machine do slow down together; where they don't, the sum of bounds is wider than it need be (Dhaene et al. 2002: the
comonotone sum is the largest in convex order), so the bound errs towards safety.

With N distributed, P(T <= B) is the mean over N of P(T(N) <= B), and the bound is the smallest B at which that reaches
the asked level. Levels are those of LEVELS; in between, the higher quantile counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars

from laptime.data import record
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.answer_lengths import TOKENS, lengths_of
from laptime.estimate.estimator import Estimator
from laptime.estimate.files import MANIFEST
from laptime.estimate.known import union_of_constants, union_of_positive
from laptime.estimate.predictor import Predictor, bases_of, first_reasons, outside_of, unpromised_of
from laptime.estimate.table.positions import FOLDER, DecodeByPosition

STAGES = tuple("decode_per_token" if name == "decode" else name for name in record.STAGES)
NEEDED = ("prefill", "decode_per_token")
LEVELS = np.array([*np.arange(1, 95) / 100, *np.arange(950, 999) / 1000, 0.999])
WORST = ("inside", "near", "outside")


class TotalSupport(NamedTuple):
    """How the stages' training tables support a row: the worst of them."""

    where: str


class TotalEstimator:
    """Answers as an Estimator does, for the total. Without `tokens` every row says its own `output_tokens`."""

    def __init__(self, stages: dict[str, Predictor], tokens: Sequence[int] | None = None) -> None:
        if missing := [name for name in NEEDED if name not in stages]:
            raise LaptimeError(f"a total needs an estimator of {' and '.join(missing)} too; laptime fit writes them")
        if tokens is not None and (not tokens or min(tokens) < 1):
            raise LaptimeError("a distribution of output tokens is a list of counts of 1 or more")
        self.stages = stages
        self.tokens = None if tokens is None else list(tokens)
        self.target = "total_ms"
        self.categorical = _union(stage.categorical for stage in stages.values())
        own = [] if tokens is not None else [TOKENS]
        known = [[name for name in stage.features if name != TOKENS] for stage in stages.values()]
        self.features = _union([*known, own])
        self.group = _union(stage.group for stage in stages.values())
        self.lengths = lengths_of(stages)
        always = None if self.lengths is None else self.lengths.always
        self.constants = union_of_constants(list(stages.values())) | ({} if always is None else {TOKENS: always})
        self.positive = union_of_positive(list(stages.values()))

    @classmethod
    def load(cls, folder: str | Path, tokens: Sequence[int] | None = None) -> TotalEstimator:
        """Read the stages' estimators that `laptime fit RUN` wrote. Raises LaptimeError when they are not there."""
        names = [name for name in (*STAGES, FOLDER) if (Path(folder) / name / MANIFEST).exists()]
        return cls.of({name: Estimator.load(Path(folder) / name) for name in names}, tokens)

    @classmethod
    def of(cls, estimators: Mapping[str, Estimator], tokens: Sequence[int] | None = None) -> TotalEstimator:
        """The sum of these stages, by the names of their folders. Decode by position stands for decode per token."""
        stages: dict[str, Predictor] = {name: estimators[name] for name in STAGES if name in estimators}
        if FOLDER in estimators:
            stages["decode_per_token"] = DecodeByPosition(estimators[FOLDER])
        return cls(stages, tokens)

    def predict(self, frame: Any) -> Floats:
        """The median of the total, (n,): the sum of the stages' medians, as the stages slow down together."""
        if self.tokens is not None:
            return self.quantile(frame, 0.5)
        steps = self._steps(frame)[:, 0]
        total = np.zeros(len(frame))
        for name, stage in self.stages.items():
            median = stage.predict(frame)
            total += _times(median, steps) if name == "decode_per_token" else median
        return total

    def quantile(self, frame: Any, q: float | Sequence[float]) -> Floats:
        """The total's bound for one level (n,) or several (n, levels); infinite where a stage promises nothing."""
        wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not ((wanted > 0) & (wanted < 1)).all():
            raise LaptimeError("a quantile's level is above 0 and below 1")
        if self.tokens is None and np.ndim(q) == 0:
            steps = self._steps(frame)[:, 0]
            total = np.zeros(len(frame))
            for name, stage in self.stages.items():
                one = stage.quantile(frame, float(wanted[0]))
                total += _times(one * self._raised(frame)[:, 0], steps) if name == "decode_per_token" else one
            return total
        values, mass = self._atoms(frame)
        order = np.argsort(values, axis=1, kind="stable")
        reached = np.cumsum(mass[order], axis=1)
        ordered = np.take_along_axis(values, order, axis=1)
        bounds = np.full((len(frame), len(wanted)), np.inf)
        for place, level in enumerate(wanted):
            kept = reached >= level - 1e-9
            some = kept.any(axis=1)
            bounds[some, place] = ordered[some, np.argmax(kept[some], axis=1)]
        return bounds[:, 0] if np.ndim(q) == 0 else bounds

    def probability_within(self, frame: Any, budget_ms: float | npt.ArrayLike) -> Floats:
        """P(total <= budget) of each row, (n,), rounded down to a level."""
        budget = np.broadcast_to(np.asarray(budget_ms, dtype=np.float64), (len(frame),))
        if not (budget > 0).all():
            raise LaptimeError("a budget is above 0")
        values, mass = self._atoms(frame)
        share: Floats = ((values <= budget[:, None] * (1 + 1e-12)) * mass).sum(axis=1)
        return share

    def support(self, frame: Any) -> list[TotalSupport]:
        """The worst support of any stage, for each row."""
        longest = frame if self.tokens is None else _with_tokens(frame, max(self.tokens))
        by_stage = [[WORST.index(one.where) for one in stage.support(longest)] for stage in self.stages.values()]
        if self.lengths is not None:
            by_stage.append(self.lengths.places(self._steps(frame) + 1).max(axis=1).tolist())
        return [TotalSupport(WORST[max(row)]) for row in zip(*by_stage, strict=True)]

    def unpromised(self, frame: Any) -> list[str | None]:
        """For each row why no bound of one of its stages can be promised."""
        longest = frame if self.tokens is None else _with_tokens(frame, max(self.tokens))
        return first_reasons([unpromised_of(stage, longest) for stage in self.stages.values()])

    def bases(self, frame: Any) -> list[str | None]:
        """For each row of a new group or level what was held out to check its bound."""
        longest = frame if self.tokens is None else _with_tokens(frame, max(self.tokens))
        return first_reasons([bases_of(stage, longest) for stage in self.stages.values()])

    def outside(self, frame: Any) -> list[str | None]:
        """For each row what of it lies outside the training table of a stage."""
        longest = frame if self.tokens is None else _with_tokens(frame, max(self.tokens))
        return first_reasons([outside_of(stage, longest) for stage in self.stages.values()])

    def share_seen(self, frame: Any) -> float | None:
        """The share of a table's rows that its stages were fitted on; None where that isn't known."""
        shares = [one.share_seen(frame) for one in self.stages.values() if isinstance(one, Estimator)]
        return max((share for share in shares if share is not None), default=None)

    def _atoms(self, frame: Any) -> tuple[Floats, Floats]:
        """Each row's distribution: values (n, counts * levels) and their masses (counts * levels,)."""
        levels = LEVELS.tolist()
        steps = self._steps(frame)
        fixed = np.zeros((len(frame), len(levels)))
        for name, stage in self.stages.items():
            if name != "decode_per_token":
                fixed = fixed + np.maximum.accumulate(stage.quantile(frame, levels), axis=1)
        parts = []
        for count, decode, raised in zip(steps.T, self._decode(frame, levels), self._raised(frame).T, strict=True):
            parts.append(fixed + _times(np.maximum.accumulate(decode, axis=1) * raised[:, None], count[:, None]))
        values = np.concatenate(parts, axis=1)
        mass = np.diff(np.concatenate([[0.0], LEVELS]))
        return values, np.tile(mass / steps.shape[1], steps.shape[1])

    def _raised(self, frame: Any) -> Floats:
        """What a step's bound is multiplied by, (n, counts): above 1 where the answer is longer than any seen."""
        steps = self._steps(frame)
        if self.lengths is None:
            return np.ones_like(steps)
        raised: Floats = np.exp(self.lengths.above(steps + 1, frame))
        return raised

    def _decode(self, frame: Any, levels: list[float]) -> list[Floats]:
        """A step's quantiles, (n, levels), for each count of a distribution: a long answer's mean step may differ."""
        stage = self.stages["decode_per_token"]
        if self.tokens is None:
            return [stage.quantile(frame, levels)]
        if TOKENS not in stage.features:
            return [stage.quantile(frame, levels)] * len(self.tokens)
        return [stage.quantile(_with_tokens(frame, count), levels) for count in self.tokens]

    def _steps(self, frame: Any) -> Floats:
        """Decode steps, (n, 1) by row or (n, counts) for a distribution: one less than the tokens."""
        if self.tokens is not None:
            return np.tile(np.array(self.tokens, dtype=np.float64) - 1, (len(frame), 1))
        if TOKENS not in frame.columns:
            raise LaptimeError(
                f"how many tokens will the answer have? Give {TOKENS}=N, or a distribution with `tokens` 4,8,16"
            )
        counts = np.asarray(frame[TOKENS].cast(float).to_numpy(), dtype=np.float64)
        if not (np.isfinite(counts) & (counts >= 1)).all():
            raise LaptimeError(f"{TOKENS}: every count is 1 or more")
        return counts[:, None] - 1


def is_estimator(folder: Path) -> bool:
    """Whether `laptime fit` wrote this folder: an estimator, or the stages of a run."""
    return (folder / MANIFEST).exists() or all((folder / name / MANIFEST).exists() for name in NEEDED)


def load_predictor(folder: str | Path, tokens: Sequence[int] | None = None) -> Estimator | TotalEstimator:
    """The estimator of a folder; of a folder of stages (`fit RUN`) the total that they add up to.

    `tokens`: equally likely counts of output tokens, for a total only. Raises LaptimeError for a folder that holds no
    estimator, and for `tokens` beside an estimator of one column.
    """
    place = Path(folder)
    if (place / MANIFEST).exists() or not is_estimator(place):
        if tokens is not None:
            words = ",".join(map(str, tokens))
            raise LaptimeError(f"`tokens` {words}: {folder} is no folder of stages, as fit writes of a run")
        return Estimator.load(place)
    return TotalEstimator.load(place, tokens)


def _times(curve: Floats, steps: Floats) -> Floats:
    """No step takes no time, even where a step's bound is infinite."""
    product: Floats = np.where(steps == 0, 0.0, np.where(steps == 0, 0.0, curve) * steps)
    return product


def _with_tokens(frame: Any, count: int) -> Any:
    return frame.with_columns(polars.lit(count).alias(TOKENS))


def _union(lists: Any) -> list[str]:
    return list(dict.fromkeys(name for some in lists for name in some))
