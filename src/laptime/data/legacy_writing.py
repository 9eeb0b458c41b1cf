"""Writes the older JSON files (laptime.data.legacy), one for each configuration, for programs that know nothing newer.

What that format has no field for lies in each sample under "laptime", so that nothing is lost when laptime reads it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from laptime.data.legacy import EXTRAS, FIELDS, RESULTS
from laptime.data.sample_columns import KNOB
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

MEANS = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode", "T_total", "T_decode_per_token", "output_tokens")
"""Fields whose mean and standard deviation stand beside the samples."""


def legacy_files(frame: polars.DataFrame) -> dict[str, bytes]:
    """File name -> content, for all samples of a frame (read with bulky=True to keep texts).

    Samples of configurations that differ only in a knob that the name doesn't hold share a file. Raises LaptimeError
    for a frame without samples.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    several = frame["worker"].drop_nulls().n_unique() > 1 if frame.height else False
    for row in frame.to_dicts():
        groups[_file_name(row, several)].append(row)
    if not groups:
        raise LaptimeError("no samples to export; measure some first (laptime profile)")
    return {name: _content(rows) for name, rows in groups.items()}


def _file_name(row: Mapping[str, Any], several_workers: bool) -> str:
    def knob(name: str, default: str = "0") -> str:
        value = row.get(f"{KNOB}{name}")
        value = row.get(name) if value is None else value
        return default if value is None else str(value)

    task = _word(knob("task", "") or knob("data", "") or "generate")
    numbers = "_".join(f"{word}{_digits(knob(name))}" for word, name in _NUMBERED)
    rank = f"_rank{_digits(str(row.get('worker')))}" if several_workers else ""
    return f"{task}_imgsizetier-{_word(knob('tier', 'none')).replace('_', '-')}_{numbers}{rank}.json"


_NUMBERED = (("crops", "crops"), ("topk", "top_k"), ("blocks", "blocks"))


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:80] or "none"


def _digits(text: str) -> str:
    """The first number in a text: ranks and knobs in a name are numbers."""
    match = re.search(r"\d+", text)
    return match.group() if match else "0"


def _content(rows: Sequence[Mapping[str, Any]]) -> bytes:
    samples = [_sample(row) for row in rows]
    means = {}
    for name in MEANS:
        values = [float(one[name]) for one in samples if one[name] is not None]
        means[f"{name}_mean"] = fmean(values) if values else None
        means[f"{name}_std"] = stdev(values) if len(values) > 1 else None
    scores = [row["score"] for row in rows if row.get("score") is not None]
    whole = {"num_samples": len(samples), **means, "accuracy": fmean(scores) if scores else None, RESULTS: samples}
    return json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"


def _sample(row: Mapping[str, Any]) -> dict[str, Any]:
    config = {n.removeprefix(KNOB): v for n, v in row.items() if n.startswith(KNOB) and v is not None}
    known = {*FIELDS, "score", "text", "sample_id"}
    rest = {n: v for n, v in row.items() if n not in known and not n.startswith(KNOB) and v is not None}
    return {
        "sample_id": row.get("sample_id"),
        **{name: row.get(column) for column, name in FIELDS.items()},
        **({"accuracy": row["score"]} if row.get("score") is not None else {}),
        **({"prediction": row["text"]} if row.get("text") is not None else {}),
        EXTRAS: {**rest, "config": config},
    }
