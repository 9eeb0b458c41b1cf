"""Bounds from measured calls of every choice, for a path that no estimator knows: FastModel's. No torch.

A call of a choice takes a time before its steps and a time for each step. Of both, the measured questions give a
distribution for every length of answer. How probable a length is stays what the bounds knew before.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.calibrated_bounds import calibrated_levels, distributions
from laptime.control.bounds.coverage import level_rank
from laptime.control.seen import Floats32
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.lookup import LEVELS


class MeasuredTimes(NamedTuple):
    """Measured calls, (questions, choices) each, in ms: the total, what lies before its steps, and one step.

    step_ms: NaN where a call had no step.
    """

    before_ms: Floats
    step_ms: Floats
    total_ms: Floats


def measured_bounds(bounds: Bounds, times: MeasuredTimes, language: Floats32) -> Bounds:
    """The same bounds with times measured elsewhere. language (questions, L): the questions' features.

    Raises LaptimeError for fewer questions than the confidence needs, and where a choice was measured without steps.
    """
    questions = len(times.total_ms)
    rank = level_rank(bounds.confidence, questions) if questions else 2.0
    if rank > 1:
        least = int(np.ceil(bounds.confidence / (1 - bounds.confidence) - 1e-9))
        raise LaptimeError(
            f"{questions} questions: bounds that hold for {bounds.confidence:.0%} of the answers need at least {least}"
        )
    steps = np.arange(bounds.lengths.most)
    usual = np.array([_median(column) for column in times.step_ms.T])
    if bounds.lengths.most > 1 and np.isnan(usual).any():
        raise LaptimeError("a choice gave only answers of one token: the time of a step isn't known; ask others")
    each = np.where(np.isnan(times.step_ms), usual, times.step_ms)
    # (questions, tokens, choices): what each question's call takes with an answer of each length.
    whole = times.before_ms[:, None, :] + steps[None, :, None] * np.nan_to_num(each)[:, None, :]
    ordered = np.sort(whole, axis=0)
    quantiles = np.quantile(whole, LEVELS, axis=0, method="higher")
    counts = bounds.lengths.counts - 1
    grid_ms, within = distributions(quantiles[:, counts])
    learnt = msgspec.structs.replace(
        bounds,
        lengths=msgspec.structs.replace(bounds.lengths, questions=questions),
        known_ms=np.maximum.accumulate(ordered[round(rank * questions) - 1], axis=0),
        median_ms=np.maximum.accumulate(np.median(whole, axis=0), axis=0),
        grid_ms=grid_ms,
        within=within,
        level=np.ones(len(bounds.space)),
    )
    mass = np.stack([bounds.lengths.mass(one)[bounds.lengths.group] for one in language])
    return msgspec.structs.replace(learnt, level=calibrated_levels(learnt, mass, times.total_ms))


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
