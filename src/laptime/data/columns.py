"""The columns of a frame of samples, derived from the fields of Sample, and how samples become columns.

A new field of Sample is a new column, by the rules of `columns_of`. Only what can't be derived is written down here:
which fields have no column, what the columns of a nested struct begin with, and which columns are read on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from msgspec import inspect

from laptime.data.growing_array import GrowingArray
from laptime.data.record import LARGEST, LATEST_UNIX_MS, SMALLEST, Sample, Scalar

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

PREFIXES = {"stages": "", "host_stages": "host_", "gpu": "gpu_"}
"""A field of Sample that is a struct -> what the columns of its fields begin with."""

NO_COLUMN = ("config", "unassigned_ms", "marks", "output_ids", "decision")
"""Fields of Sample without a column. The knobs of `config` have columns of their own."""

ON_REQUEST = ("itl_ms", "text")
"""Columns that are read only when asked for (`bulky`): a list or a long text for each sample."""

KEY = ("config_id", "sample_id", "repeat")
"""What a sample is unique by."""

KNOB = "config."
"""What a knob's column begins with."""

Kind = Literal["text", "words", "float", "int", "floats"]


@dataclass(frozen=True)
class FrameColumn:
    """A column and the field that it is made from.

    kind: words are a list of words, written as one text with commas. struct: the field of Sample whose field `field`
    is; None for a field of Sample itself. optional: a sample may have no such struct.
    """

    name: str
    kind: Kind
    field: str
    struct: str | None = None
    optional: bool = False


def columns_of(record: type[msgspec.Struct]) -> list[FrameColumn]:
    """The columns of a record such as Sample, in the order of its fields.

    Raises TypeError for a field of a type that has no kind of column: add the kind, or name the field in NO_COLUMN.
    """
    columns: list[FrameColumn] = []
    for field in _fields(inspect.type_info(record)):
        if field.name in NO_COLUMN:
            continue
        type_ = _without_none(field.type)
        if isinstance(type_, inspect.StructType):
            optional = type_ is not field.type
            prefix = PREFIXES.get(field.name, f"{field.name}_")
            columns += [
                FrameColumn(f"{prefix}{inner.name}", _kind(inner), inner.name, field.name, optional)
                for inner in type_.fields
            ]
        else:
            columns.append(FrameColumn(field.name, _kind(field), field.name))
    return columns


def _fields(type_: inspect.Type) -> Sequence[inspect.Field]:
    assert isinstance(type_, inspect.StructType)
    return type_.fields


def _without_none(type_: inspect.Type) -> inspect.Type:
    if isinstance(type_, inspect.UnionType):
        kinds = [kind for kind in type_.types if not isinstance(kind, inspect.NoneType)]
        return kinds[0] if len(kinds) == 1 else type_
    return type_


def _kind(field: inspect.Field) -> Kind:
    type_ = _without_none(field.type)
    if isinstance(type_, inspect.StrType):
        return "text"
    if isinstance(type_, inspect.FloatType):
        return "float"
    if isinstance(type_, inspect.IntType):
        return "int"
    if isinstance(type_, inspect.ListType):
        if isinstance(type_.item_type, inspect.FloatType):
            return "floats"
        if isinstance(type_.item_type, (inspect.StrType, inspect.LiteralType)):
            return "words"
    raise TypeError(f"field {field.name}: no kind of column for {field.type}")


COLUMNS = columns_of(Sample)
STAGE_COLUMNS = tuple(column.name for column in COLUMNS if column.struct == "stages")
DECODE_PER_TOKEN = "decode_per_token_ms"  # noqa: S105 - a column's name


def _ordered_names() -> tuple[str, ...]:
    names = [column.name for column in COLUMNS]
    names.insert(names.index("tpot_ms") + 1, DECODE_PER_TOKEN)
    return tuple(names)


ORDER = _ordered_names()
"""All columns of a frame but the knobs, in their order. Knobs follow as `config.NAME`."""


def frame_types() -> dict[str, polars.DataType | type[polars.DataType]]:
    """FrameColumn -> its type, for all of ORDER."""
    import polars

    of_kind: dict[Kind, polars.DataType | type[polars.DataType]] = {
        "text": polars.String,
        "words": polars.String,
        "float": polars.Float64,
        "int": polars.Int64,
        "floats": polars.List(polars.Float64),
    }
    types = {column.name: of_kind[column.kind] for column in COLUMNS} | {DECODE_PER_TOKEN: polars.Float64}
    return {name: types[name] for name in ORDER}


def line_type(*, bulky: bool) -> type[msgspec.Struct]:
    """What of a line of samples-*.jsonl becomes columns: Sample's fields of the same names.

    `config` stays as it is written, to be decoded once for all samples that have the same. schema_version: no line has
    one yet, one of a newer laptime might.
    """
    left_out = {*NO_COLUMN, *(() if bulky else ON_REQUEST)} - {"config"}
    fields = [
        (field.name, msgspec.Raw if field.name == "config" else field.type, _default(field))
        for field in msgspec.structs.fields(Sample)
        if field.name not in left_out
    ]
    return msgspec.defstruct(
        "SampleLine", [*fields, ("schema_version", int, 0)], frozen=True, kw_only=True, gc=False, module=__name__
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.field(default_factory=field.default_factory)
    return msgspec.field() if field.default is msgspec.NODEFAULT else msgspec.field(default=field.default)


class SampleColumns:
    """Columns that grow by blocks of samples, so that a million samples are never objects at once.

    Texts that repeat (configurations, ids, flags) are kept once, as codes. Raises OverflowError beyond 64 bits.
    """

    def __init__(self, *, bulky: bool, columns: Sequence[FrameColumn] = COLUMNS, config: str = "config") -> None:
        """columns, config: where the values and the knobs are in the records to come; by default they are samples."""
        self._columns = [column for column in columns if bulky or column.name not in ON_REQUEST]
        self._figures = {c.name: GrowingArray(np.float64, np.nan) for c in self._columns if c.kind == "float"}
        self._integers = {c.name: GrowingArray(np.int64) for c in self._columns if c.kind == "int"}
        self._present = {name: GrowingArray(np.bool_) for name in self._integers}
        self._places = {c.name: GrowingArray(np.int32) for c in self._columns if _is_coded(c)}
        self._codes = {name: _Codes() for name in self._places}
        self._config, self._config_places = attrgetter(config), GrowingArray(np.int32)
        self.configs = _Codes()  # each configuration as it is written
        self._lists: dict[str, list[Any]] = {column.name: [] for column in self._columns if _is_list(column)}

    def add(self, samples: Sequence[msgspec.Struct]) -> None:
        """Append the rows of these samples: Sample, or a `line_type`."""
        structs: dict[str | None, Sequence[Any]] = {None: samples}
        for column in self._columns:
            if column.struct is not None and column.struct not in structs:
                structs[column.struct] = list(map(attrgetter(column.struct), samples))
            self._put(column, _values(structs[column.struct], column))
        configs = list(map(self._config, samples))
        written = map(bytes if configs and isinstance(configs[0], msgspec.Raw) else msgspec.json.encode, configs)
        codes = list(map(self.configs.__getitem__, written))
        self._config_places.add(np.array(codes, dtype=np.int32))

    def frame(self) -> polars.DataFrame:
        """All rows as one frame. Raises msgspec.DecodeError for a configuration that is none."""
        import polars

        types = frame_types()
        columns: dict[str, polars.Series] = {}
        for column in self._columns:
            name = column.name
            if _is_list(column):
                columns[name] = polars.Series(self._lists[name], dtype=types[name])
            elif _is_coded(column):
                table = polars.Series(list(self._codes[name]), dtype=polars.String)
                columns[name] = table.gather(self._places.pop(name).values())
            elif column.kind == "float":
                columns[name] = _figures(self._figures.pop(name))
            else:
                columns[name] = _whole(self._integers.pop(name), self._present.pop(name))
        frame = polars.DataFrame(columns | self._knobs())
        if DECODE_PER_TOKEN not in columns:
            frame = frame.with_columns(decode_per_token().alias(DECODE_PER_TOKEN))
        return ordered(frame)

    def _put(self, column: FrameColumn, values: list[Any]) -> None:
        if _is_list(column):
            self._lists[column.name] += values
            return
        if column.kind in ("float", "int"):
            self._put_numbers(column, values)
            return
        texts = [",".join(words) if words else "" for words in values] if column.kind == "words" else values
        codes = self._codes[column.name]
        self._places[column.name].add(np.array(list(map(codes.__getitem__, texts)), dtype=np.int32))

    def _put_numbers(self, column: FrameColumn, values: list[Any]) -> None:
        lacking = values.count(None)  # most lines lack many columns
        if column.kind == "float":
            figures = self._figures[column.name]  # None becomes NaN, which no line can hold
            figures.skip(lacking) if lacking == len(values) else figures.add(np.array(values, dtype=np.float64))
            return
        integers, present = self._integers[column.name], self._present[column.name]
        if lacking == len(values):
            integers.skip(lacking)
            present.skip(lacking)
            return
        present.add(np.array([value is not None for value in values]) if lacking else np.ones(len(values), np.bool_))
        integers.add(np.array([value or 0 for value in values] if lacking else values, dtype=np.int64))

    def _knobs(self) -> dict[str, polars.Series]:
        configs = [_CONFIG.decode(raw) for raw in self.configs]
        codes = self._config_places.values()
        return {
            f"{KNOB}{name}": knob_series([config.get(name) for config in configs]).gather(codes)
            for name in dict.fromkeys(name for config in configs for name in config)
        }


class _Codes(dict[Any, int]):
    """A number for each different key, counted from 0 in the order in which the keys come."""

    def __missing__(self, key: Any) -> int:
        code = self[key] = len(self)
        return code


def _is_list(column: FrameColumn) -> bool:
    """Whether its values are kept one by one: they are lists, or texts that hardly repeat."""
    return column.kind == "floats" or column.name in ON_REQUEST


def _is_coded(column: FrameColumn) -> bool:
    return column.kind in ("text", "words") and not _is_list(column)


def _values(structs: Sequence[Any], column: FrameColumn) -> list[Any]:
    read = attrgetter(column.field)
    if column.optional:
        return [None if struct is None else read(struct) for struct in structs]
    return list(map(read, structs))


def _figures(figures: GrowingArray[np.float64]) -> polars.Series:
    import polars

    if figures.is_absent:
        return polars.repeat(None, figures.length, dtype=polars.Float64, eager=True)
    values = figures.values()
    values[np.abs(values) < SMALLEST] = 0.0
    return polars.Series(values).fill_nan(None)


def _whole(integers: GrowingArray[np.int64], present: GrowingArray[np.bool_]) -> polars.Series:
    import polars

    if integers.is_absent:
        return polars.repeat(None, integers.length, dtype=polars.Int64, eager=True)
    series, there = polars.Series(integers.values()), present.values()
    if there.all():
        return series
    return polars.select(polars.when(polars.Series(there)).then(series)).to_series()


_CONFIG = msgspec.json.Decoder(dict[str, Scalar])


def knob_series(values: Sequence[Scalar]) -> polars.Series:
    """A knob's values as one typed column: true or false, whole, real, and text for anything mixed."""
    import polars

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return polars.Series(values, dtype=polars.Boolean)
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):  # type: ignore[arg-type]
        return polars.Series(values, dtype=polars.Int64)
    if kinds and kinds <= {int, float} and all(value is None or abs(value) < 2**63 for value in values):  # type: ignore[arg-type]
        return polars.Series([None if value is None else float(value) for value in values], dtype=polars.Float64)
    return polars.Series([None if value is None else _written(value) for value in values], dtype=polars.String)


def possible(column: polars.Series, name: str) -> polars.Series:
    """A column of figures with null for what can't be one: NaN, infinities, beyond LARGEST. Nearly 0 becomes 0.

    Other programs write such values where there is none. name: what the column means; one that laptime doesn't know
    may hold any number that can be squared.
    """
    import polars

    if not column.dtype.is_float():
        return column
    column = column.cast(polars.Float64)
    largest = LARGEST if name in ORDER else 1e30
    low, high = (0, LATEST_UNIX_MS) if name == "started_unix_ms" else (-largest, largest)
    nearly_0 = column.abs() < (SMALLEST if name in ORDER else 1e-30)
    kept = polars.when(nearly_0).then(0.0).when(column.is_between(low, high)).then(column)  # NaN is between nothing
    return polars.select(kept.cast(column.dtype).alias(column.name)).to_series()


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


def _written(value: Scalar) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
