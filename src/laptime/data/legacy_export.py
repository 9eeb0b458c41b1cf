"""The older JSON results, written: laptime.data.legacy says what they hold, and reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from laptime.data.columns import KNOB
from laptime.data.legacy import EXTRAS, FIELDS, RESULTS
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


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
    numbered, configs = _with_configs(frame)
    places = named.select(_FILE, polars.int_range(polars.len(), dtype=polars.UInt32).alias("place"))
    for name, rows in places.group_by(_FILE, maintain_order=True).agg("place").iter_rows():
        yield str(name), _content(numbered[rows], configs)


def _with_configs(frame: polars.DataFrame) -> tuple[polars.DataFrame, list[msgspec.Raw]]:
    """The frame with a number for each row's knobs, and each such combination as it is written, without its nulls."""
    import polars

    names = [name for name in frame.columns if name.startswith(KNOB)]
    if not names:
        return frame.with_columns(polars.lit(0).alias(_CONFIG)), [msgspec.Raw(b"{}")]
    kinds = frame.select(names).unique(maintain_order=True)
    numbered = frame.join(kinds.with_row_index(_CONFIG), on=names, how="left", nulls_equal=True, maintain_order="left")
    configs = [
        {name.removeprefix(KNOB): value for name, value in row.items() if value is not None}
        for row in kinds.iter_rows(named=True)
    ]
    return numbered, [msgspec.Raw(msgspec.json.encode(config)) for config in configs]


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
_CONFIG = "\0config"

_NUMBERED = (("crops", "crops"), ("topk", "top_k"), ("blocks", "blocks"))


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:80] or "none"


def _digits(text: str) -> str:
    """The first number in a text: ranks and knobs in a name are numbers."""
    match = re.search(r"\d+", text)
    return match.group() if match else "0"


def _content(part: polars.DataFrame, configs: Sequence[msgspec.Raw]) -> bytes:
    """A file. configs: the knobs as they are written, by the number that stands in the column _CONFIG."""
    codes = part[_CONFIG]
    part = part.select(column.name for column in part if column.name != _CONFIG and column.null_count() < part.height)
    means: dict[str, float | None] = {}
    for name, field in FIELDS.items():
        values = part[name].drop_nulls().to_numpy().astype(float) if name in part.columns else np.empty(0)
        means[f"{field}_mean"] = float(values.mean()) if values.size else None
        means[f"{field}_std"] = float(values.std(ddof=1)) if values.size > 1 else None
    scores = part["score"].drop_nulls() if "score" in part.columns else ()
    whole = {
        "num_samples": part.height,
        **means,
        "accuracy": fmean(scores) if len(scores) else None,
        RESULTS: _written_samples(part, [configs[code] for code in codes.to_list()]),
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


def _written_samples(part: polars.DataFrame, configs: Sequence[msgspec.Raw]) -> list[msgspec.Struct]:
    """Each row as the older format has it, as a value of a type made for these columns: a dict takes twice as long."""
    absent = [None] * part.height
    rest = [name for name in part.columns if name not in _OUTSIDE and not name.startswith(KNOB)]
    extras = _type([], [*rest, "config"])
    sample = _type(["sample_id", *FIELDS.values(), EXTRAS], [word for name, word in _OPTIONAL if name in part.columns])
    columns = {name: part[name].to_list() for name in part.columns if not name.startswith(KNOB)}
    return list(
        map(
            sample,
            *(columns.get(name, absent) for name in ("sample_id", *FIELDS)),
            map(extras, *(columns[name] for name in rest), configs),
            *(columns[name] for name, _ in _OPTIONAL if name in part.columns),
        )
    )


_OPTIONAL = (("score", "accuracy"), ("text", "prediction"))
"""Columns that stand beside the times, and what they are called there."""
_OUTSIDE = {"sample_id", *FIELDS, *(name for name, _ in _OPTIONAL)}


def _type(always: Sequence[str], where_known: Sequence[str]) -> type[msgspec.Struct]:
    """What is written with these names, in this order. A name may be any text; of where_known None is left out."""
    names = (*always, *where_known)
    fields: list[Any] = [
        (f"field_{n}", Any) if name in always else (f"field_{n}", Any, None) for n, name in enumerate(names)
    ]
    return msgspec.defstruct(
        "Written",
        fields,
        rename={f"field_{n}": name for n, name in enumerate(names)},
        omit_defaults=True,
        gc=False,
        module=__name__,
    )
