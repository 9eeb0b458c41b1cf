"""Seconds among milliseconds: in the rows of the target, or in one of a table's columns of times."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl

from laptime.data.record import STAGES
from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError
from laptime.estimate.table.table import FEWEST_ROWS

A_THOUSAND = (400.0, 2500.0)
"""Ratios within which two clusters of one configuration's times look like seconds beside milliseconds."""
MANY_ROWS = 1000
"""Of more rows all are looked at only where the first ones say so."""


def check_unit(target: Floats, configurations: Ints, name: str) -> None:
    """Raise LaptimeError when some rows of the target look like seconds and the rest like milliseconds.

    Two signs: repeats of one configuration that differ by about 1000, or a gap of more than a factor of 100 in the
    middle of the sorted target, with the two sides' medians about 1000 apart.
    """
    order = np.argsort(target)
    jumps = np.diff(np.log(target[order]))
    at = int(np.argmax(jumps))
    low, high = order[: at + 1], order[at + 1 :]
    if min(len(low), len(high)) < 1:
        return
    ratio = float(np.median(target[high]) / np.median(target[low]))
    both = np.intersect1d(configurations[low], configurations[high])
    if len(both):
        ratio = float(np.median(target[high][np.isin(configurations[high], both)]))
        ratio /= float(np.median(target[low][np.isin(configurations[low], both)]))
    if not A_THOUSAND[0] <= ratio <= A_THOUSAND[1]:
        return
    if jumps[at] > np.log(100) or (len(both) and jumps[at] > np.log(20)):
        few = low if len(low) <= len(high) else high
        raise LaptimeError(
            f"target {name!r} seems to mix units: {len(few)} of {len(target)} values are about {ratio:.0f} times "
            f"{'smaller' if few is low else 'larger'} than the rest (first: row {int(few.min()) + 1}), as seconds "
            "beside milliseconds are; convert them"
        )


def check_stage_units(frame: pl.DataFrame) -> None:
    """Raise LaptimeError when a `*_ms` column is another one divided by 1000, or the stages and their total say so:
    a stage exceeds the total many times, or a thousand times a stage is what the others leave of the total."""
    names = [name for name in frame.columns if name.endswith("_ms") and frame[name].dtype.is_numeric()]
    if "total_ms" in names:
        _check_parts(frame, names)
    values = {name: _floats(frame[name]) for name in names if frame[name].null_count() < len(frame)}
    for one, other in permutations(values, 2):
        small, large = values[one], values[other]
        if len(frame) > MANY_ROWS and not _is_thousandth(small[:MANY_ROWS], large[:MANY_ROWS], fewest=0):
            continue  # a million rows are looked at only where their first ones say so
        if _is_thousandth(small, large):
            raise LaptimeError(f"{one} is {other} / 1000: is one of them in seconds? Convert it, or leave one out")


def _floats(column: pl.Series) -> Floats:
    values: Floats = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return values


def _is_thousandth(small: Floats, large: Floats, fewest: int = FEWEST_ROWS) -> bool:
    """Whether one column is a thousandth of the other in every row that has both, but for rounding."""
    some = np.isfinite(small) & np.isfinite(large) & (small != 0)
    return some.sum() >= fewest and bool((np.abs(large[some] / small[some] - 1000) < 1).all())


def _check_parts(frame: pl.DataFrame, names: list[str]) -> None:
    total = frame["total_ms"].cast(pl.Float64).to_numpy()
    parts = {
        name: frame[name].cast(pl.Float64).fill_null(0.0).to_numpy()
        for name in (f"{stage}_ms" for stage in STAGES)
        if name in names
    }
    whole = {"vision_ms", "prefill_ms", "decode_ms", "other_ms"} <= set(parts)
    for name, part in parts.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            larger = part > 20 * total
        if np.nanmean(larger) > 0.5:
            raise LaptimeError(
                f"{name} exceeds total_ms many times: is total_ms in seconds? Convert it to milliseconds"
            )
        left = total - sum(other for kind, other in parts.items() if kind != name)
        some = part > 0
        if whole and some.any() and bool((np.abs(left[some] / part[some] - 1000) < 50).mean() > 0.9):
            raise LaptimeError(
                f"{name} is a thousandth of what the other stages leave of total_ms: is it in seconds? Convert it to "
                "milliseconds"
            )
