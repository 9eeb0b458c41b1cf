"""Read what an estimator learns from: a run's clean samples, or any table with a line of column names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars

from laptime.data.columns import STAGE_COLUMNS
from laptime.data.frame import read_frame
from laptime.data.outside import table_errors
from laptime.data.record import LEFT_OUT, STAGES
from laptime.data.table_file import is_table, plain_column, read_table_file
from laptime.data.usable import Grade, row_grades, warm_up_rows
from laptime.errors import LaptimeError, did_you_mean

STAGE_TARGETS = tuple("decode_per_token_ms" if name == "decode" else f"{name}_ms" for name in (*STAGES, "total"))
"""What is learnt of a run when no target is named. The total is learnt for a given number of output tokens."""
KNOWN_BEFORE = ("prompt_tokens", "image_tokens", "crops", "batch")
"""Columns of a sample, besides its knobs, that are known before it runs."""
INPUT_KNOBS = ("config.prompt_tokens", "config.image_size", "config.crops", "config.tier", "config.batch")
"""Knobs that only say what the input is to be; the input's own sizes say it better."""


class Columns(msgspec.Struct, frozen=True):
    """Which columns play which part."""

    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]


def read_table(path: str | Path, keep: Sequence[str] = (), *, by_token: bool = False) -> polars.DataFrame:
    """A run folder, Parquet or CSV as a frame. Of a run's samples the clean ones only: no warm-up, no flag but `keep`.

    `by_token`: with the gaps between tokens (and the texts), where a run has them.
    Raises LaptimeError for anything that can't be read, and for a run whose samples are all flagged.
    """
    place = Path(path)
    if place.is_file() and not is_table(place) and place.suffix.lower() != ".json":
        raise LaptimeError(
            f"{place}: neither a run folder nor, by its name, a table; give a CSV or Parquet file whose name ends in "
            ".csv or .parquet"
        )
    if not is_table(place):
        return _clean_run(read_frame(place, bulky=by_token), place, keep)
    frame = read_table_file(place, of_samples=False)
    if "config_id" in frame.columns and any(name in frame.columns for name in STAGE_COLUMNS):
        return _clean_run(read_frame(place, bulky=by_token), place, keep)
    with table_errors(place, "a table of numbers and texts"):
        return polars.DataFrame([plain_column(column, str(place)) for column in frame])


def kept_flags(words: str | Sequence[str]) -> list[str]:
    """Flags written as a,b, or in a list. Raises LaptimeError for one that there is not."""
    written = words if isinstance(words, str) else ",".join(words)
    names = [name for name in (word.strip() for word in written.split(",")) if name]
    if unknown := [name for name in names if name not in LEFT_OUT]:
        near = did_you_mean(unknown[0], LEFT_OUT)
        there = f"there are {', '.join(sorted(LEFT_OUT))}"
        raise LaptimeError(f"`keep` {unknown[0]}: no such flag; {f'{near} ' if near else ''}{there}")
    return names


def clean(frame: polars.DataFrame, keep: Sequence[str] = ()) -> polars.DataFrame:
    """The clean samples (laptime.data.usable). keep: flags that don't matter."""
    return frame.filter(row_grades(frame, keep) == Grade.CLEAN)


def _clean_run(frame: polars.DataFrame, place: Path, keep: Sequence[str]) -> polars.DataFrame:
    cleaned = clean(frame, keep)
    measured = frame.filter(~warm_up_rows(frame))
    if measured.is_empty() and not frame.is_empty():
        raise LaptimeError(f"{place}: holds only warm-up calls (repeat below 0), no samples; measure again")
    if cleaned.is_empty() and not measured.is_empty():
        flags = measured["flags"].fill_null("").str.split(",").explode()
        every = ",".join(sorted(set(flags.to_list()) & LEFT_OUT))
        raise LaptimeError(
            f"{place}: every one of {measured.height} samples is flagged ({every}); measure again undisturbed, or use "
            f"them all the same with `keep` {every}"
        )
    return cleaned


MOST_ROWS = 100_000
"""Calls of a run that an estimator learns from. The share of calls that keep a bound then differs from what is asked by
0.07 points (one standard deviation at 95 %), and a configuration's median by 1.25 times its spread over the root of its
calls."""


def some_of_each(frame: polars.DataFrame, most: int, seed: int) -> tuple[polars.DataFrame, int | None]:
    """At most `most` rows of a run: as many of each configuration as that allows, at least one, drawn at random.

    With how many rows a configuration has at most; None where all rows are kept.
    """
    if frame.height <= most or "config_id" not in frame.columns:
        return frame, None
    _, codes, counts = np.unique(
        frame["config_id"].cast(polars.Categorical).to_physical().to_numpy(), return_inverse=True, return_counts=True
    )
    ordered = np.sort(counts)
    smaller = np.concatenate([[0], np.cumsum(ordered)[:-1]])  # rows of the configurations that have fewer
    shares = (most - smaller) // np.arange(len(ordered), 0, -1)
    enough = np.flatnonzero(shares < ordered)  # of those with fewer rows, all are kept
    each = max(1, int(shares[enough[0]])) if len(enough) else int(ordered[-1])
    order = np.lexsort((np.random.default_rng(seed).random(frame.height), codes))
    place = np.arange(frame.height) - np.repeat(np.cumsum(counts) - counts, counts)
    return frame[np.sort(order[place < each])], each


def is_run_frame(frame: polars.DataFrame) -> bool:
    """Whether the frame has a run's columns, so that nothing need be named."""
    return "config_id" in frame.columns and any(name.startswith("config.") for name in frame.columns)


def run_columns(frame: polars.DataFrame, target: str) -> Columns:
    """The parts of a run's columns: the knobs that vary and what is known of a sample before it runs.

    A knob that says the same as a column that is kept already (one value for each of its values) is left out, and so is
    one of INPUT_KNOBS that such a column decides: `config.tier` beside the number of image tokens. Raises LaptimeError
    when nothing varies.
    """
    knobs = [name for name in frame.columns if name.startswith("config.")]
    known = [*KNOWN_BEFORE, *(["output_tokens"] if target == "total_ms" else [])]
    features: list[str] = []
    for name in [*known, *knobs]:
        if name not in frame.columns or frame[name].n_unique() < 2 or frame[name].null_count():
            continue
        if not any(_says(frame, kept, name, whole=name not in INPUT_KNOBS) for kept in features):
            features.append(name)
    if not features:
        raise LaptimeError("no knob varies in this run: there is nothing to predict from; sweep over some")
    categorical = [name for name in features if not frame[name].dtype.is_numeric()]
    return Columns(target, [name for name in features if name not in categorical], categorical, ["config_id"])


def usable_rows(frame: polars.DataFrame, columns: Sequence[str]) -> polars.DataFrame:
    """The rows in which none of these columns is missing: a sample of one token has no time per token."""
    return frame.filter(polars.all_horizontal(polars.col(name).is_not_null() for name in columns))


def _says(frame: polars.DataFrame, kept: str, name: str, *, whole: bool) -> bool:
    """Whether a kept column decides `name`; with `whole`, also the other way round."""
    pairs = frame.select(kept, name).n_unique()
    return bool(pairs == frame[kept].n_unique() and (not whole or pairs == frame[name].n_unique()))
