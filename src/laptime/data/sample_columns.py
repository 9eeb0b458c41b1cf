"""The columns of a frame of samples: their names, types and order, and what is worked out from them.

One row a sample, every column there and typed, null where a sample had none; knobs follow as `config.NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.record import Scalar

if TYPE_CHECKING:
    import polars

KEY = ("config_id", "sample_id", "repeat")
"""What a sample is unique by."""

STAGE_COLUMNS = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms")
HOST_COLUMNS = tuple(f"host_{name}" for name in STAGE_COLUMNS)
TEXT_COLUMNS = ("config_id", "sample_id", "worker", "gpu_throttle", "flags")
FLOAT_COLUMNS = (*STAGE_COLUMNS, *HOST_COLUMNS, "ttft_ms", "tpot_ms", "started_unix_ms", "energy_j", "gpu_power_w",
                 "gc_pause_ms", "score")  # fmt: skip
INT_COLUMNS = ("repeat", "output_tokens", "decode_forwards", "prompt_tokens", "image_tokens", "crops", "batch",
               "generated_tokens", "memory_peak_bytes", "gpu_sm_mhz", "gpu_temperature_c")  # fmt: skip
BULKY_COLUMNS = ("itl_ms", "text")
"""Read only when asked for: a list a sample, a text a sample."""

ORDER = (
    "config_id", "sample_id", "repeat", "worker", *STAGE_COLUMNS, *HOST_COLUMNS, "ttft_ms", "tpot_ms",
    "decode_per_token_ms", "itl_ms", "output_tokens", "decode_forwards", "prompt_tokens", "image_tokens", "crops",
    "batch", "generated_tokens", "started_unix_ms", "memory_peak_bytes", "energy_j", "gpu_sm_mhz",
    "gpu_temperature_c", "gpu_power_w", "gpu_throttle", "gc_pause_ms", "flags", "text", "score",
)  # fmt: skip
"""All columns of a frame but the knobs, in their order. Knobs follow as `config.NAME`."""

KNOB = "config."
"""What a knob's column begins with."""


def frame_of_rows(rows: Sequence[Mapping[str, Any]], *, bulky: bool = False) -> polars.DataFrame:
    """Rows of column -> value as a whole frame: what a row doesn't have is null; knobs are `config.NAME`.

    Values that are not of their column's type become null.
    """
    import polars

    types = frame_types()
    columns = [
        polars.Series(name, [_fitting(row.get(name), types[name]) for row in rows], dtype=types[name])
        for name in ORDER
        if bulky or name not in BULKY_COLUMNS
    ]
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(KNOB))
    return ordered(polars.DataFrame([*columns, *(knob_series([row.get(n) for row in rows]).alias(n) for n in names)]))


def _fitting(value: Any, type_: Any) -> Any:
    import polars

    if value is None or isinstance(value, bool):
        return None
    if type_ == polars.Int64:
        return int(value) if isinstance(value, (int, float)) and value == int(value) and abs(value) < 2**63 else None
    if type_ == polars.Float64:
        return float(value) if isinstance(value, (int, float)) else None
    if type_ == polars.String:
        return value if isinstance(value, str) else None
    return value if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value) else None


def knob_series(values: Sequence[Scalar]) -> polars.Series:
    """A knob's values as one typed column: true or false, whole, real, and text for anything mixed."""
    import polars

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return polars.Series(values, dtype=polars.Boolean)
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):  # type: ignore[arg-type]
        return polars.Series(values, dtype=polars.Int64)
    if kinds and kinds <= {int, float}:
        return polars.Series([None if value is None else float(value) for value in values], dtype=polars.Float64)
    return polars.Series([None if value is None else _written(value) for value in values], dtype=polars.String)


def decode_per_token() -> polars.Expr:
    """decode / (N - 1): N tokens need N - 1 decode forwards. Null when N < 2 or the forwards don't match."""
    import polars
    from polars import col

    countable = (col("output_tokens") >= 2) & ~has_flag("forwards-mismatch").fill_null(value=False)
    return polars.when(countable).then(col("decode_ms") / (col("output_tokens") - 1))


def has_flag(flag: str) -> polars.Expr:
    """Whether a row's flags hold this one. No flag's name is part of another's."""
    from polars import col

    return col("flags").str.contains(flag, literal=True)


def ordered(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame's columns in their order: known ones, others, knobs by name."""
    known = [name for name in ORDER if name in frame.columns]
    knobs = sorted(name for name in frame.columns if name.startswith(KNOB))
    return frame.select(*known, *(n for n in frame.columns if n not in {*known, *knobs}), *knobs)


def frame_types() -> dict[str, polars.DataType | type[polars.DataType]]:
    """Column -> its type, for all of ORDER."""
    import polars

    types: dict[str, polars.DataType | type[polars.DataType]] = dict.fromkeys(ORDER, polars.Float64)
    types.update(dict.fromkeys((*TEXT_COLUMNS, "text"), polars.String))
    types.update(dict.fromkeys(INT_COLUMNS, polars.Int64))
    types["itl_ms"] = polars.List(polars.Float64)
    return types


def _written(value: Scalar) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
