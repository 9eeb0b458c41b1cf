"""Where each stage's times lie by image tier, and by the number of crops an image was cut into."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from laptime.data.record import TIERS
from laptime.sweeps.summary.calls import JUDGED, Calls
from laptime.sweeps.summary.result import StageRange

if TYPE_CHECKING:
    import polars as pl

MOST_CROPS = 64
"""With more different numbers of crops than this there are no ranges by crops."""


def tier_ranges(calls: Calls) -> list[StageRange]:
    """Ranges by the configuration's tier, or by the crops counted if it names none. Empty without images."""
    import polars as pl

    named = pl.DataFrame(
        {"config": range(len(calls.tiers)), "named": calls.tiers}, schema={"config": pl.Int64, "named": pl.String}
    )
    by_crops = [
        pl.when(pl.col("crops").is_between(low, high)).then(pl.lit(name)) for name, (low, high) in TIERS.items()
    ]
    labelled = calls.frame.join(named, on="config").with_columns(pl.coalesce("named", *by_crops).alias("by"))
    order = {name: place for place, name in enumerate(TIERS)}
    return sorted(_ranges(labelled), key=lambda r: (order.get(r.tier, len(order)), r.tier, JUDGED.index(r.stage)))


def crop_ranges(calls: Calls) -> list[StageRange]:
    """Ranges by the number of crops, fewest first. Empty when there are none or too many different numbers."""
    import polars as pl

    crops = calls.frame.filter(pl.col("crops") > 0)
    if crops.is_empty() or crops["crops"].n_unique() > MOST_CROPS:
        return []
    labelled = crops.with_columns(pl.col("crops").round(0).cast(pl.Int64).cast(pl.String).alias("by"))
    return sorted(_ranges(labelled), key=lambda r: (int(r.tier), JUDGED.index(r.stage)))


def _ranges(labelled: pl.DataFrame) -> list[StageRange]:
    import polars as pl

    figures: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "n": lambda ms: ms.count(),
        "low_ms": lambda ms: ms.quantile(0.05, "linear"),
        "median_ms": lambda ms: ms.median(),
        "high_ms": lambda ms: ms.quantile(0.95, "linear"),
        "min_ms": lambda ms: ms.min(),
        "max_ms": lambda ms: ms.max(),
    }
    table = (
        labelled.filter(pl.col("by").is_not_null())
        .group_by("by")
        .agg(
            figure(pl.col(f"{stage}_ms")).alias(f"{stage} {name}")
            for stage in JUDGED
            for name, figure in figures.items()
        )
    )
    return [
        StageRange(tier=row["by"], stage=stage, **{name: row[f"{stage} {name}"] for name in figures})
        for row in table.iter_rows(named=True)
        for stage in JUDGED
        if row[f"{stage} n"]
    ]
