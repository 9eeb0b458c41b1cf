"""Accuracy against latency: the configurations that no other one beats in both, and those that may belong there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laptime.data.record import Interval
from laptime.sweeps.summary.calls import Reals
from laptime.sweeps.summary.result import ConfigRow


def pareto_front(rows: Sequence[ConfigRow]) -> tuple[list[str], list[str]]:
    """The config_ids on the front, fastest first, and those near it, in the same order.

    A configuration is on the front when no other one is at least as accurate and at least as fast, and better in one
    of the two; equal points are both on it. Near it: not on it, but no other one is surely as accurate and surely as
    fast, going by the intervals. These are each configuration's own, although all of them answered the same
    questions, so `near` is on the cautious side.
    """
    points = [(row.config_id, row.accuracy, row.stages["total"]) for row in rows if row.accuracy and row.samples]
    points.sort(key=lambda point: (point[2].value, -point[1].value))
    front: list[str] = []
    best = (-1.0, float("inf"))  # the highest accuracy so far, and the least time it took
    for config_id, accuracy, total in points:
        if accuracy.value > best[0] or (accuracy.value, total.value) == best:
            front.append(config_id)
            best = (accuracy.value, total.value)
    right, ms = _table([accuracy for _, accuracy, _ in points]), _table([total for _, _, total in points])
    near = [
        config_id
        for place, (config_id, _, _) in enumerate(points)
        if config_id not in front and not _surely_beaten(right, ms, place)
    ]
    return front, near


def _table(intervals: Sequence[Interval]) -> Reals:
    """Low, value, high of each; unknown ends are infinitely far."""
    ends = [(-np.inf if i.low is None else i.low, i.value, np.inf if i.high is None else i.high) for i in intervals]
    return np.array(ends, dtype=np.float64).reshape(-1, 3)


def _surely_beaten(right: Reals, ms: Reals, place: int) -> bool:
    """Whether one other point is as accurate and as fast by all of both intervals, or by the very same one."""
    as_right = (right[:, 0] >= right[place, 2]) | _same(right, place)
    as_fast = (ms[:, 2] <= ms[place, 0]) | _same(ms, place)
    both = as_right & as_fast
    both[place] = False
    return bool(both.any())


def _same(table: Reals, place: int) -> npt.NDArray[np.bool_]:
    low, value, high = table[place]
    return np.asarray((table[:, 1] == value) & (table[:, 0] == low) & (table[:, 2] == high))
