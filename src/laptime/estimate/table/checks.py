"""What a training table must be: enough rows, several groups, features that vary, one unit."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl

from laptime.data.arrays import Floats, Ints
from laptime.errors import LaptimeError
from laptime.estimate.table.table import Encoded, Schema, level_texts

FEWEST_ROWS = 20
A_THOUSAND = (400.0, 2500.0)
"""Ratios within which two clusters of one configuration's times look like seconds beside milliseconds."""


def check_rows(count: int) -> None:
    """Raise LaptimeError below 20 rows: no fold could be held out."""
    if count < FEWEST_ROWS:
        raise LaptimeError(f"{count} rows are too few to fit and to calibrate on; at least {FEWEST_ROWS} are needed")


def check_groups(names: list[str], columns: list[str]) -> None:
    """Raise LaptimeError when the group columns put every row in one group."""
    if columns and len(names) < 2:
        what = ", ".join(columns)
        raise LaptimeError(
            f"one group only ({names[0]}): nothing can be held out by {what}; leave the group out or add"
        )


def varying(schema: Schema, rows: Encoded, frame: pl.DataFrame) -> tuple[Schema, list[str]]:
    """The schema without constant features, and a note for each that was left out.

    Raises LaptimeError when no feature varies.
    """
    flat = [name for place, name in enumerate(schema.numeric) if np.ptp(rows.numeric[:, place]) == 0]
    flat += [name for name in schema.categorical if len(schema.levels[name]) < 2]
    if len(flat) == len(schema.features):
        raise LaptimeError(f"every feature is constant ({', '.join(flat)}); there is nothing to predict from")
    numbers = {name: rows.numeric[0, place] for place, name in enumerate(schema.numeric) if name in flat}
    words = {name: schema.levels[name][0] for name in schema.categorical if name in flat}
    kept = Schema(
        target=schema.target,
        numeric=[name for name in schema.numeric if name not in flat],
        categorical=[name for name in schema.categorical if name not in flat],
        group=schema.group,
        levels={name: levels for name, levels in schema.levels.items() if name not in flat},
        constants={name: level_texts(frame[name].head(1))[0] for name in flat},
        work=schema.work and schema.work.without(numbers, words),
    )
    return kept, [f"feature {name!r} is constant in the training table and was left out" for name in flat]


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
            f"{'smaller' if few is low else 'larger'} than the rest (first: row {int(few.min())}), as seconds beside "
            "milliseconds are; convert them"
        )


def check_stage_units(frame: pl.DataFrame) -> None:
    """Raise LaptimeError when a `*_ms` column is another one divided by 1000, or the stages and their total say so:
    a stage exceeds the total many times, or a thousand times a stage is what the others leave of the total."""
    names = [name for name in frame.columns if name.endswith("_ms") and frame[name].dtype.is_numeric()]
    if "total_ms" in names:
        _check_parts(frame, names)
    for one, other in permutations(names, 2):
        if _is_thousandth(frame[one], frame[other]):
            raise LaptimeError(f"{one} is {other} / 1000: is one of them in seconds? Convert it, or leave one out")


def _is_thousandth(small: pl.Series, large: pl.Series) -> bool:
    """Whether one column is a thousandth of the other in every row that has both, but for rounding."""
    below, above = (column.cast(pl.Float64).fill_null(float("nan")).to_numpy() for column in (small, large))
    some = np.isfinite(below) & np.isfinite(above) & (below != 0)
    return some.sum() >= FEWEST_ROWS and bool((np.abs(above[some] / below[some] - 1000) < 1).all())


def _check_parts(frame: pl.DataFrame, names: list[str]) -> None:
    total = frame["total_ms"].cast(pl.Float64).to_numpy()
    parts = {
        name: frame[name].cast(pl.Float64).fill_null(0.0).to_numpy()
        for name in ("vision_ms", "prefill_ms", "decode_ms", "other_ms")
        if name in names
    }
    for name, part in parts.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            larger = part > 20 * total
        if np.nanmean(larger) > 0.5:
            raise LaptimeError(
                f"{name} exceeds total_ms many times: is total_ms in seconds? Convert it to milliseconds"
            )
        left = total - sum(other for kind, other in parts.items() if kind != name)
        some = part > 0
        if len(parts) == 4 and some.any() and bool((np.abs(left[some] / part[some] - 1000) < 50).mean() > 0.9):
            raise LaptimeError(
                f"{name} is a thousandth of what the other stages leave of total_ms: is it in seconds? Convert it to "
                "milliseconds"
            )
