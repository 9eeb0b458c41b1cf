"""A call's time as its configuration's times its input's: what is left of it once both are taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.sweeps.summary.calls import Codes, Reals

if TYPE_CHECKING:
    import polars as pl

FEWEST_CALLS_AN_INPUT = 6
"""With fewer an input's median would be its calls themselves, and nothing would be left."""
CONFOUNDED = 0.1
"""Share of the variance of time that the inputs explain from which on rounds have inputs of their own."""
PASSES = 8


def left_over(table: pl.DataFrame, stretch: Codes) -> tuple[Reals, Codes]:
    """What is left of `log` without its configuration's and its input's part, and each call's group.

    table: config, input, visit (codes) and log, in time. stretch: each row's stretch of the run. Medians of
    configurations, inputs and stretches, in turns (Tukey's polish), so that none takes another's part. Where rounds
    have inputs of their own that takes more turns, and inputs that no visit has in common are groups of their own: how
    two groups lie to each other can't be told from their calls. Inputs with few calls keep their part.
    """
    import polars as pl

    log = pl.col("log")
    table = table.select("config", "input", "visit", "log").with_columns(pl.Series("stretch", stretch))
    one = np.zeros(table.height, dtype=np.int64)
    if table.height < FEWEST_CALLS_AN_INPUT * table["input"].n_unique():
        return (table.select(log - log.median().over("config"))["log"].to_numpy(), one)
    place = np.arange(table.height)
    means = table.with_columns(pl.Series("place", place)).select(pl.col("place").mean().over("input"))["place"]
    apart = float(means.to_numpy().var()) > CONFOUNDED * place.var()
    group = _groups(table["visit"].to_numpy(), table["input"].to_numpy()) if apart else one
    table = table.with_columns(pl.Series("group", group), pl.lit(0.0).alias("moved"))
    for _ in range(PASSES if apart else 2):
        for by in ("config", "input"):
            table = table.with_columns(log - log.median().over(by))
        parts = log.median().over("stretch", "group")
        table = table.with_columns(log - parts, pl.col("moved") + parts)
    return table.select(log + pl.col("moved"))["log"].to_numpy(), group


def _groups(visit: Codes, unit: Codes) -> Codes:
    """Each row's group: inputs that are together in a visit, and all that they are together with, are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    visits, units = int(visit.max()) + 1, int(unit.max()) + 1
    edges = coo_array((np.ones(len(visit)), (visit, visits + unit)), shape=(visits + units, visits + units))
    _, labels = connected_components(edges, directed=False)
    return np.asarray(np.unique(labels[visits + unit], return_inverse=True)[1], dtype=np.int64)
