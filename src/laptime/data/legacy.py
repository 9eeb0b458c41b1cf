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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import KNOB, ON_REQUEST, ORDER, frame_types, knob_series, ordered
from laptime.data.file_kinds import what_it_is
from laptime.data.loose_values import number, numbers, plain_scalar, plain_text, typed_column
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.record import Scalar, config_id
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
        columns = _columns(samples, content, named)
        parts.append(_measured(columns, len(samples), bulky=bulky))
        for name, values in columns.items():
            if name.startswith(KNOB):
                before = knobs.setdefault(name, [])
                before += [None] * (rows - len(before))
                before += values
        rows += len(samples)
    if not read:
        raise LaptimeError(
            f"{place}: none of its {len(files)} JSON files holds measurements ({RESULTS} with T_total, ...), and there "
            "is no run.json; name a run folder, a table, or a file of the older format"
        )
    return _with_knobs(parts, {name: values + [None] * (rows - len(values)) for name, values in knobs.items()})


def _measured(columns: Mapping[str, Sequence[Any]], count: int, *, bulky: bool) -> polars.DataFrame:
    """Columns of values as a frame without knobs: what isn't there is null, and so is what is not of its type."""
    import polars

    types = frame_types()
    return polars.DataFrame(
        [
            typed_column(name, columns[name], types[name])
            if name in columns
            else polars.Series(name, [None], dtype=types[name]).new_from_index(0, count)
            for name in ORDER
            if bulky or name not in ON_REQUEST
        ]
    )


def _with_knobs(parts: Sequence[polars.DataFrame], knobs: Mapping[str, Sequence[Scalar]]) -> polars.DataFrame:
    """All files' frames below each other, with a column `config.NAME` for each knob."""
    import polars

    series = [knob_series(values).alias(name) for name, values in knobs.items()]
    return ordered(polars.concat(parts).with_columns(series))


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
        content = read_regular(file)
    except FileNotFoundError:
        raise LaptimeError(f"{file}: no such file") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    try:
        return msgspec.json.decode(content)
    except DAMAGE:  # it knows no NaN, and no encoding but one
        text = decoded(content)
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
    kind = what_it_is(file) or "it is no file of measurements"
    raise LaptimeError(f"{file}: no {RESULTS} with T_total, T_LLM_prefill, ...; {kind}")


def _is_sample(one: Mapping[str, Any]) -> bool:
    return any(name in one for name in (*FIELDS.values(), "T_vision_encoder"))


def _columns(
    samples: Sequence[Mapping[str, Any]], content: Any, named: re.Match[str] | None
) -> dict[str, Sequence[Any]]:
    """A file's samples as columns, knobs as `config.NAME`. None where a sample doesn't have it."""
    rank = named["rank"] if named else None
    if rank is None and isinstance(content, dict) and number(content.get("rank")) is not None:
        rank = str(content["rank"])
    columns = _own(samples)
    prefix = "" if rank is None else f"rank{rank}-"
    ids = columns.get("sample_id", [None] * len(samples))
    columns["sample_id"] = [f"{prefix}{place:05d}" if one is None else one for place, one in enumerate(ids)]
    extras: list[Any] = [one.get(EXTRAS) for one in samples]
    ours = [isinstance(extra, dict) for extra in extras]  # written by laptime
    configs = _configs(extras, content, named)
    if not all(ours):
        plain = config_id(plain_knobs(configs[ours.index(False)]))
        columns["config_id"] = [None if own else plain for own in ours]
        columns["worker"] = [None if own else rank for own in ours]
        repeats = columns.get("repeat", [None] * len(samples))
        columns["repeat"] = [0 if one is None and not own else one for one, own in zip(repeats, ours, strict=True)]
    dicts: list[dict[str, Any]] = [extra if own else {} for extra, own in zip(extras, ours, strict=True)]
    for name in set().union(*dicts).intersection(ORDER):
        others = columns.get(name, [None] * len(samples))
        columns[name] = [extra.get(name, other) for extra, other in zip(dicts, others, strict=True)]
    return columns | {f"{KNOB}{name}": values for name, values in _knob_columns(configs).items()}


def _own(samples: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    """The older format's own fields as columns."""
    there = set().union(*samples)
    columns = {column: numbers(_cells(samples, name)) for column, name in FIELDS.items() if name in there}
    vision = columns.get("vision_ms", [None] * len(samples))
    if None in vision and there.intersection(_PARTS_OF_VISION):
        sums = map(_vision, *(numbers(_cells(samples, name)) for name in _PARTS_OF_VISION))
        columns["vision_ms"] = [part if whole is None else whole for whole, part in zip(vision, sums, strict=True)]
    for column, names in OTHER_NAMES.items():
        values = _first_known([_cells(samples, name) for name in names if name in there])
        if not values:
            continue
        if column in {"sample_id", "text"}:
            columns[column] = [
                one if isinstance(one, str) else None if isinstance(one, _NO_TEXT) else str(one) for one in values
            ]
        else:
            columns[column] = _first_known([columns.get(column, []), numbers(values)])
    return columns


_PARTS_OF_VISION = ("T_vision_encoder", "T_projector")
_NO_TEXT = (type(None), dict, list)


def _vision(encoder: float | None, projector: float | None) -> float | None:
    return None if encoder is None and projector is None else (encoder or 0.0) + (projector or 0.0)


def _cells(samples: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [one.get(name) for one in samples]


def _first_known(columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Of each sample the first value that is not None; empty without any column. An empty column is left out."""
    known: Sequence[Any] = []
    for values in columns:
        if not known:
            known = values
        elif any(one is None for one in known):
            known = [other if one is None else one for one, other in zip(known, values, strict=True)]
    return known


def _configs(extras: Sequence[Any], content: Any, named: re.Match[str] | None) -> list[Mapping[str, Any]]:
    """Each sample's knobs: its own, else the file's, else those in the file's name."""
    whole = content.get("config") if isinstance(content, dict) else None
    of_file = whole if isinstance(whole, dict) else _knobs(content, named)
    own = [extra.get("config") if isinstance(extra, dict) else None for extra in extras]
    return [one if isinstance(one, dict) else of_file for one in own]


def plain_knobs(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """The knobs that are one value each, as they can be written."""
    return {plain_text(str(name)): plain_scalar(value) for name, value in config.items() if isinstance(value, Scalar)}


def _knob_columns(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Scalar]]:
    columns: dict[str, list[Scalar]] = {}
    for name in sorted(set().union(*configs)):
        values = [config.get(name) for config in configs]
        kinds = set(map(type, values))
        if len(kinds) == 1 and kinds < {int, str, float, bool}:
            table = {value: plain_scalar(value) for value in set(values)}
            columns[plain_text(str(name))] = [table[value] for value in values]
        elif any(isinstance(config[name], Scalar) for config in configs if name in config):
            columns[plain_text(str(name))] = [plain_scalar(v) if isinstance(v, Scalar) else None for v in values]
    return columns


def _knobs(content: Any, named: re.Match[str] | None) -> dict[str, Scalar]:
    """The knobs by the file's name; by the file's own fields where it is called something else."""
    if named:
        counts = {name: int(named[name]) for name in ("crops", "top_k", "blocks")}
        return {"task": named["task"], "tier": named["tier"], **counts}
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
