"""Bounds from measured calls of every choice, for a path that no estimator knows: FastModel's. No torch.

How a choice's decode grows with the answer is taken from the calls themselves, not from one step's time: FastModel
replays several steps before it looks whether the answer has ended, so an answer of two tokens can take as long as one
of six. A measured call is then what an answer of any other length would have taken, in the ratio of the usual times. Of
these, each length has a distribution. How probable a length is stays what the bounds knew before. Few calls are
measured, so the bound is that of a somewhat larger share: the promised one holds with the certainty CERTAIN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.calibrated_bounds import calibrated_levels, distributions
from laptime.control.bounds.coverage import level_rank, most_late
from laptime.control.bounds.ratios import measured_ratios
from laptime.control.seen import Floats32
from laptime.data.record import Sample
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.lookup import LEVELS

CERTAIN = 0.8
"""How sure it is, whichever questions were measured, that a choice's calls keep the bound as often as promised. With
half of that the share would be missed at every other budget; with 0.95 a hundred calls would leave no room for one slow
call."""


class MeasuredTimes(NamedTuple):
    """Measured calls, (questions, choices) each, in ms: the total, what lies before its steps, and one step.

    before_ms: until the first token is chosen. step_ms: what follows, also steps that ran behind the last token, over
    the number of tokens after the first; NaN where there was one token.
    """

    before_ms: Floats
    step_ms: Floats
    total_ms: Floats


def times_of(samples: Sequence[Sequence[Sample]]) -> MeasuredTimes:
    """The times of calls: for each question one sample of each choice, in the order of the choices."""
    total = np.array([[sample.stages.total_ms for sample in row] for row in samples])
    before = np.array([[_until_first_token(sample) for sample in row] for row in samples])
    after_first = np.array([[max(sample.output_tokens or 1, 1) - 1 for sample in row] for row in samples])
    step = np.where(after_first > 0, (total - before) / np.maximum(after_first, 1), np.nan)
    return MeasuredTimes(before, step, total)


def _until_first_token(sample: Sample) -> float:
    return sample.stages.total_ms - (sample.stages.decode_ms or 0.0) if sample.ttft_ms is None else sample.ttft_ms


def measured_bounds(bounds: Bounds, times: MeasuredTimes, language: Floats32) -> Bounds:
    """The same bounds with times measured elsewhere. language (questions, L): the questions' features.

    Raises LaptimeError for fewer questions than the confidence needs, and where a choice was measured without steps.
    """
    questions = len(times.total_ms)
    check_enough(questions, bounds.confidence)
    rank = level_rank(bounds.confidence, questions)
    allowed = most_late(questions, bounds.confidence, CERTAIN)
    rank = max(rank, 1 - allowed / questions) if allowed >= 0 else rank
    most = bounds.lengths.most
    if most > 1 and np.isnan(times.step_ms).all(axis=0).any():
        raise LaptimeError("a choice gave only answers of one token: the time of a step isn't known; ask others")
    decode = times.total_ms - times.before_ms
    each = np.where(np.isnan(times.step_ms) | (times.step_ms <= 0), np.inf, times.step_ms)
    made = np.clip(np.rint(decode / each).astype(np.int64) + 1, 1, most)
    usual = np.median(times.before_ms, axis=0) + np.stack(
        [decode_by_tokens(decode[:, place], made[:, place], most) for place in range(decode.shape[1])], axis=1
    )
    # (questions, tokens, choices): what each question's call would have taken with an answer of each length.
    whole = times.total_ms[:, None, :] * usual / usual[made - 1, np.arange(usual.shape[1])][:, None, :]
    ordered = np.sort(whole, axis=0)
    quantiles = np.quantile(whole, LEVELS, axis=0, method="higher")
    counts = bounds.lengths.counts - 1
    grid_ms, within = distributions(quantiles[:, counts])
    learnt = msgspec.structs.replace(
        bounds,
        lengths=msgspec.structs.replace(bounds.lengths, questions=questions),
        known_ms=ordered[round(rank * questions) - 1],
        median_ms=np.median(whole, axis=0),
        grid_ms=grid_ms,
        within=within,
        level=np.ones(len(bounds.space)),
    )
    mass = np.stack([bounds.lengths.mass(one)[bounds.lengths.group] for one in language])
    learnt = msgspec.structs.replace(learnt, level=calibrated_levels(learnt, mass, times.total_ms, rank))
    return msgspec.structs.replace(learnt, ratios=measured_ratios(learnt, times.total_ms, language))


def check_enough(questions: int, confidence: float) -> None:
    """Raises LaptimeError for fewer questions than bounds of this confidence can be learnt from."""
    if not questions or level_rank(confidence, questions) > 1:
        least = int(np.ceil(confidence / (1 - confidence) - 1e-9))
        raise LaptimeError(
            f"{questions} questions: bounds that hold for {confidence:.0%} of the answers need at least {least}"
        )


def decode_by_tokens(decode_ms: Floats, tokens: np.ndarray[tuple[int], np.dtype[np.int64]], most: int) -> Floats:
    """The usual decode of answers of 1 to `most` tokens, (most,), from calls of one choice: (calls,) each.

    It never falls with longer answers. Between two lengths that were seen it is on a straight line, below the shortest
    it is the shortest's, and beyond the longest it grows in proportion to the steps. Source: isotonic regression of the
    medians of each length, weighted by their numbers of calls.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and deciding doesn't need it

    seen, calls = np.unique(tokens, return_counts=True)
    medians = np.array([np.median(decode_ms[tokens == one]) for one in seen])
    rising = isotonic_regression(medians, weights=calls).x
    wanted = np.arange(1, most + 1)
    beyond = np.maximum(1.0, (wanted - 1) / max(1, int(seen[-1]) - 1))
    usual: Floats = np.interp(wanted, seen, rising) * beyond
    return usual
