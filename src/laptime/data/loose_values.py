"""Values that another program wrote, as the numbers, texts and columns that a sample can have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from laptime.data.record import LARGEST, Scalar

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


def typed_column(name: str, values: Sequence[Any], type_: Any) -> polars.Series:
    """Values as a column of one type. Most columns hold one kind only, and then no value is looked at by itself."""
    import polars

    kinds = set(map(type, values)) - {type(None)}
    if type_ == polars.Float64 and kinds <= {float, int}:
        try:
            figures = np.array(values, dtype=np.float64)
        except OverflowError:
            figures = np.array([np.inf])
        if not (np.abs(figures) > LARGEST).any():  # NaN, as None becomes, is above nothing
            return polars.Series(name, figures).fill_nan(None)
    elif type_ == polars.Int64 and kinds <= {int}:
        if all(abs(value) < 2**63 for value in values if value is not None):
            return polars.Series(name, values, dtype=type_)
    elif type_ == polars.String and kinds <= {str} and _is_encodable(values):
        return polars.Series(name, values, dtype=type_)
    return polars.Series(name, [_fitting(value, type_) for value in values], dtype=type_)


def _is_encodable(texts: Iterable[str | None]) -> bool:
    try:
        "".join(text for text in texts if text).encode()
    except UnicodeEncodeError:
        return False
    return True


def numbers(values: Sequence[Any]) -> Sequence[Any]:
    """Each value as a number that a sample can have, else None."""
    if set(map(type, values)) <= {float, int, type(None)}:
        with suppress(OverflowError):
            figures = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
            if (np.abs(figures) <= LARGEST).all():
                return values
    return [number(value) for value in values]


def number(value: Any) -> float | int | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if _is_figure(value) else None


def _fitting(value: Any, type_: Any) -> Any:
    import polars

    if value is None or isinstance(value, bool):
        return None
    if type_ == polars.Int64:
        return int(value) if _is_figure(value) and value == int(value) else None
    if type_ == polars.Float64:
        return float(value) if _is_figure(value) else None
    if type_ == polars.String:
        return plain_text(value) if isinstance(value, str) else None
    return list(map(float, value)) if isinstance(value, list) and all(map(_is_figure, value)) else None


def plain_scalar(value: Scalar) -> Scalar:
    """A knob's value as it can be written: text without half characters, no number that is none."""
    if isinstance(value, str):
        return plain_text(value)
    return value if value is None or isinstance(value, bool) or _is_figure(value) else None


def _is_figure(value: Any) -> bool:
    """Whether a value is a number that a sample can have (laptime.data.record.LARGEST). NaN is none."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and abs(value) <= LARGEST


def plain_text(text: str) -> str:
    """The text with a mark for each half of a character (a lone surrogate), which no file of text can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
