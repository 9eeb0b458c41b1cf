"""From a frame of samples to a SweepSummary: the steps in their order."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TYPE_CHECKING

from laptime.data.record import Scalar
from laptime.sweeps.summary.calls import Calls, usable_calls
from laptime.sweeps.summary.config_rows import config_rows, input_cells, pareto_front
from laptime.sweeps.summary.drift import drift
from laptime.sweeps.summary.effects import interactions, knob_effects, visit_shares
from laptime.sweeps.summary.knobs import varying
from laptime.sweeps.summary.matched import knob_codes, make_grid
from laptime.sweeps.summary.result import SweepSummary, VisitNoise
from laptime.sweeps.summary.stage_ranges import crop_ranges, tier_ranges
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
    known.sort(key=lambda row: (knobs.codes(row.config), row.config_id))
    rows = known + [row for row in rows if not (row.config or row.samples)]
    settings = knob_codes(calls, knobs)
    grid = make_grid(calls, cells, knobs, settings)
    shared = shared_visits(calls, by_repeat=grid.over == "repeats")
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
    ]
