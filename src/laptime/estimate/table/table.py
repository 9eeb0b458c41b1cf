"""A table for the estimator: any frame or file in, checked and encoded columns out.

Numeric features keep their values; categorical ones become codes by their levels in the training table, -1 for a level
that was never seen. All rows of equal features are one configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from laptime.data.number_texts import is_number_text
from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError, did_you_mean
from laptime.estimate.roofline.work import Work
from laptime.estimate.table.reading import read_table
from laptime.estimate.table.units import is_rate

UNSEEN = -1
LARGEST_FEATURE = 1e30
"""Products of three columns and their squares must stay finite."""
TIMES = (1e-9, 1e12)
"""A femtosecond and thirty years, in ms: what lies outside was not measured."""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of an estimator. `levels` has the known values of each categorical column, as text."""

    target: str
    numeric: list[str]
    categorical: list[str]
    group: list[str]
    levels: dict[str, list[str]]
    constants: dict[str, str] = {}
    """Features that had one value only in training, as text: nothing is known of any other."""
    work: Work | None = None
    """What is computed of a row beside its features, where the table says which model it was."""

    @property
    def features(self) -> list[str]:
        """Numeric ones first, then categorical ones: the order of `Encoded`'s columns."""
        return [*self.numeric, *self.categorical]

    @property
    def sizes(self) -> list[str]:
        """What roofline terms are built from: numeric features, then the columns of work."""
        return [*self.numeric, *(f"roofline.{name}" for name in (self.work.columns if self.work else ()))]


class Encoded:
    """Rows as arrays: `numeric` (n, p) float64, `codes` (n, c) int64, and `work` (n, w), computed of both."""

    __slots__ = ("codes", "numeric", "work")

    def __init__(self, numeric: Floats, codes: Ints, work: Floats | None = None) -> None:
        self.numeric = numeric
        self.codes = codes
        self.work = np.empty((len(numeric), 0)) if work is None else work

    def __len__(self) -> int:
        return len(self.numeric)

    def take(self, rows: npt.NDArray[Any]) -> Encoded:
        """These rows (indices or a mask)."""
        return Encoded(self.numeric[rows], self.codes[rows], self.work[rows])

    def without_categories(self) -> Encoded:
        """The same rows, numeric columns only."""
        return Encoded(self.numeric, self.codes[:, :0], self.work)

    @property
    def sizes(self) -> Floats:
        """(n, p + w): what roofline terms are built from."""
        return np.column_stack([self.numeric, self.work]) if self.work.shape[1] else self.numeric


def as_polars(frame: Any, keep: Sequence[str] = ()) -> pl.DataFrame:
    """A polars frame from a polars or pandas frame, a mapping of columns, or a path (run folder, Parquet, CSV).

    keep: flags whose samples of a run folder are used all the same.
    Raises LaptimeError for anything else.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, (str, Path)):
        return read_table(frame, keep)
    if type(frame).__module__.partition(".")[0] == "pandas":
        return _from_pandas(frame)
    if isinstance(frame, dict):
        return pl.DataFrame(frame, strict=False)
    raise LaptimeError(f"{type(frame).__name__} is no table; give a polars or pandas frame, or the path of one")


def _from_pandas(frame: Any) -> pl.DataFrame:
    """Column by column through numpy: needs no pyarrow. Mixed columns become text."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name]
        if values.dtype.kind in "fiub":
            columns[str(name)] = values.to_numpy()
        else:
            columns[str(name)] = [None if value is None or value != value else str(value) for value in values.tolist()]
    return pl.DataFrame(columns)


def require_columns(frame: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise LaptimeError for the first column that is missing, with the names that are near."""
    for name in names:
        if name in frame.columns:
            continue
        others = [column for column in frame.columns if column not in names]  # a column that is needed is no typo
        hint = did_you_mean(name, others, cutoff=0.5) or f"it has {', '.join(frame.columns[:12])}"
        raise LaptimeError(f"the table has no column {name!r}; {hint}")


def level_texts(column: pl.Series) -> list[str]:
    """A categorical column as text, null as "null"; 2.0 and 2 are the same level."""
    if column.dtype.is_float():
        return ["null" if value is None else f"{value:g}" for value in column.to_list()]
    if column.dtype == pl.Boolean or column.dtype.is_nested():
        return ["null" if value is None else str(value) for value in column.to_list()]
    texts: list[str] = column.cast(pl.String).fill_null("null").to_list()
    return texts


def make_schema(
    frame: pl.DataFrame,
    *,
    target: str,
    features: Sequence[str],
    categorical: Sequence[str],
    group: Sequence[str],
    work: Work | None = None,
) -> Schema:
    """The schema of a training table: text features are categorical without being named so."""
    require_columns(frame, [target, *features, *categorical, *group])
    if is_rate(target):
        raise LaptimeError(
            f"target {target!r} is a rate by its name, not a time; learn its inverse (1000 / rate is ms for each)"
        )
    if target in features or target in categorical:
        raise LaptimeError(f"{target!r} is the target and a feature too; leave it out of the features")
    named = list(dict.fromkeys(categorical))
    text = [name for name in features if not _is_number(frame[name]) and name not in named]
    for name in text:
        _check_names(frame[name])
    numeric = [name for name in dict.fromkeys(features) if name not in named and name not in text]
    categories = [*named, *text]
    if not numeric and not categories:
        raise LaptimeError("no features; name the columns that the target depends on")
    levels = {name: sorted(set(level_texts(frame[name]))) for name in categories}
    return Schema(target=target, numeric=numeric, categorical=categories, group=list(group), levels=levels, work=work)


def _check_names(column: pl.Series) -> None:
    """Raise LaptimeError for a feature most of whose values are numbers: its texts are no names."""
    texts = column.drop_nulls()
    if column.dtype != pl.String or texts.is_empty():  # in the rows that have the target it may hold nothing
        return
    numbers = is_number_text(texts)
    if numbers.mean() > 0.5 and not numbers.all():  # type: ignore[operator]
        raise LaptimeError(
            f"feature {column.name!r} holds numbers and text ({_where_text(column)}); write numbers there, drop those "
            "rows, or name it as categorical"
        )


def _where_text(column: pl.Series) -> str:
    """Which text a column of numbers holds, in how many rows, and where first."""
    texts = column.cast(pl.String)
    bad = (texts.is_not_null() & ~is_number_text(texts.fill_null("0"))).to_numpy()
    first = int(np.argmax(bad))
    return f"{texts[first]!r}, first in row {first + 1}, {int(bad.sum())} of {len(column)} rows"


def encode(frame: pl.DataFrame, schema: Schema) -> Encoded:
    """The features of a frame by a schema. Raises LaptimeError for missing columns, text and missing values."""
    require_columns(frame, schema.features)
    numeric = np.empty((len(frame), len(schema.numeric)))
    for place, name in enumerate(schema.numeric):
        numeric[:, place] = _numbers(frame[name], "feature")
    codes = np.empty((len(frame), len(schema.categorical)), dtype=np.int64)
    for place, name in enumerate(schema.categorical):
        known = {level: code for code, level in enumerate(schema.levels[name])}
        codes[:, place] = [known.get(text, UNSEEN) for text in level_texts(frame[name])]
    if schema.work is None:
        return Encoded(numeric, codes)
    return Encoded(numeric, codes, schema.work.values(frame, dict(zip(schema.numeric, numeric.T, strict=True))))


def other_constants(frame: pl.DataFrame, schema: Schema) -> npt.NDArray[np.bool_]:
    """Rows in which a feature that was constant in training has another value, (n,)."""
    other = np.zeros(len(frame), dtype=np.bool_)
    for name, value in schema.constants.items():
        if name in frame.columns:
            other |= other_value_rows(frame[name], value)
    return other


def other_value_rows(column: pl.Series, value: str) -> npt.NDArray[np.bool_]:
    """Rows of a column that differ from a value written as text, (n,); 2 and 2.0 are the same."""
    number = _number_of(value)
    if number is not None and column.dtype.is_numeric():
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return np.asarray(~np.isclose(values, number, rtol=1e-5, atol=0.0))  # level_texts keeps six digits
    return np.array([text != value for text in level_texts(column)], dtype=np.bool_)


def _number_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


SAID_BETTER = ("config.prompt_tokens", "config.image_size", "config.crops", "config.tier", "config.new_tokens")
"""Settings of a run that its own sizes say better, or that a total answers for any value."""
RUN_SIZES = ("prompt_tokens", "image_tokens", "crops", "batch")
BY_LENGTH = ("total_ms", "decode_ms")
"""What takes longer the more tokens an answer has."""


def settings_that_never_varied(frame: pl.DataFrame, schema: Schema) -> dict[str, str]:
    """The settings and sizes of a run that had one value in all its rows, as text; empty for any other table."""
    if "config_id" not in frame.columns:
        return {}
    names = [name for name in frame.columns if name.startswith("config.") and name not in SAID_BETTER]
    sizes = [*RUN_SIZES, *(["output_tokens"] if schema.target in BY_LENGTH else [])]
    names += [name for name in sizes if name in frame.columns]
    alike = [name for name in names if name not in schema.features and frame[name].n_unique() == 1]
    return {name: level_texts(frame[name].head(1))[0] for name in alike if frame[name][0] is not None}


def group_codes(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Ints, list[str]]:
    """The group of each row as a code, and each group's name ("hardware=a100, batch=2")."""
    require_columns(frame, columns)
    rows = pl.DataFrame([_joinable(frame[name]) for name in dict.fromkeys(columns)])
    kinds = rows.unique(maintain_order=True)  # few, so that a million rows need no million texts
    texts = [level_texts(kinds[name]) for name in columns]
    labels = [", ".join(f"{n}={v}" for n, v in zip(columns, row, strict=True)) for row in zip(*texts, strict=True)]
    names, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    coded = kinds.with_columns(pl.Series("\0code", codes.astype(np.int64)))
    joined = rows.join(coded, on=rows.columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["\0code"].to_numpy(), [str(name) for name in names]


def _joinable(column: pl.Series) -> pl.Series:
    """The column, as texts where polars can't join on its type."""
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
        return pl.Series(column.name, level_texts(column), dtype=pl.String)
    return column


def target_values(frame: pl.DataFrame, name: str) -> Floats:
    """The target, all finite and above 0. Raises LaptimeError that says how many rows are not, and the first."""
    values = _numbers(frame[name], "target", missing="allowed")
    for bad, what, why in (
        (np.isnan(values), "missing or NaN", "drop those rows"),
        (np.isinf(values), "infinite", "drop those rows"),
        (values == 0, "zero", "a time of 0 was not measured (laptime audit says why); drop those rows"),
        (values < 0, "negative", "a time can't be; drop those rows and look for a subtraction"),
        (values < TIMES[0], f"below {TIMES[0]:g} ms", "no clock measured that; convert the column to milliseconds"),
        (values > TIMES[1], f"above {TIMES[1]:g} ms", "no clock measured that; convert the column to milliseconds"),
    ):
        if bad.any():
            count, first = int(bad.sum()), int(np.argmax(bad)) + 1
            raise LaptimeError(
                f"target {name!r}: {count} of {len(values)} values are {what} (first: row {first}); {why}"
            )
    return values


def _numbers(column: pl.Series, role: str, *, missing: str = "refused") -> Floats:
    if not _is_number(column):
        sample = next((value for value in column.to_list() if value is not None), None)
        if role == "feature":
            raise LaptimeError(
                f"feature {column.name!r} holds text ({sample!r}), but numbers in training; a number is needed"
            )
        numbers = is_number_text(column.cast(pl.String).fill_null("0")) if column.dtype == pl.String else None
        if numbers is not None and numbers.any() and not numbers.all():
            raise LaptimeError(f"target {column.name!r} holds text ({_where_text(column)}); drop those rows")
        raise LaptimeError(f"{role} {column.name!r} holds text ({sample!r}); it must hold numbers alone, in one unit")
    values: Floats = column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    if missing == "refused" and not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        raise LaptimeError(
            f"{role} {column.name!r}: {int(bad.sum())} of {len(values)} values are missing or not finite "
            f"(first: row {int(np.argmax(bad)) + 1}); fill them, drop those rows or leave the column out"
        )
    if missing == "refused" and (far := np.abs(values) > LARGEST_FEATURE).any():
        raise LaptimeError(
            f"{role} {column.name!r}: {values[far][0]:g} is too large to reckon with (first: row "
            f"{int(np.argmax(far)) + 1}); give the column in a larger unit"
        )
    return values


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


FEWEST_ROWS = 20


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
        constants=settings_that_never_varied(frame, schema)
        | {name: level_texts(frame[name].head(1))[0] for name in flat},
        work=schema.work and schema.work.without(numbers, words),
    )
    return kept, [f"feature {name!r} is constant in the training table and was left out" for name in flat]
