"""Matched calls: they share the input and the values of all knobs but one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laptime.data.stats import FEWEST_FOR_MEAN, Floats
from laptime.sweeps.summary.calls import JUDGED, Calls, Codes
from laptime.sweeps.summary.knobs import VaryingKnobs
from laptime.sweeps.summary.result import Over

if TYPE_CHECKING:
    import polars as pl

MOST_CELLS = 20_000_000
"""The most cells of one stage's grid. If there are more inputs, some are taken, evenly spread."""


@dataclass(frozen=True)
class Grid:
    """A sweep as a table of settings against units.

    settings: (rows, knobs) codes of a row's knob values. Further columns are held fixed like knobs: with `over` repeats
    the input, and the calls' grade where there are several. configs: the code of each row's configuration. units: how
    many there are; `over` says what one is. logs: per stage (rows, units) the logarithms of ms, NaN where there is
    none.
    """

    knobs: list[str]
    settings: Codes
    configs: Codes
    over: Over
    units: int
    logs: dict[str, Floats]


@dataclass(frozen=True)
class Pairs:
    """Matched rows of a grid: `base` and `level` are row numbers, `others` the settings that they share."""

    base: Codes
    level: Codes
    others: Codes


def make_grid(calls: Calls, cells: pl.DataFrame, knobs: VaryingKnobs, settings: Codes) -> Grid:
    """The grid of a sweep. Its unit is an input, or a repeat if there are fewer than FEWEST_FOR_MEAN inputs.

    Each unit will give one value, because neither repeats of one input nor its calls under several settings are
    independent evidence of what a knob does to inputs in general. With repeats as units the values hold for these
    inputs only. Calls of different grades are in rows of their own: what disturbed the calls of one value of a knob,
    and not those of another, is no effect of the knob. settings: knob_codes(calls, knobs).
    """
    import polars as pl

    configs = np.arange(len(settings))
    over: Over = "repeats" if _few_inputs(calls) else "samples"
    fixed = ["input"] * (over == "repeats") + ["grade"] * (calls.frame["grade"].n_unique() > 1)
    table = cells.select("config", "input", *(f"{name}_ms" for name in JUDGED))
    row, unit = table["config"].to_numpy(), table["input"].to_numpy()
    if fixed:
        of_unit = "repeat" if over == "repeats" else "input"
        keys = ["config", *fixed, of_unit]
        table = calls.frame.group_by(keys).agg(pl.col(f"{name}_ms").median() for name in JUDGED).sort(keys)
        columns = np.stack([table[name].to_numpy().astype(np.int64) for name in ("config", *fixed)])
        rows, row = np.unique(columns, axis=1, return_inverse=True)
        settings, configs = np.column_stack([settings[rows[0]], rows[1:].T]), rows[0]
        unit = np.unique(table[of_unit].to_numpy(), return_inverse=True)[1]
    kept, unit = _shared_units(row, unit, len(settings))
    units = int(unit.max()) + 1 if len(unit) else 0
    logs = {}
    for name in JUDGED:
        values = table[f"{name}_ms"].to_numpy()[kept]
        grid = np.full((len(settings), units), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            grid[row[kept], unit] = np.where(values > 0, np.log(values), np.nan)
        logs[name] = grid
    return Grid(knobs=list(knobs.levels), settings=settings, configs=configs, over=over, units=units, logs=logs)


def _few_inputs(calls: Calls) -> bool:
    """Whether inputs are too few for a mean over them, and repeats aren't."""
    inputs, repeats = (calls.frame[name].n_unique() for name in ("input", "repeat"))
    return inputs < FEWEST_FOR_MEAN <= repeats


def knob_codes(calls: Calls, knobs: VaryingKnobs) -> Codes:
    """The places of each configuration's values among the knobs' levels, (configurations, knobs)."""
    return np.array(knobs.codes(calls.configs), dtype=np.int64).reshape(len(calls.configs), len(knobs.levels))


def pairs_of(grid: Grid, knob: str, base: int, level: int) -> Pairs:
    """Rows that differ by this knob's value only: `base` and `level` are places among its values."""
    place = grid.knobs.index(knob)
    others = np.delete(grid.settings, place, axis=1)
    sides = [np.flatnonzero(grid.settings[:, place] == code) for code in (base, level)]
    where = {tuple(others[row].tolist()): row for row in sides[0]}
    matched = [(where[key], row) for row in sides[1] if (key := tuple(others[row].tolist())) in where]
    rows = np.array(matched, dtype=np.int64).reshape(-1, 2)
    return Pairs(base=rows[:, 0], level=rows[:, 1], others=others[rows[:, 1]])


def unit_values(differences: Floats) -> Floats:
    """One value for each unit from `differences` (settings, units): its mean over the settings. NaN is no value.

    If some are missing, a plain mean would take the effect of a setting for that of a unit. So a unit's value is
    Tukey's pseudo-value of the mean of the settings' means: n times that mean, less n - 1 times the mean without this
    unit. Without gaps both are the same.
    """
    present = ~np.isnan(differences)
    if present.all():
        return np.asarray(differences.mean(axis=0)) if len(differences) else np.empty(0)
    settings, units = present.any(axis=1), present.any(axis=0)
    d, here = differences[settings][:, units], present[settings][:, units]
    n = here.shape[1]
    counts = here.sum(axis=1, keepdims=True)
    means = np.where(here, d, 0).sum(axis=1, keepdims=True) / counts if n else np.zeros((0, 1))
    if n < 2:
        return means.mean(axis=0) if n else np.empty(0)
    overall = means.mean()
    alone = here & (counts == 1)  # without its only unit a setting is gone
    shift = np.where(here & (counts > 1), (means - np.where(here, d, 0)) / np.maximum(counts - 1, 1), 0.0)
    left = len(means) - alone.sum(axis=0)
    total = means.sum() - np.where(alone, means, 0.0).sum(axis=0) + shift.sum(axis=0)
    without = np.where(left > 0, total / np.maximum(left, 1), overall)
    return np.asarray(n * overall - (n - 1) * without)


def levels_against_base(values: Sequence[object]) -> Iterator[tuple[int, int]]:
    """The places (base, level): every value of a knob against its first one."""
    return ((0, level) for level in range(1, len(values)))


def _shared_units(row: Codes, unit: Codes, rows: int) -> tuple[Codes, Codes]:
    """The places of the values whose unit is in at least two rows, and their units numbered anew from 0.

    Others can't be matched. If more units than fit into MOST_CELLS are left, some are taken, evenly spread.
    """
    times = np.bincount(unit)
    shared = np.flatnonzero(times >= 2)
    most = max(FEWEST_FOR_MEAN, MOST_CELLS // max(1, rows))
    if len(shared) > most:
        shared = shared[np.linspace(0, len(shared) - 1, most).astype(np.int64)]
    number = np.full(len(times), -1, dtype=np.int64)
    number[shared] = np.arange(len(shared))
    kept = np.flatnonzero(number[unit] >= 0)
    return kept, number[unit[kept]]
