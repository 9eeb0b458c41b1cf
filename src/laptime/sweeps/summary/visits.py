"""Visits: the stays of a worker at a configuration. All calls of a visit share its state: clocks, allocator, host load.

What a visit adds to all its calls does not average out over more inputs. `shared_visits` says how much of it stays in a
configuration's mean over inputs; laptime.sweeps.summary.visit_noise says how large it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, prod

import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.sweeps.summary.calls import JUDGED, Calls, Codes

FEW = 0.05
"""What visits share counts only above this share of what the units' own spread shows of them."""


@dataclass(frozen=True)
class Cells:
    """One row for each (config, row, unit, visit), in that order, of the visits that measured at least two units.

    calls: their number. logs: (cells, stages), the logarithm of each stage's median; NaN where there is none.
    """

    config: Codes
    row: Codes
    unit: Codes
    visit: Codes
    calls: Codes
    logs: Floats


@dataclass(frozen=True)
class Shared:
    """What the calls of a sweep share by their visits.

    covariance: for each configuration, by its code: how much of one visit's variance stays in its mean over units,
    beyond what the units' own spread shows. It is 0 if each unit has a visit of its own, 1 if all share one, and 1 / R
    if each was measured in R visits. visits: the number of visits of each configuration. cells: None if nothing is
    shared.
    """

    cells: Cells | None
    covariance: Floats
    visits: Codes


def shared_visits(calls: Calls, *, by_repeat: bool) -> Shared:
    """How units share visits. A unit is an input, or with `by_repeat` a repeat; then each (config, input) is a row."""
    configs = len(calls.config_ids)
    config, visit, unit = (calls.frame[name].to_numpy() for name in ("config", "visit", "input"))
    row = np.zeros_like(unit)
    if by_repeat:
        row, unit = unit, np.unique(calls.frame["repeat"].to_numpy(), return_inverse=True)[1]
    last = int(visit.max(initial=0)) + 1
    low, high, owner = np.full(last, np.iinfo(np.int64).max), np.full(last, -1), np.zeros(last, dtype=np.int64)
    np.minimum.at(low, visit, unit)
    np.maximum.at(high, visit, unit)
    owner[visit] = config
    visits = np.bincount(owner[high >= 0], minlength=configs)
    several = np.flatnonzero((high > low)[visit])
    if len(several) <= FEW * len(visit):
        return Shared(cells=None, covariance=np.zeros(configs), visits=visits)
    order = several[_order(config[several], row[several], unit[several], visit[several])]
    config, row, unit, visit = config[order], row[order], unit[order], visit[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(visit) != 0) | (np.diff(unit) != 0) | (np.diff(row) != 0)
    starts = np.flatnonzero(new)
    cells = Cells(
        config=config[starts],
        row=row[starts],
        unit=unit[starts],
        visit=visit[starts],
        calls=np.diff(np.append(starts, len(order))),
        logs=_logs(calls, order, new),
    )
    covariance = _covariance(calls, cells, by_repeat=by_repeat)
    return Shared(cells=cells if covariance.any() else None, covariance=covariance, visits=visits)


def _order(config: Codes, row: Codes, unit: Codes, visit: Codes) -> Codes:
    """The order by all four keys, the first one foremost. They are packed into one number if they fit."""
    keys = (config, row, unit, visit)
    widths = [int(key.max()) + 1 for key in keys]
    if prod(widths) >= 2**62:
        return np.lexsort(keys[::-1])
    number = np.zeros_like(config)
    for key, width in zip(keys, widths, strict=True):
        number = number * width + key
    return np.argsort(number, kind="stable")


def _logs(calls: Calls, order: Codes, new: npt.NDArray[np.bool_]) -> Floats:
    """The logarithms of the stages of the calls in `order`: the median of the calls from one `new` to the next."""
    import polars as pl

    table = calls.frame.select(f"{stage}_ms" for stage in JUDGED)
    if not new.all():
        table = table[order].with_columns(pl.Series("cell", np.cumsum(new)))
        table = table.group_by("cell", maintain_order=True).agg(pl.all().median()).drop("cell")
        order = np.arange(table.height)
    logs = np.full((len(order), len(JUDGED)), np.nan)
    for place, name in enumerate(table.columns):
        if table[name].null_count() < table.height:
            ms = table[name].to_numpy()[order]
            with np.errstate(divide="ignore", invalid="ignore"):
                logs[:, place] = np.where(ms > 0, np.log(ms), np.nan)
    return logs


def _covariance(calls: Calls, cells: Cells, *, by_repeat: bool) -> Floats:
    """Sum over visits k and units i != j of share(i, k) share(j, k), divided by n (n - 1); per configuration.

    `share` of a unit's calls are from visit k, so the unit's value carries share times that visit's deviation. From
    visits a mean over n units has the variance (sum_k (sum_i share)^2) / n^2. The spread over units already shows all
    of it but the products of different units. With several rows a unit's share is their mean.
    """
    import polars as pl

    configs = len(calls.config_ids)
    config, visit = cells.config, cells.visit
    new = np.ones(len(config), dtype=bool)
    new[1:] = (np.diff(config) != 0) | (np.diff(cells.row) != 0) | (np.diff(cells.unit) != 0)
    starts = np.flatnonzero(new)
    n = np.bincount(config[starts], minlength=configs).astype(np.float64)
    rows = np.ones(configs)
    of_unit = np.add.reduceat(cells.calls, starts)
    if by_repeat:
        pairs = np.unique(np.stack([config, cells.row]), axis=1)[0]
        rows = np.maximum(np.bincount(pairs, minlength=configs), 1)
        n /= rows
    elif cells.calls.sum() < calls.frame.height:  # some were alone in their visit
        every = calls.frame.group_by("config", "input").len()
        n = np.bincount(every["config"].to_numpy(), minlength=configs).astype(np.float64)
        asked = pl.DataFrame({"config": config[starts], "input": cells.unit[starts]})
        of_unit = asked.join(every, on=["config", "input"], how="left", maintain_order="left")["len"].to_numpy()
    share = cells.calls / np.repeat(of_unit, np.diff(np.append(starts, len(config)))) / rows[config]
    visits_of_unit = np.bincount(config, minlength=configs) / np.maximum(
        np.bincount(config[starts], minlength=configs), 1
    )
    if by_repeat:
        table = pl.DataFrame({"config": config, "unit": cells.unit, "visit": visit, "share": share})
        table = table.group_by("config", "unit", "visit").agg(pl.col("share").sum())
        config, visit, share = (table[name].to_numpy() for name in ("config", "visit", "share"))
    owner = np.zeros(int(visit.max()) + 1, dtype=np.int64)
    owner[visit] = config
    products = np.bincount(visit, weights=share) ** 2 - np.bincount(visit, weights=share**2)
    sums = np.bincount(owner, weights=products, minlength=configs)
    shared = sums / np.maximum(n * (n - 1), 1) * _of_a_median(visits_of_unit)
    return np.asarray(np.where(shared * n < FEW, 0.0, shared))


def _of_a_median(visits: Floats) -> Floats:
    """How much more the median of this number of normal values varies than their mean: 1 up to two, pi / 2 for many.

    An input's value is the median of its repeats, so with three visits or more it may follow one of them.
    """
    return np.where(visits <= 2, 1.0, pi / 2 * visits / (visits + pi / 2 - 1))
