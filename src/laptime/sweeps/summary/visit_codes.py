"""Which calls belong to one visit: a worker's stay at a configuration, warm-up and all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


def visit_codes(
    config: Codes, worker: Codes, started_unix_ms: npt.NDArray[np.float64], warm_up: npt.NDArray[np.bool_]
) -> Codes:
    """The number of each row's visit, from 0 on: worker by worker, in time.

    Rows of one configuration that follow each other on one worker are one visit; a warm-up after a measured call
    begins another, since a visit warms up once. Rows are ordered by their start; where any start is unknown (not
    above 0), by their place.
    """
    if len(config) == 0:
        return np.zeros(0, dtype=np.int64)
    timed = bool((started_unix_ms > 0).all())
    order = np.argsort(started_unix_ms, kind="stable") if timed else np.arange(len(config))
    if worker.max() > worker.min():
        order = order[np.argsort(worker[order], kind="stable")]
    moved = np.diff(config[order]) != 0
    moved |= np.diff(worker[order]) != 0
    warm = warm_up[order]
    moved |= warm[1:] & ~warm[:-1]
    visits = np.empty(len(config), dtype=np.int64)
    visits[order] = np.concatenate([[0], np.cumsum(moved)])
    return visits
