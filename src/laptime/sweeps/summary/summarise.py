"""From a frame of samples to a SweepSummary: the steps in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import TYPE_CHECKING

from laptime.data.record import TIERS, Scalar
from laptime.sweeps.summary.calls import JUDGED, Calls, compared_calls, usable_calls
from laptime.sweeps.summary.config_rows import config_rows, input_cells, pareto_front
from laptime.sweeps.summary.drift import drift
from laptime.sweeps.summary.effects import interactions, knob_effects, visit_shares
from laptime.sweeps.summary.knobs import varying
from laptime.sweeps.summary.matched import knob_codes, make_grid
from laptime.sweeps.summary.result import StageRange, SweepSummary, VisitNoise
from laptime.sweeps.summary.visit_noise import Noise, visit_noises
from laptime.sweeps.summary.visits import shared_visits

if TYPE_CHECKING:
    import polars as pl


NOTHING: Mapping[str, int] = {}
NO_PLAN: Mapping[str, Mapping[str, Scalar]] = {}


def summarise_sweep(
    frame: pl.DataFrame,
    failures: Mapping[str, int] = NOTHING,
    configs: Mapping[str, Mapping[str, Scalar]] = NO_PLAN,
) -> SweepSummary:
    """Summarise the samples of a sweep.

    frame: one row for each sample, with the columns of laptime.data.run_folder.Run.frame(); it may have no rows. Only
    config_id, sample_id and total_ms are needed. failures: config_id -> calls that failed. configs: config_id -> the
    configuration as planned, so that one without any sample gets a row with its knobs, too.

    Raises LaptimeError when a column that is needed is missing.
    """
    calls = usable_calls(frame)
    cells = input_cells(calls)
    rows = config_rows(calls, cells, failures, configs)
    known = [row for row in rows if row.config or row.samples]  # nothing is known of one that failed and is in no plan
    knobs = varying([row.config for row in known])
    places = dict(zip((row.config_id for row in known), knobs.codes([row.config for row in known]), strict=True))
    known.sort(key=lambda row: (places[row.config_id], row.config_id))
    rows = known + [row for row in rows if not (row.config or row.samples)]
    settings = knob_codes(calls, knobs)
    compared = compared_calls(calls)
    grid = make_grid(compared, input_cells(compared), knobs, settings)
    shared = shared_visits(compared, by_repeat=grid.over == "repeats")
    noises = visit_noises(shared, settings)
    front, near = pareto_front(rows)
    return SweepSummary(
        knobs=knobs.levels,
        tied=knobs.tied,
        rows=rows,
        effects=knob_effects(grid, knobs, visit_shares(shared, noises)),
        interactions=interactions(grid, knobs, visit_shares(shared, noises, of_interactions=True)),
        ranges=tier_ranges(calls),
        crop_ranges=crop_ranges(calls),
        pareto=front,
        near_pareto=near,
        drift=drift(calls),
        visit_noise=_noise_by_stage(noises, calls),
    )


def _noise_by_stage(noises: Mapping[str, Noise], calls: Calls) -> list[VisitNoise]:
    if calls.frame.is_empty():
        return []
    return [
        VisitNoise(
            stage=stage,
            known=noise.known,
            sd=sqrt(noise.pooled) if noise.known in ("estimated", "bounded by settings") else None,
            pairs=noise.pairs,
            outlying=[calls.config_ids[code] for code in noise.outlying],
        )
        for stage, noise in noises.items()
        # Readers know the list without the stages that few models have.
        if stage not in ("preprocessing", "queue", "audio", "encode") or calls.frame[f"{stage}_ms"].drop_nulls().len()
    ]


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
