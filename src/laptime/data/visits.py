"""Visits: the stays of a worker at a configuration. All calls of a visit share its state: clocks, allocator, host load.

Calls of one visit are therefore no independent evidence of what the configuration takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars

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


def visits_of(frame: polars.DataFrame) -> Codes | None:
    """Each row's visit in a table of samples, (rows,); None where the table doesn't say when or under what it ran.

    Warm-up calls need not be in the table.
    """
    import polars as pl

    if "config_id" not in frame.columns or "started_unix_ms" not in frame.columns:
        return None
    started = frame["started_unix_ms"].cast(pl.Float64).fill_null(0.0).to_numpy()
    if len(started) == 0 or not (started > 0).all():
        return None
    worker = frame["worker"].cast(pl.String).fill_null("") if "worker" in frame.columns else [""] * len(frame)
    _, workers = np.unique(np.asarray(worker, dtype=str), return_inverse=True)
    _, configs = np.unique(frame["config_id"].cast(pl.String).fill_null("").to_numpy().astype(str), return_inverse=True)
    return visit_codes(configs, workers, started, np.zeros(len(started), dtype=np.bool_))
