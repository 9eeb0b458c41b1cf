"""Samples into flat columns, block by block, without a million samples ever being objects at once.

What a block's samples occupy is free again before the next one is read. Texts that repeat (configurations, ids, flags)
are kept once, as codes. Columns that another process built can be taken over whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.record import Flag, GpuState, Sample, Scalar, StageTimes

if TYPE_CHECKING:
    import polars


class SlimSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of samples-*.jsonl without its marks and output ids; the configuration as it stands there.

    The same fields as laptime.data.record.Sample, which says what they mean.
    """

    config_id: str
    sample_id: str
    repeat: int
    worker: str
    config: msgspec.Raw
    stages: StageTimes
    host_stages: StageTimes
    ttft_ms: float
    tpot_ms: float | None
    output_tokens: int
    decode_forwards: int
    prompt_tokens: int
    image_tokens: int
    crops: int | None = None
    batch: int = 1
    generated_tokens: int = 0
    started_unix_ms: float = 0.0
    memory_peak_bytes: int | None = None
    energy_j: float | None = None
    gpu: GpuState | None = None
    gc_pause_ms: float = 0.0
    flags: list[Flag] = []
    score: float | None = None
    schema_version: int = 0  # no line has one yet: a newer laptime's might


class BulkySample(SlimSample, frozen=True, kw_only=True, gc=False):
    """The same with the gaps between tokens and the text."""

    itl_ms: list[float] | None = None
    text: str | None = None


class _Packed(msgspec.Struct):
    """What `SampleColumns.packed` sends."""

    numbers: dict[str, tuple[str, bytes]]
    masks: dict[str, bytes]
    tables: dict[str, list[str]]
    configs: list[bytes]
    lists: dict[str, list[Any]]


AnySample = Sample | SlimSample


class SampleColumns:
    """Columns that grow by blocks of samples. Raises OverflowError for a whole number beyond 64 bits."""

    def __init__(self, *, bulky: bool) -> None:
        self._bulky = bulky
        self._blocks: dict[str, list[npt.NDArray[Any]]] = {}
        self._masks: dict[str, list[npt.NDArray[np.bool_]]] = {}
        self._codes: dict[str, _Codes] = {name: _Codes() for name in TEXT_COLUMNS}
        self._configs = _Codes()
        self._lists: dict[str, list[Any]] = {name: [] for name in BULKY_COLUMNS}

    def add(self, samples: Sequence[AnySample]) -> None:
        """Append the rows of these samples."""
        for prefix, stages in (("", [s.stages for s in samples]), ("host_", [s.host_stages for s in samples])):
            self._floats(f"{prefix}vision_ms", [t.vision_ms for t in stages])
            self._floats(f"{prefix}prefill_ms", [t.prefill_ms for t in stages])
            self._floats(f"{prefix}decode_ms", [t.decode_ms for t in stages])
            self._floats(f"{prefix}other_ms", [t.other_ms for t in stages])
            self._floats(f"{prefix}total_ms", [t.total_ms for t in stages])
        self._floats("ttft_ms", [s.ttft_ms for s in samples])
        self._floats("tpot_ms", [s.tpot_ms for s in samples])
        self._floats("started_unix_ms", [s.started_unix_ms for s in samples])
        self._floats("energy_j", [s.energy_j for s in samples])
        self._floats("gc_pause_ms", [s.gc_pause_ms for s in samples])
        self._floats("score", [s.score for s in samples])
        self._ints("repeat", [s.repeat for s in samples])
        self._ints("output_tokens", [s.output_tokens for s in samples])
        self._ints("decode_forwards", [s.decode_forwards for s in samples])
        self._ints("prompt_tokens", [s.prompt_tokens for s in samples])
        self._ints("image_tokens", [s.image_tokens for s in samples])
        self._ints("crops", [s.crops for s in samples])
        self._ints("batch", [s.batch for s in samples])
        self._ints("generated_tokens", [s.generated_tokens for s in samples])
        self._ints("memory_peak_bytes", [s.memory_peak_bytes for s in samples])
        gpus = [s.gpu or _NO_GPU for s in samples]
        self._ints("gpu_sm_mhz", [g.sm_mhz for g in gpus])
        self._ints("gpu_temperature_c", [g.temperature_c for g in gpus])
        self._floats("gpu_power_w", [g.power_w for g in gpus])
        self._texts("gpu_throttle", [",".join(g.throttle) for g in gpus])
        self._texts("flags", [",".join(s.flags) for s in samples])
        self._texts("config_id", [s.config_id for s in samples])
        self._texts("sample_id", [s.sample_id for s in samples])
        self._texts("worker", [s.worker for s in samples])
        codes = self._configs
        self._put("config", np.array([codes[_raw(s.config)] for s in samples], dtype=np.int32))
        if self._bulky:
            for name in BULKY_COLUMNS:
                self._lists[name] += [getattr(s, name) for s in samples]

    def packed(self) -> bytes:
        """All rows as bytes (MessagePack: values only), for `absorb` in another process. They are gone from here."""
        numbers = {name: self._joined(name, np.float64) for name in list(self._blocks)}
        return msgspec.msgpack.encode(
            {
                "numbers": {name: (array.dtype.char, array.tobytes()) for name, array in numbers.items()},
                "masks": {name: np.concatenate(masks).tobytes() for name, masks in self._masks.items()},
                "tables": {name: list(codes) for name, codes in self._codes.items()},
                "configs": list(self._configs),
                "lists": self._lists,
            }
        )

    def absorb(self, packed: bytes) -> None:
        """Append the rows that another process packed. Raises msgspec.DecodeError for anything else."""
        other = msgspec.msgpack.decode(packed, type=_Packed)
        tables = {name: (self._codes[name], table) for name, table in other.tables.items()}
        for name, (kind, content) in other.numbers.items():
            array = np.frombuffer(content, dtype=np.dtype(kind))
            if name in tables:
                codes, table = tables[name]
                array = _recoded(array, codes, table)
            elif name == "config":
                array = _recoded(array, self._configs, other.configs)
            if name in other.masks:
                self._mask(name, np.frombuffer(other.masks[name], dtype=np.bool_))
            self._put(name, array)
        for name, values in other.lists.items():
            self._lists[name] += values

    def frame(self) -> polars.DataFrame:
        """All rows as one frame. Raises msgspec.DecodeError for a configuration that is none."""
        import polars

        columns: dict[str, polars.Series] = {}
        for name in ORDER:
            if name in TEXT_COLUMNS:
                table = polars.Series(list(self._codes[name]), dtype=polars.String)
                columns[name] = table.gather(self._joined(name, np.int32))
            elif name in FLOAT_COLUMNS:
                columns[name] = polars.Series(name, self._joined(name, np.float64)).fill_nan(None)
            elif name in INT_COLUMNS:
                columns[name] = self._integers(name)
            elif name in BULKY_COLUMNS and self._bulky:
                columns[name] = polars.Series(self._lists[name], dtype=frame_types()[name])
        columns |= self._knobs()
        frame = polars.DataFrame(columns)
        return ordered(frame.with_columns(decode_per_token().alias("decode_per_token_ms")))

    def _floats(self, name: str, values: list[float] | list[float | None]) -> None:
        self._put(name, np.array(values, dtype=np.float64))  # None becomes NaN, which no line can hold

    def _ints(self, name: str, values: list[int] | list[int | None]) -> None:
        try:
            array = np.array(values, dtype=np.int64)
        except TypeError:
            self._masked(name, values)
        else:
            self._put(name, array)

    def _masked(self, name: str, values: Sequence[int | None]) -> None:
        """Values of which some are None. Later blocks without any need no mask."""
        self._mask(name, np.array([value is None for value in values]))
        self._put(name, np.array([0 if value is None else value for value in values], dtype=np.int64))

    def _mask(self, name: str, absent: npt.NDArray[np.bool_]) -> None:
        """Note which values of the next block are none; blocks before it that had no mask get one."""
        masks = self._masks.setdefault(name, [])
        before = sum(map(len, self._blocks.get(name, []))) - sum(map(len, masks))
        masks += [np.zeros(before, dtype=np.bool_), absent]

    def _texts(self, name: str, values: list[str]) -> None:
        codes = self._codes[name]
        self._put(name, np.array([codes[value] for value in values], dtype=np.int32))

    def _put(self, name: str, array: npt.NDArray[Any]) -> None:
        self._blocks.setdefault(name, []).append(array)

    def _joined(self, name: str, dtype: type) -> npt.NDArray[Any]:
        blocks = self._blocks.pop(name, [])
        return np.concatenate(blocks) if blocks else np.empty(0, dtype=dtype)

    def _integers(self, name: str) -> polars.Series:
        import polars

        series = polars.Series(name, self._joined(name, np.int64))
        if name not in self._masks:
            return series
        masks = np.concatenate(self._masks[name])
        present = np.ones(len(series), dtype=np.bool_)
        present[: len(masks)] = ~masks
        return polars.select(polars.when(polars.Series(present)).then(series).alias(name)).to_series()

    def _knobs(self) -> dict[str, polars.Series]:
        configs = [_CONFIG.decode(raw) for raw in self._configs]
        codes = self._joined("config", np.int32)
        return {
            f"{KNOB}{name}": knob_series([config.get(name) for config in configs]).gather(codes)
            for name in dict.fromkeys(name for config in configs for name in config)
        }


class _Codes(dict[Any, int]):
    """A number for each different key, counted from 0 in the order in which they were met."""

    def __missing__(self, key: Any) -> int:
        code = self[key] = len(self)
        return code


def _recoded(array: npt.NDArray[Any], codes: _Codes, table: Sequence[str | bytes]) -> npt.NDArray[Any]:
    """Another table's codes as one's own."""
    own: npt.NDArray[Any] = np.array([codes[key] for key in table], dtype=np.int32)
    return own.take(array)


def _raw(config: msgspec.Raw | dict[str, Scalar]) -> bytes:
    return bytes(config) if isinstance(config, msgspec.Raw) else msgspec.json.encode(config)


_NO_GPU = GpuState()
_CONFIG = msgspec.json.Decoder(dict[str, Scalar])


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
