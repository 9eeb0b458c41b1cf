"""Bounds of a sweep's choices, from an estimator of its totals (laptime fit RUN). No torch.

The estimator is asked once for every choice and every number of output tokens. The sizes of an input (prompt tokens,
image tokens, crops) are those of its tier at the 95th percentile over the table's questions. A longer question may
therefore take a little more than its bound says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import GRID, Bounds
from laptime.control.bounds.coverage import level_rank
from laptime.control.bounds.lengths import fit_lengths
from laptime.control.bounds.ratios import measured_ratios
from laptime.control.choices import Tier
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import DecisionTable
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.lookup import LEVELS as STEPS
from laptime.estimate.lookup import WHERE, build
from laptime.estimate.predictor import Predictor

SIZE_LEVEL = 0.95
"""An input's sizes are those of its tier at this quantile."""
OTHER_MACHINE = 3.0
"""An estimator that is off by this factor, up or down, belongs to another model or machine."""
TOKENS = "output_tokens"
SIZES = ("prompt_tokens", "image_tokens", "crops")
LATE = ("config.top_k", "config.blocks")


class _Times(NamedTuple):
    """Bound and median (tokens, choices), quantiles (STEPS, tokens, choices); row N - 1 is an answer of N tokens."""

    bound_ms: Floats
    median_ms: Floats
    quantiles_ms: Floats


def make_bounds(estimator: Predictor, table: DecisionTable, language: Floats32, *, confidence: float = 0.95) -> Bounds:
    """Bounds from an estimator of the total and the training half of a table, with its language features (n, L).

    estimator: a TotalEstimator, or an Estimator of total_ms that has output_tokens among its features. table: questions
    without a time teach lengths only.

    Raises LaptimeError for an estimator of another target, model or machine, or one that needs a feature that a choice
    doesn't fix.
    """
    if not 0 < confidence < 1:
        raise LaptimeError(f"confidence {confidence:g}: a share between 0 and 1, written as 0.95")
    if estimator.target != "total_ms":
        raise LaptimeError(f"this estimator predicts {estimator.target}; budgets are for total_ms (laptime fit RUN)")
    _refuse_other_model(estimator, table)
    timed = np.isfinite(table.total_ms).any(axis=1)
    if not timed.any():
        raise LaptimeError("none of these questions was timed: bounds are calibrated on a sweep's times")
    lengths, mass = fit_lengths(language, table.output_tokens, table.most_tokens, table.space)
    needed = [*estimator.features, *estimator.categorical]
    if TOKENS not in needed and len(lengths.counts) > 1:
        raise LaptimeError(
            "this estimator doesn't know how many tokens are made, and answers differ in length; fit the run's stages "
            "(laptime fit RUN --out EST)"
        )
    times = _times(estimator, table, needed, lengths.most, confidence)
    grid_ms, within = distributions(times.quantiles_ms[:, lengths.counts - 1])
    uncalibrated = Bounds(
        space=table.space,
        model=table.model,
        confidence=confidence,
        lengths=msgspec.structs.replace(lengths, questions=int(timed.sum())),
        known_ms=times.bound_ms,
        median_ms=times.median_ms,
        grid_ms=grid_ms,
        within=within,
        level=np.ones(len(table.space)),
    )
    _refuse_other_times(uncalibrated, table)
    calibrated = msgspec.structs.replace(uncalibrated, level=calibrated_levels(uncalibrated, mass, table.total_ms))
    return msgspec.structs.replace(calibrated, ratios=measured_ratios(calibrated, table.total_ms, language))


def calibrated_levels(bounds: Bounds, mass: Floats32, total_ms: Floats, rank: float | None = None) -> Floats:
    """The level of each choice, (choices,), at which the next question's time is below its bound with the confidence.

    mass (n, choices, k): P(N = counts) of the table's questions. total_ms (n, choices): NaN where none was measured.
    rank: the quantile of the questions that the level is taken at; None: that of the next question (level_rank).
    """
    needed = np.full(total_ms.shape, np.nan)
    for row in np.flatnonzero(np.isfinite(total_ms).any(axis=1)):
        share = bounds.share_within(mass[row])
        for choice in np.flatnonzero(np.isfinite(total_ms[row])):
            before = int(np.searchsorted(bounds.grid_ms[choice], total_ms[row, choice])) - 1
            needed[row, choice] = share[choice, before] if before >= 0 else 0.0
    return np.array([_level(column[np.isfinite(column)], bounds.confidence, rank) for column in needed.T])


def _level(values: Floats, confidence: float, rank: float | None) -> float:
    """The quantile of the calibration values, at least the confidence; 1 if there are too few values for it."""
    if len(values) == 0:
        return 1.0
    rank = level_rank(confidence, len(values)) if rank is None else rank
    if rank > 1:
        return 1.0
    return max(confidence, float(np.sort(values)[round(rank * len(values)) - 1]))


def _times(estimator: Predictor, table: DecisionTable, needed: list[str], most: int, confidence: float) -> _Times:
    by_tier = [_tier_times(estimator, table, tier, needed, most, confidence) for tier in range(table.space.first)]
    shortest = int(table.output_tokens.min()) - 1
    whole = []
    for times in zip(*by_tier, strict=True):
        joined = np.concatenate(times, axis=-1)
        # Nothing is known of answers shorter than any seen one; they take no longer than the shortest seen one.
        never_seen = joined[..., :shortest, :]
        never_seen[...] = np.where(np.isinf(never_seen), joined[..., [shortest], :], never_seen)
        whole.append(np.maximum.accumulate(joined, axis=-2))  # longer answers never take less
    return _Times(*whole)


def distributions(quantiles_ms: Floats) -> tuple[Floats, Floats32]:
    """grid_ms (choices, GRID) and P(T <= grid) (choices, k, GRID) from quantiles (STEPS, k, choices), rounded down."""
    steps = np.array([0.0, *STEPS])
    count = quantiles_ms.shape[2]
    grid = np.empty((count, GRID))
    within = np.zeros((count, quantiles_ms.shape[1], GRID), dtype=np.float32)
    for choice in range(count):
        quantiles = quantiles_ms[:, :, choice]
        finite = quantiles[np.isfinite(quantiles)]
        lowest, highest = (finite.min(), finite.max()) if len(finite) else (1.0, 2.0)
        grid[choice] = np.geomspace(lowest * (1 - 1e-6), highest * (1 + 1e-6), GRID)
        for row, ascending in enumerate(quantiles.T):
            within[choice, row] = steps[np.searchsorted(ascending, grid[choice], side="right")]
    return grid, within


def _tier_times(
    estimator: Predictor, table: DecisionTable, tier: int, needed: list[str], most: int, confidence: float
) -> _Times:
    """The times of one tier's choices."""
    space = table.space
    sizes = _sizes(table, tier)
    knobs: dict[str, list[Any]] = {"config.top_k": list(space.top_ks) or [table.model.top_k]}
    knobs["config.blocks"] = list(space.blocks) or [table.model.blocks]
    if space.tiers:
        knobs |= _tier_values(space.tiers[tier], numeric=estimator.features)
    knobs |= {name: [value] for name, value in sizes.items()} | {"batch": [1]}
    knobs[TOKENS] = list(range(1, most + 1))
    if unknown := [name for name in needed if knobs.get(name, [None])[0] is None]:
        raise LaptimeError(
            f"the estimator needs {', '.join(unknown)}, which no choice fixes; fit it on the sweep that the choices "
            "come from"
        )
    asked: dict[str, list[Any]] = {name: knobs[name] for name in LATE if name in needed}
    asked |= {name: values for name, values in knobs.items() if name in needed and name not in asked}
    asked.pop(TOKENS, None)
    if TOKENS in needed:
        asked[TOKENS] = knobs[TOKENS]
    built = build(estimator, asked, q=confidence)
    outside = built.where == WHERE.index("outside")
    shape = tuple(len(asked[name]) if name in asked else 1 for name in (*LATE, TOKENS))
    full = (max(1, len(space.top_ks)), max(1, len(space.blocks)), most)

    def spread(values: npt.NDArray[np.floating]) -> Floats:
        by_choice: Floats = np.broadcast_to(values.reshape(shape), full).reshape(space.late, most)
        return np.array(by_choice.T, dtype=np.float64)

    quantiles = np.exp(built.log_median[:, None] + built.curves[built.curve])
    return _Times(
        spread(np.where(outside, np.inf, built.bound_ms.astype(np.float64))),
        spread(built.median_ms),
        np.stack([spread(np.where(outside, np.inf, one)) for one in quantiles.T]),
    )


def _sizes(table: DecisionTable, tier: int) -> dict[str, int]:
    """Prompt tokens, image tokens and crops of a tier, at the 95th percentile of its questions."""
    columns = slice(tier * table.space.late, (tier + 1) * table.space.late)
    return {name: int(np.quantile(getattr(table, name)[:, columns], SIZE_LEVEL, method="higher")) for name in SIZES}


def _tier_values(tier: Tier, numeric: list[str]) -> dict[str, list[Any]]:
    crops: int | str = tier.low if tier.low == tier.high else f"{tier.low}-{tier.high}"
    as_number = isinstance(crops, int) and "config.crops" in numeric
    return {"config.tier": [tier.name], "config.crops": [crops if as_number else str(crops)]}


def _refuse_other_model(estimator: Predictor, table: DecisionTable) -> None:
    """Raise LaptimeError if the estimator's cards name other knobs or another model."""
    stages: Mapping[str, Any] = getattr(estimator, "stages", {"total": estimator})
    for stage in stages.values():
        card = getattr(stage, "card", None)
        if card is None:
            continue
        for known in card.ranges:
            wanted = {"config.top_k": table.space.top_ks, "config.blocks": table.space.blocks}.get(known.feature, ())
            if wanted and not (known.low <= min(wanted) and max(wanted) <= known.high):
                raise LaptimeError(
                    f"an estimator of another model: it knows {known.feature.removeprefix('config.')} from "
                    f"{known.low:g} to {known.high:g}, the choices go from {min(wanted)} to {max(wanted)}; fit it on "
                    "this model's sweep"
                )
        names = card.levels.get("config.model", [])
        if names and table.model.name not in ("", *names):
            raise LaptimeError(
                f"an estimator of another model: it was fitted on {', '.join(names)}, not on {table.model.name}"
            )


def _refuse_other_times(bounds: Bounds, table: DecisionTable) -> None:
    """Raise LaptimeError if measured times are far from the estimator's: it is of another model or machine."""
    ratios = table.total_ms / bounds.at_tokens(table.output_tokens, median=True)
    ratios = ratios[np.isfinite(ratios)]
    middle = float(np.median(ratios)) if len(ratios) else 1.0
    if not 1 / OTHER_MACHINE <= middle <= OTHER_MACHINE:
        raise LaptimeError(
            f"an estimator of another model or machine: measured totals are {middle:.3g} times what it says; fit it on "
            "the sweep that the choices come from"
        )
