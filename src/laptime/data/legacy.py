"""The older JSON results: one file a configuration (and rank), times called T_*, the knobs in the file's name.

    coco-2014-vqa_imgsizetier-high_crops12_topk8_blocks16_rank0.json
    {"per_sample_results": [{"T_vision_total": 181.28, "T_LLM_prefill": 207.17, "T_LLM_decode": 0.0, "T_total": 335.32,
                             "T_decode_per_token": 0.0, "output_tokens": 9, ...}, ...], "T_total_mean": ..., ...}

Older files have T_vision_encoder and T_projector instead; their sum is the vision stage. Many programs wrote such
files, so reading takes any text encoding, NaN and missing fields. It refuses only what can't be read as measurements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import KNOB, ON_REQUEST, ORDER, frame_types, knob_series, ordered
from laptime.data.outside import read_regular
from laptime.data.record import LARGEST, Scalar, config_id
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


FILE_NAME = re.compile(
    r"(?P<task>.+)_imgsizetier-(?P<tier>[^_]+)_crops(?P<crops>\d+)_topk(?P<top_k>\d+)_blocks(?P<blocks>\d+)"
    r"(?:_rank(?P<rank>\d+))?\.json"
)

RESULTS = "per_sample_results"
"""Where a file keeps its samples. A file that is a bare list of them is read too."""

EXTRAS = "laptime"
"""Under this name a sample written by laptime keeps the columns that the older format has no field for."""

FIELDS: dict[str, str] = {
    "vision_ms": "T_vision_total",
    "prefill_ms": "T_LLM_prefill",
    "decode_ms": "T_LLM_decode",
    "total_ms": "T_total",
    "decode_per_token_ms": "T_decode_per_token",
    "output_tokens": "output_tokens",
}
"""A frame's column -> its name in the older files."""

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "sample_id": ("sample_id", "question_id", "image_id", "id", "index"),
    "output_tokens": ("output_tokens", "num_output_tokens", "generated_tokens"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "num_input_tokens"),
    "image_tokens": ("image_tokens", "vision_tokens", "num_vision_tokens"),
    "score": ("score", "accuracy", "vqa_score"),
    "text": ("text", "prediction", "generated_text", "answer"),
    "repeat": ("repeat", "run"),
}
"""Further fields that such files have, under the names by which they are known."""


def read_legacy(place: Path, *, bulky: bool = False) -> polars.DataFrame:
    """A file, or all files of a folder, as a frame (laptime.data.frame.read_frame). A file of a rank is a worker's.

    Raises LaptimeError when nothing there is such a file, or one that should be is damaged.
    """
    files = [place] if not place.is_dir() else sorted(place.glob("*.json"))
    parts: list[polars.DataFrame] = []
    knobs: dict[str, list[Scalar]] = {}
    read = rows = 0
    for file in files:
        named = FILE_NAME.fullmatch(file.name)
        try:
            content = _parsed(file)
            samples = _samples(content, file)
        except LaptimeError:
            if place.is_dir() and named is None:
                continue  # some other JSON file that lies there too
            raise
        read += 1
        own = list(_rows(samples, content, named))
        parts.append(_measured(own, bulky=bulky))
        for name in dict.fromkeys(name for row in own for name in row if name.startswith(KNOB)):
            values = knobs.setdefault(name, [])
            values += [None] * (rows - len(values))
            values += [row.get(name) for row in own]
        rows += len(own)
    if not read:
        raise LaptimeError(
            f"{place}: none of its {len(files)} JSON files holds measurements ({RESULTS} with T_total, ...), and there "
            "is no run.json; name a run folder, a table, or a file of the older format"
        )
    return _with_knobs(parts, {name: values + [None] * (rows - len(values)) for name, values in knobs.items()})


def _measured(rows: Sequence[Mapping[str, Any]], *, bulky: bool) -> polars.DataFrame:
    """Rows of column -> value as a frame without knobs: what a row doesn't have is null.

    Values that are not of their column's type become null.
    """
    import polars

    types, there = frame_types(), {name for row in rows for name in row}
    columns = []
    for name in ORDER:
        if name in there and (bulky or name not in ON_REQUEST):
            values = [_fitting(row.get(name), types[name]) for row in rows]
            columns.append(polars.Series(name, values, dtype=types[name]))
        elif bulky or name not in ON_REQUEST:
            columns.append(polars.Series(name, [None], dtype=types[name]).new_from_index(0, len(rows)))
    return polars.DataFrame(columns)


def _with_knobs(parts: Sequence[polars.DataFrame], knobs: Mapping[str, Sequence[Scalar]]) -> polars.DataFrame:
    """All files' frames below each other, with a column `config.NAME` for each knob."""
    import polars

    series = [knob_series(values).alias(name) for name, values in knobs.items()]
    return ordered(polars.concat(parts).with_columns(series))


def _fitting(value: Any, type_: Any) -> Any:
    import polars

    if value is None or isinstance(value, bool):
        return None
    if type_ == polars.Int64:
        return int(value) if _is_figure(value) and value == int(value) else None
    if type_ == polars.Float64:
        return float(value) if _is_figure(value) else None
    if type_ == polars.String:
        return _encodable(value) if isinstance(value, str) else None
    return list(map(float, value)) if isinstance(value, list) and all(map(_is_figure, value)) else None


def _scalar(value: Scalar) -> Scalar:
    """A knob's value as it can be written: text without half characters, no number that is none."""
    if isinstance(value, str):
        return _encodable(value)
    return value if value is None or isinstance(value, bool) or _is_figure(value) else None


def _is_figure(value: Any) -> bool:
    """Whether a value is a number that a sample can have (laptime.data.record.LARGEST). NaN is none."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and abs(value) <= LARGEST


def _encodable(text: str) -> str:
    """The text with a mark for each half of a character (a lone surrogate), which no file of text can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def decoded(content: bytes) -> str:
    """Text in whatever encoding it came: its byte order mark decides, else UTF-8, GB 18030, Latin-1, in this order."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    for encoding in ("utf-8", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:  # noqa: PERF203
            continue
    return content.decode("latin-1")


def _parsed(file: Path) -> Any:
    try:
        text = decoded(read_regular(file))
    except FileNotFoundError:
        raise LaptimeError(f"{file}: no such file") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    if not text.strip():
        raise LaptimeError(f"{file}: empty; measure again, or remove the file")
    try:
        return json.loads(text, strict=False)  # it takes NaN, and control characters in strings
    except json.JSONDecodeError as error:
        raise LaptimeError(
            f"{file}, line {error.lineno}: not JSON ({error.msg}); the file may be cut short: measure that one again"
        ) from error
    except (RecursionError, ValueError) as error:
        raise LaptimeError(f"{file}: not JSON of measurements ({error}); remove the file") from error


def _samples(content: Any, file: Path) -> list[Mapping[str, Any]]:
    results = content.get(RESULTS) if isinstance(content, dict) else content
    if isinstance(results, dict):  # keyed by sample
        results = [{"sample_id": key, **value} for key, value in results.items() if isinstance(value, dict)]
    samples: list[Mapping[str, Any]] = (
        [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    )
    if any(_is_sample(one) for one in samples) or (results == [] and isinstance(content, dict)):
        return samples
    if isinstance(content, dict) and any(str(key).startswith("T_") for key in content):
        raise LaptimeError(f"{file}: only means, no {RESULTS}; export the file with its samples")
    raise LaptimeError(f"{file}: no {RESULTS} with T_total, T_LLM_prefill, ...; it is no file of measurements")


def _is_sample(one: Mapping[str, Any]) -> bool:
    return any(name in one for name in (*FIELDS.values(), "T_vision_encoder"))


def _rows(samples: Sequence[Mapping[str, Any]], content: Any, named: re.Match[str] | None) -> Iterator[dict[str, Any]]:
    knobs = _knobs(content, named)
    whole = content.get("config") if isinstance(content, dict) else None
    rank = named["rank"] if named else None
    if rank is None and isinstance(content, dict) and _number(content.get("rank")) is not None:
        rank = str(content["rank"])
    for position, one in enumerate(samples):
        row = _row(one)
        extras = one.get(EXTRAS)
        own = extras.get("config") if isinstance(extras, dict) else None
        config = next((c for c in (own, whole) if isinstance(c, dict)), knobs)
        config = {_encodable(str(name)): _scalar(value) for name, value in config.items() if isinstance(value, Scalar)}
        if row.get("sample_id") is None:
            row["sample_id"] = f"{position:05d}" if rank is None else f"rank{rank}-{position:05d}"
        if isinstance(extras, dict):
            row |= {name: extras[name] for name in ORDER if name in extras}
        else:
            row.setdefault("repeat", 0)
            row["worker"] = rank
            row["config_id"] = config_id(config)
        yield row | {f"{KNOB}{name}": value for name, value in config.items()}


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {column: _number(one.get(name)) for column, name in FIELDS.items()}
    if row["vision_ms"] is None:
        parts = [_number(one.get(name)) for name in ("T_vision_encoder", "T_projector")]
        if any(part is not None for part in parts):
            row["vision_ms"] = sum(part or 0.0 for part in parts)
    for column, names in OTHER_NAMES.items():
        value = next((one[name] for name in names if one.get(name) is not None), None)
        if column in {"sample_id", "text"}:
            row[column] = None if value is None or isinstance(value, (dict, list)) else str(value)
        elif row.get(column) is None and _number(value) is not None:
            row[column] = _number(value)
    return {name: value for name, value in row.items() if value is not None}


def _knobs(content: Any, named: re.Match[str] | None) -> dict[str, Scalar]:
    """The knobs by the file's name; by the file's own fields where it is called something else."""
    if named:
        numbers = {name: int(named[name]) for name in ("crops", "top_k", "blocks")}
        return {"task": named["task"], "tier": named["tier"], **numbers}
    if not isinstance(content, dict):
        return {}
    names = {
        "task": ("task", "task_name", "dataset_name"),
        "tier": ("tier", "image_size_tier", "imgsizetier"),
        "crops": ("crops", "max_crops", "num_crops"),
        "top_k": ("top_k", "topk"),
        "blocks": ("blocks", "num_active_blocks", "num_blocks"),
    }
    values = {knob: next((content[n] for n in known if n in content), None) for knob, known in names.items()}
    return {knob: value for knob, value in values.items() if value is not None and isinstance(value, Scalar)}


def _number(value: Any) -> float | int | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if _is_figure(value) else None


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
    rows = part.select(column.name for column in part if column.null_count() < part.height).to_dicts()
    samples = [_sample(row) for row in rows]
    means = {}
    for name in MEANS:
        values = [float(one[name]) for one in samples if one[name] is not None]
        means[f"{name}_mean"] = fmean(values) if values else None
        means[f"{name}_std"] = stdev(values) if len(values) > 1 else None
    scores = [row["score"] for row in rows if row.get("score") is not None]
    whole = {"num_samples": len(samples), **means, "accuracy": fmean(scores) if scores else None, RESULTS: samples}
    return msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n"


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
