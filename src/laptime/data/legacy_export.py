"""The older JSON results, written: laptime.data.legacy says what they hold, and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import fsum, sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import KNOB
from laptime.data.legacy import EXTRAS, FIELDS, RESULTS
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


MEANS = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode", "T_total", "T_decode_per_token", "output_tokens")
"""Fields whose mean and standard deviation stand beside the samples."""


def legacy_files(frame: polars.DataFrame) -> Iterator[tuple[str, bytes]]:
    """(file name, content) for all samples of a frame (read with bulky=True to keep texts), one file at a time.

    Samples of configurations that differ only in a knob that the name doesn't hold share a file. Raises LaptimeError
    for a frame without samples.
    """
    import polars

    if not frame.height:
        raise LaptimeError("no samples to export; measure some first (laptime profile)")
    several = frame["worker"].drop_nulls().n_unique() > 1
    naming = [column for name in _NAMING for column in (f"{KNOB}{name}", name) if column in frame.columns]
    kinds = frame.select(naming).unique(maintain_order=True)
    names = polars.Series(_FILE, [_file_name(row, several) for row in kinds.iter_rows(named=True)])
    named = frame.select(naming).join(
        kinds.with_columns(names), on=naming, how="left", nulls_equal=True, maintain_order="left"
    )
    places = named.select(_FILE, polars.int_range(polars.len(), dtype=polars.UInt32).alias("place"))
    for name, rows in places.group_by(_FILE, maintain_order=True).agg("place").iter_rows():
        yield str(name), _content(frame[rows])


def _file_name(row: Mapping[str, Any], several_workers: bool) -> str:
    def knob(name: str, default: str = "0") -> str:
        value = row.get(f"{KNOB}{name}")
        value = row.get(name) if value is None else value
        return default if value is None else str(value)

    task = _word(knob("task", "") or knob("data", "") or "generate")
    numbers = "_".join(f"{word}{_digits(knob(name))}" for word, name in _NUMBERED)
    rank = f"_rank{_digits(str(row.get('worker')))}" if several_workers else ""
    return f"{task}_imgsizetier-{_word(knob('tier', 'none')).replace('_', '-')}_{numbers}{rank}.json"


_NAMING = ("task", "data", "tier", "crops", "top_k", "blocks", "worker")
"""The columns that decide in which file a sample is, as knobs or as they are."""
_FILE = "\0file"

_NUMBERED = (("crops", "crops"), ("topk", "top_k"), ("blocks", "blocks"))


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:80] or "none"


def _digits(text: str) -> str:
    """The first number in a text: ranks and knobs in a name are numbers."""
    match = re.search(r"\d+", text)
    return match.group() if match else "0"


def _content(part: polars.DataFrame) -> bytes:
    part = part.select(column.name for column in part if column.null_count() < part.height)
    columns = {column.name: column.to_list() for column in part}
    full = {name for name in columns if not part[name].null_count()}
    samples = list(_written_samples(columns, full, part.height))
    means = {}
    for name in MEANS:
        values = [float(one[name]) for one in samples if one[name] is not None]
        means[f"{name}_mean"] = fmean(values) if values else None
        means[f"{name}_std"] = _deviation(values) if len(values) > 1 else None
    scores = [score for score in columns.get("score", []) if score is not None]
    whole = {"num_samples": len(samples), **means, "accuracy": fmean(scores) if scores else None, RESULTS: samples}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample of values, without the rounding errors of a running sum."""
    middle = fmean(values)
    return sqrt(fsum((value - middle) ** 2 for value in values) / (len(values) - 1))


def _written_samples(columns: Mapping[str, list[Any]], full: set[str], count: int) -> Iterator[dict[str, Any]]:
    """Each row as the older format has it. full: the columns without a null."""
    absent = [None] * count
    times = [columns.get(name, absent) for name in ("sample_id", *FIELDS)]
    named = ("sample_id", *FIELDS.values())
    configs = _dicts(
        {n.removeprefix(KNOB): v for n, v in columns.items() if n.startswith(KNOB)},
        {n.removeprefix(KNOB) for n in full if n.startswith(KNOB)},
        count,
    )
    known = {*FIELDS, "score", "text", "sample_id"}
    rests = _dicts({n: v for n, v in columns.items() if n not in known and not n.startswith(KNOB)}, full, count)
    optional = [
        (word, columns[name]) for name, word in (("score", "accuracy"), ("text", "prediction")) if name in columns
    ]
    for place, (values, rest, config) in enumerate(zip(zip(*times, strict=True), rests, configs, strict=True)):
        sample = dict(zip(named, values, strict=True))
        for word, more in optional:
            if more[place] is not None:
                sample[word] = more[place]
        rest["config"] = config
        sample[EXTRAS] = rest
        yield sample


def _dicts(columns: Mapping[str, list[Any]], full: set[str], count: int) -> Iterator[dict[str, Any]]:
    """Each row as a dict without its nulls, in the order of the columns. full: the columns without one."""
    if not columns:
        return ({} for _ in range(count))
    names, rows = tuple(columns), zip(*columns.values(), strict=True)
    if full.issuperset(names):
        return (dict(zip(names, row, strict=True)) for row in rows)
    return ({n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows)
