"""When samples were measured, on a clock that runs only while something is measured.

A sweep may be stopped and resumed a day later. What warms a GPU up is measuring, and not the night between. So idle
time between calls is cut down to MOST_IDLE_CALLS calls. A stretch of measuring without a long pause is a session.

The wall clock may be set back while samples are measured. The lines of a worker's file are in the order of measuring;
where a few of them begin before the one before, the lines after them are moved on by the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

MOST_IDLE_CALLS = 20.0
"""Idle time between calls counts up to this many times the median call,"""
LEAST_IDLE_MS = 1000.0
"""or up to this, if that is more."""
PAUSE_MS = 60_000.0
"""A longer idle time ends a session."""
STEP_BACK_MS = 1000.0
"""A line that begins earlier than the one before by more than this was stamped after the clock was set back."""
MOST_STEPS = 0.02
"""With more steps back than this share of its lines, a file is just not in the order of measuring."""


@dataclass(frozen=True)
class MeasuringTime:
    """One value for each sample, in the order in which they were given.

    at_ms: from the first sample's start. session: from 0. steps_back: the samples before which their worker's clock was
    set back; how_far_ms: the largest such step.
    """

    at_ms: Floats
    session: npt.NDArray[np.int64]
    sessions: int
    steps_back: npt.NDArray[np.int64]
    how_far_ms: float = 0.0


def frame_time(frame: polars.DataFrame) -> MeasuringTime:
    """The measuring time of a frame's rows; all starts must be known. Without workers one worker measured all."""
    import polars

    known = {"worker": polars.String, "total_ms": polars.Float64}
    worker, took = (
        frame[name].cast(type_) if name in frame.columns else polars.Series([None] * frame.height, dtype=type_)
        for name, type_ in known.items()
    )
    codes = np.unique(worker.fill_null("").to_numpy(), return_inverse=True)[1] if worker.n_unique() > 1 else None
    return measuring_time(
        frame["started_unix_ms"].cast(polars.Float64).to_numpy(),
        took.fill_null(0.0).to_numpy(),
        np.zeros(frame.height, dtype=np.int64) if codes is None else codes.astype(np.int64),
    )


def measuring_time(started_unix_ms: Floats, took_ms: Floats, worker: npt.NDArray[np.int64]) -> MeasuringTime:
    """The measuring time of samples in the order of their files.

    started_unix_ms: all known. took_ms: NaN counts as 0. worker: a number for each worker.
    """
    count = len(started_unix_ms)
    if count == 0:
        return MeasuringTime(np.empty(0), np.empty(0, dtype=np.int64), 0, np.empty(0, dtype=np.int64))
    started, steps, far = _moved_on(started_unix_ms, worker)
    took = np.nan_to_num(took_ms, nan=0.0).clip(min=0.0)
    order = np.argsort(started, kind="stable")
    start = started[order]
    ended = np.maximum.accumulate(start + took[order])
    idle = np.zeros(count)
    idle[1:] = np.maximum(start[1:] - ended[:-1], 0.0)
    most = max(LEAST_IDLE_MS, MOST_IDLE_CALLS * float(np.median(took)))
    at, session = np.empty(count), np.empty(count, dtype=np.int64)
    at[order] = start - start[0] - np.cumsum(np.maximum(idle - most, 0.0))
    session[order] = np.cumsum(idle > max(PAUSE_MS, most))
    return MeasuringTime(at, session, int(session.max()) + 1, steps, far)


def _moved_on(started: Floats, worker: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.int64], float]:
    """The starts as if no clock had been set back, the places of the steps, and the largest of them."""
    by_worker = np.argsort(worker, kind="stable")
    times, workers = started[by_worker], worker[by_worker]
    step = np.diff(times)
    back = (step < -STEP_BACK_MS) & (np.diff(workers) == 0)
    if not back.any() or back.sum() > max(1.0, MOST_STEPS * len(times)):
        return started, np.empty(0, dtype=np.int64), 0.0
    added = np.zeros(len(times))
    added[1:] = np.cumsum(np.where(back, -step, 0.0))
    first = np.searchsorted(workers, workers, side="left")  # of the sample's worker: its clock is its own
    moved = np.empty(len(times))
    moved[by_worker] = times + added - added[first]
    return moved, np.sort(by_worker[1:][back]), float(-step[back].min())
