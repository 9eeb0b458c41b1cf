"""Which answer lengths a time per token was learnt from, and what can be said of others.

A time per token is the mean of an answer's steps. Of one length it says nothing of another: the answer is unknown. Of
several lengths it was seen to hold between the shortest and the longest. Beyond the longest a step reads a longer
cache, and its time grows in proportion to that at most; below the shortest there is less to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars

from laptime.data.stats import Floats
from laptime.estimate.learn.card import Range
from laptime.estimate.learn.domain import NEAR
from laptime.estimate.learn.growth import UNSEEN_PER_FACTOR
from laptime.estimate.predictor import Predictor

TOKENS, PROMPT = "output_tokens", "prompt_tokens"


class AnswerLengths(NamedTuple):
    """The lengths that there were, in tokens."""

    low: float
    high: float

    @property
    def always(self) -> str | None:
        """The only length that there was, as text."""
        return f"{self.low:g}" if self.low == self.high else None

    def distances(self, tokens: Floats) -> Floats:
        """How far outside a length is, in logarithms; 0 within."""
        far: Floats = np.maximum(np.log(tokens / self.high), np.log(self.low / tokens))
        return np.maximum(far, 0.0)

    def places(self, tokens: Floats) -> npt.NDArray[np.intp]:
        """0 inside, 1 near, 2 outside, for each length."""
        distances = self.distances(tokens)
        return np.where(distances == 0, 0, np.where(distances <= NEAR, 1, 2))

    def above(self, tokens: Floats, frame: polars.DataFrame) -> Floats:
        """How far above its bound a step of each answer can lie, in logarithms: infinite where nothing is known.

        tokens (n, counts), of the rows of `frame`, which may say how long their prompts are.
        """
        distances = self.distances(tokens)
        if self.always is not None:
            return np.where(distances > 0, np.inf, 0.0)
        prompt = (
            frame[PROMPT].cast(float).fill_null(0.0).to_numpy() if PROMPT in frame.columns else np.zeros(len(frame))
        )
        grown = (prompt[:, None] + np.maximum(tokens, self.high) / 2) / (prompt[:, None] + self.high / 2)
        raised: Floats = np.log(np.maximum(grown, 1.0)) + UNSEEN_PER_FACTOR * distances
        return raised


def lengths_of(stages: Mapping[str, Predictor]) -> AnswerLengths | None:
    """The lengths that a run's decode per token was learnt from; None where the length is one of its features,
    where each token was marked, or where it isn't said (laptime 0.1 and before).
    """
    stage = stages["decode_per_token"]
    seen: Range | None = getattr(getattr(stage, "card", None), "output_tokens", None)
    if seen is None or TOKENS in stage.features:
        return None
    return AnswerLengths(seen.low, seen.high)
