"""Decode by position: what a step costs at each length of the cache, from runs that measured every token.

A step reads the cache of all tokens before it, so that a long answer's late steps cost more than its early ones, and
the mean of an answer of 16 tokens says little of one of 500. A sample with N - 1 gaps gives a row for each of SEGMENTS
equal stretches of them: the mean step of the stretch, at the length of the cache in its middle. Gaps hold the host's
sampling too; they are scaled so that they sum to the sample's decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars

from laptime.data.stats import Floats
from laptime.estimate.predictor import Predictor, bases_of, first_reasons, positive_of, unpromised_of
from laptime.estimate.table.reading import Columns, run_columns

SEGMENTS = 4
CONTEXT = "context_tokens"
PROMPT, TOKENS = "prompt_tokens", "output_tokens"
SAID_BY_CONTEXT = (PROMPT, TOKENS, "config.prompt_tokens", "config.new_tokens")
TARGET = "decode_by_position_ms"
FOLDER = "decode_by_position"
LEVELS = np.array([*np.arange(1, 100) / 100, 0.995, 0.999])


def by_position(frame: polars.DataFrame) -> polars.DataFrame | None:
    """A run's rows once for each stretch, with CONTEXT and TARGET; None where no sample was measured by token."""
    if "itl_ms" not in frame.columns or PROMPT not in frame.columns:
        return None
    known = frame.filter(
        (polars.col("itl_ms").list.len() > 0) & (polars.col("itl_ms").list.sum() > 0) & (polars.col("decode_ms") > 0)
    )
    rows, contexts, times = [], [], []
    columns = (known["itl_ms"], known["decode_ms"], known[PROMPT])
    for row, (gaps, decode_ms, prompt) in enumerate(zip(*columns, strict=True)):
        steps = gaps.to_numpy() * (decode_ms / gaps.sum())
        for part in np.array_split(np.arange(len(steps)), min(SEGMENTS, len(steps))):
            rows.append(row)
            contexts.append(float(prompt + part.mean()))
            times.append(float(steps[part].mean()))
    if not rows:
        return None
    return known.drop("itl_ms")[rows].with_columns(polars.Series(CONTEXT, contexts), polars.Series(TARGET, times))


def position_columns(frame: polars.DataFrame) -> Columns:
    """The parts of such a table: as for decode per token, with the length of the cache in the prompt's place."""
    decode = run_columns(frame, "decode_per_token_ms")
    others = [name for name in decode.features if name not in SAID_BY_CONTEXT]
    return Columns(TARGET, [CONTEXT, *others], decode.categorical, decode.group)


class DecodeByPosition:
    """Decode per token of an answer of `output_tokens`: the mean of its steps, by an estimator of one step.

    Levels are assumed to rise together in all stretches, as the total assumes for all stages: the bound errs to safety.
    """

    target = "decode_per_token_ms"

    def __init__(self, step: Predictor) -> None:
        self.step = step
        self.features = [PROMPT, TOKENS, *(name for name in step.features if name != CONTEXT)]
        self.categorical = list(step.categorical)
        self.group = list(step.group)
        self.constants = dict(step.constants)
        self.positive = {name: above for name, above in positive_of(step).items() if name != CONTEXT}

    def predict(self, frame: Any) -> Floats:
        """The mean step's median, (n,)."""
        medians: Floats = np.mean([self.step.predict(part) for part in self._stretches(frame)], axis=0)
        return medians

    def quantile(self, frame: Any, q: float | Sequence[float]) -> Floats:
        """The mean step's bound: (n,) for one level, (n, levels) for several."""
        bounds: Floats = np.mean([self.step.quantile(part, q) for part in self._stretches(frame)], axis=0)
        return bounds

    def probability_within(self, frame: Any, budget_ms: npt.ArrayLike) -> Floats:
        """P(mean step <= budget), (n,), rounded down to a level of LEVELS."""
        kept = self.quantile(frame, LEVELS.tolist()) <= np.broadcast_to(budget_ms, (len(frame),))[:, None]
        return np.append(LEVELS, 0.0)[np.where(kept.any(axis=1), kept.shape[1] - 1 - kept[:, ::-1].argmax(axis=1), -1)]

    def support(self, frame: Any) -> list[Any]:
        """That of the stretch that is supported worst."""
        order = ("inside", "near", "outside")
        by_stretch = [self.step.support(part) for part in self._stretches(frame)]
        return [max(row, key=lambda one: order.index(one.where)) for row in zip(*by_stretch, strict=True)]

    def unpromised(self, frame: Any) -> list[str | None]:
        """For each row why no bound of one of its stretches can be promised."""
        return first_reasons([unpromised_of(self.step, part) for part in self._stretches(frame)])

    def bases(self, frame: Any) -> list[str | None]:
        """For each row of a new group or level what was held out to check its bound."""
        return bases_of(self.step, self._stretches(frame)[0])

    def _stretches(self, frame: Any) -> list[Any]:
        """The frame once for each stretch, with the length of the cache in its middle."""
        steps = np.maximum(frame[TOKENS].cast(float).to_numpy() - 1, 1)
        prompt = frame[PROMPT].cast(float).to_numpy()
        count = np.minimum(SEGMENTS, steps)  # an answer of three tokens has two steps, in the places of four
        middles = [np.floor(part * count / SEGMENTS) for part in range(SEGMENTS)]
        return [
            frame.with_columns(polars.Series(CONTEXT, prompt + steps * (middle + 0.5) / count - 0.5))
            for middle in middles
        ]
