"""Pairs of visits to one configuration, and how far apart their calls are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from laptime.data.stats import Floats
from laptime.sweeps.summary.calls import JUDGED, Codes
from laptime.sweeps.summary.visits import Cells

if TYPE_CHECKING:
    import polars as pl


MOST_CELLS = 2_000_000
"""The most cells of the table of residuals. If there are more inputs, some are taken, evenly spread."""
FEWEST_TO_CENTRE = 5
"""The fewest links between the same two rounds from which the movement of all configurations is known."""


@dataclass(frozen=True)
class Links:
    """Pairs of visits, one row for each pair; columns are the stages, NaN where there is none.

    config: its code. apart: the mean difference of the logarithms. sampling: its variance from the calls' own noise.
    freedom: the degrees of freedom of one link; the links of a configuration share its own.
    """

    config: Codes
    apart: Floats
    sampling: Floats
    freedom: Floats


_NONE = np.empty((0, len(JUDGED)))
NO_LINKS = Links(config=np.empty(0, dtype=np.int64), apart=_NONE, sampling=_NONE, freedom=_NONE)


@dataclass(frozen=True)
class Units:
    """Cells as arrays. config, unit: places from 0; codes[config] is the configuration's code; logs (cells, stages)."""

    codes: Codes
    config: Codes
    unit: Codes
    visit: Codes
    logs: Floats

    def table(self, stage: int) -> Floats:
        """One stage as (configurations, units), NaN where there is none. The last visit to a cell counts."""
        table = np.full((len(self.codes), int(self.unit.max()) + 1), np.nan)
        table[self.config, self.unit] = self.logs[:, stage]
        return table


@dataclass(frozen=True)
class Left:
    """Each cell without the effects of the knobs on its unit, scaled back to the variance before.

    config, visit: codes, one for each row of `values` (cells, stages). spare: by the configuration's code, the share of
    its variance that the fit left.
    """

    config: Codes
    visit: Codes
    values: Floats
    spare: Floats


def paired_links(cells: Cells) -> Links:
    """Pairs of visits with at least two units in common, each visit with the next such one.

    The difference holds neither the sizes of the units nor the knobs' effects on them. What moved for all
    configurations from one round to the next is taken out, because it meets all alike.
    """
    import polars as pl

    config, visit, logs = cells.config, cells.visit, cells.logs
    again = (np.diff(config) == 0) & (np.diff(cells.unit) == 0) & (np.diff(cells.row) == 0)
    at = np.flatnonzero(again)
    if len(at) == 0:
        return NO_LINKS
    table = pl.DataFrame(
        {
            "config": config[at],
            "before": visit[at],
            "after": visit[at + 1],
            **{s: logs[at + 1, i] - logs[at, i] for i, s in enumerate(JUDGED)},
        }
    ).with_columns(pl.col(JUDGED).fill_nan(None))
    grouped = _means(table, ["config", "before", "after"])
    if grouped.is_empty():
        return NO_LINKS
    apart, variance, counts = (grouped.select(f"{s} {what}" for s in JUDGED).to_numpy() for what in WHATS)
    places = _places(config, visit)
    rounds = np.stack([places[grouped[name].to_numpy()] for name in ("before", "after")], axis=1)
    apart, kept = _centred(apart, rounds)
    with np.errstate(invalid="ignore", divide="ignore"):
        sampling = _pooled(variance, counts) / counts
    codes = grouped["config"].to_numpy()
    return Links(config=codes, apart=apart, sampling=sampling, freedom=_freedom(codes)[:, None] * kept)


def unit_values_of(cells: Cells) -> Units:
    """The cells as arrays. Rows of one configuration (inputs, if units are repeats) are averaged without sizes."""
    import polars as pl

    config, unit, visit, logs = cells.config, cells.unit, cells.visit, cells.logs
    if cells.row.any():
        table = pl.DataFrame({"config": config, "unit": unit, "visit": visit, "row": cells.row})
        table = table.with_columns(pl.Series(s, logs[:, i]).fill_nan(None) for i, s in enumerate(JUDGED))
        sizes = [(pl.col(s) - pl.col(s).mean().over("row")).alias(s) for s in JUDGED]
        keys = ["config", "unit", "visit"]
        table = table.with_columns(sizes).group_by(keys).agg(pl.col(JUDGED).mean()).sort(keys)
        config, unit, visit = (table[name].to_numpy() for name in keys)
        logs = table.select(pl.col(JUDGED).fill_null(float("nan"))).to_numpy()
    codes, config = np.unique(config, return_inverse=True)
    units, unit = np.unique(unit, return_inverse=True)
    most = max(8, MOST_CELLS // len(codes))
    if len(units) > most:
        number = np.full(len(units), -1)
        number[np.linspace(0, len(units) - 1, most).astype(np.int64)] = np.arange(most)
        taken = number[unit] >= 0
        config, visit, logs, unit = config[taken], visit[taken], logs[taken], number[unit[taken]]
    return Units(codes=codes, config=config, unit=unit, visit=visit, logs=logs)


def left_by_knobs(units: Units, settings: Codes) -> Left:
    """The cells' logarithms without the knobs' effects on their unit, by least squares over the configurations.

    Knobs are fitted two by two if that leaves half the degrees of freedom, else one by one, else not at all.
    """
    basis = _basis(settings[units.codes])
    spare = 1 - (basis**2).sum(axis=1)
    values = np.full(units.logs.shape, np.nan)
    for stage in range(len(JUDGED)):
        explained = fitted(units.table(stage), basis)[units.config, units.unit]
        with np.errstate(invalid="ignore", divide="ignore"):
            values[:, stage] = (units.logs[:, stage] - explained) / np.sqrt(spare[units.config])
    values[spare[units.config] < 0.05] = np.nan  # the fit left nothing
    by_code = np.zeros(len(settings))
    by_code[units.codes] = spare
    return Left(config=units.codes[units.config], visit=units.visit, values=values, spare=by_code)


def nested_links(left: Left) -> Links:
    """Pairs of visits that measured different units: each with the next one, by what is left of the cells."""
    import polars as pl

    table = pl.DataFrame(
        {"config": left.config, "visit": left.visit, **{s: left.values[:, i] for i, s in enumerate(JUDGED)}}
    ).with_columns(pl.col(JUDGED).fill_nan(None))
    grouped = _means(table, ["config", "visit"])
    codes = grouped["config"].to_numpy()
    at = np.flatnonzero(np.diff(codes) == 0)
    if len(at) == 0:
        return NO_LINKS
    means, variance, counts = (grouped.select(f"{s} {what}" for s in JUDGED).to_numpy() for what in WHATS)
    with np.errstate(invalid="ignore", divide="ignore"):
        sampling = _pooled(variance, counts) * (1 / counts[at] + 1 / counts[at + 1])
    freedom = _freedom(codes[at]) * left.spare[codes[at]]
    apart = means[at + 1] - means[at]
    return Links(config=codes[at], apart=apart, sampling=sampling, freedom=np.repeat(freedom[:, None], len(JUDGED), 1))


WHATS = ("mean", "variance", "count")


def _means(table: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Mean, variance and count of each stage in each group of at least two values, in the keys' order."""
    import polars as pl

    return (
        table.group_by(keys)
        .agg(
            *(pl.col(s).mean().alias(f"{s} mean") for s in JUDGED),
            *(pl.col(s).var().alias(f"{s} variance") for s in JUDGED),
            *(pl.col(s).count().cast(pl.Float64).alias(f"{s} count") for s in JUDGED),
        )
        .filter(pl.max_horizontal(f"{s} count" for s in JUDGED) >= 2)
        .sort(keys)
        .with_columns(pl.col(r"^.* (mean|variance)$").fill_null(float("nan")))
    )


def _pooled(variance: Floats, counts: Floats) -> Floats:
    """The variance within groups, pooled over all groups; one for each stage."""
    weights = np.where(np.isnan(variance), 0, counts - 1)
    return np.asarray(np.where(weights > 0, variance * weights, 0).sum(axis=0) / weights.sum(axis=0))


def _freedom(config: Codes) -> Floats:
    """The degrees of freedom of each link: n links of n + 1 visits have n^2 / (1.5 n - 0.5) (von Neumann 1941)."""
    links = np.bincount(config)[config]
    return np.asarray(links / (1.5 * links - 0.5))


def _places(config: Codes, visit: Codes) -> Codes:
    """The place of each visit among those of its configuration; visits are numbered in order of time."""
    owner = np.full(int(visit.max()) + 1, -1)
    owner[visit] = config
    order = np.argsort(owner, kind="stable")
    starts = np.flatnonzero(np.diff(owner[order], prepend=-2))
    places = np.empty_like(owner)
    places[order] = np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner))))
    return places


def _centred(apart: Floats, rounds: Codes) -> tuple[Floats, Floats]:
    """Links less the median of all links between the same two rounds, scaled up for that, and the freedom kept."""
    _, group = np.unique(rounds, axis=0, return_inverse=True)
    group = group.reshape(-1)
    out, kept = apart.copy(), np.ones_like(apart)
    for place in range(group.max() + 1):
        between = group == place
        size = int(between.sum())
        if size >= FEWEST_TO_CENTRE:
            known = ~np.isnan(apart[between]).all(axis=0)
            middle = np.zeros(apart.shape[1])
            middle[known] = np.nanmedian(apart[between][:, known], axis=0)
            out[between] = (apart[between] - middle) * np.sqrt(size / (size - 1))
            kept[between] = (size - 1) / size
    return out, kept


def _basis(settings: Codes) -> Floats:
    configs = len(settings)
    for two_way, spare in ((True, max(4, configs / 2)), (False, max(2, configs / 3))):
        basis = knob_basis(settings, two_way=two_way)
        if basis is not None and configs - basis.shape[1] >= spare:
            return basis
    return mean_basis(configs)


MOST_COLUMNS = 250
"""A model with more columns would fit chance, and would take long."""


def knob_basis(settings: Codes, *, two_way: bool) -> Floats | None:
    """An orthonormal basis (configurations, rank) of what the knobs explain; with `two_way` also what pairs of them do.

    settings: (configurations, knobs) codes. None when the model has more than MOST_COLUMNS columns.
    """
    columns = [settings[:, knob] for knob in range(settings.shape[1])]
    if two_way:
        widths = settings.max(axis=0, initial=0) + 1
        columns += [a * widths[j] + b for (_, a), (j, b) in combinations(list(enumerate(columns)), 2)]
    blocks = [np.ones((len(settings), 1))]
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        if len(values) + sum(block.shape[1] for block in blocks) > MOST_COLUMNS:
            return None
        blocks.append(np.eye(len(values))[codes][:, 1:])
    design = np.hstack(blocks)
    sizes, vectors = np.linalg.eigh(design.T @ design)
    kept = sizes > 1e-9 * sizes[-1]
    return np.asarray(design @ (vectors[:, kept] / np.sqrt(sizes[kept])))


def mean_basis(configurations: int) -> Floats:
    """The basis of what all configurations have in common alone."""
    return np.full((configurations, 1), configurations**-0.5)


def fitted(values: Floats, basis: Floats) -> Floats:
    """What `basis` explains of `values` (configurations, units). NaN is first replaced by row and unit means."""
    gaps = np.isnan(values)
    if gaps.any():
        here = ~gaps
        counts = np.maximum(here.sum(axis=1, keepdims=True), 1)
        rows = np.where(gaps, 0, values).sum(axis=1, keepdims=True) / counts
        units = np.where(gaps, 0, values - rows).sum(axis=0, keepdims=True) / np.maximum(here.sum(axis=0), 1)
        values = np.where(gaps, rows + units, values)
    return np.asarray(basis @ (basis.T @ values))
