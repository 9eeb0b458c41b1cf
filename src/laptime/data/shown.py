"""What every result can do in a notebook: show its report as HTML, and give its rows as a data frame."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import msgspec

from laptime.errors import LaptimeError, did_you_mean

if TYPE_CHECKING:
    import pandas
    import polars


class Shown:
    """A result that shows itself in a notebook. `ROWS` names the field whose rows `frame` gives."""

    __slots__ = ()
    ROWS: ClassVar[str] = ""

    def _repr_html_(self) -> str:
        html: str = import_module("laptime.report.notebook").notebook_html(self)  # by name, as laptime's own names are
        return html

    @overload
    def frame(self, rows: str | None = None, *, kind: Literal["polars"] = "polars") -> polars.DataFrame: ...
    @overload
    def frame(self, rows: str | None = None, *, kind: Literal["pandas"]) -> pandas.DataFrame: ...
    def frame(self, rows: str | None = None, *, kind: Literal["polars", "pandas"] = "polars") -> Any:
        """The rows of this result as a data frame, a column for each field.

        rows: a field that holds a list or a mapping of rows; None for the one that the report shows. A field inside a
            field has a dot: "launched_by.launchers".
        kind: "polars" or "pandas". Fields inside fields become columns `outer.inner`.
        Raises LaptimeError for a field that holds no rows.

        Example: laptime.audit("runs/demo").frame().filter(polars.col("severity") == "severe")
        """
        table = self._table(rows or self.ROWS)
        return table if kind == "polars" else as_pandas(table)

    def _table(self, name: str) -> polars.DataFrame:
        import polars

        value: Any = self if name else None
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, dict):
            value = [{"name": key, **_fields(row)} for key, row in value.items()]
        if isinstance(value, list):
            return polars.DataFrame([flat(_fields(row)) for row in value], infer_schema_length=None, strict=False)
        public = [one for one in dir(self) if not one.startswith("_")]
        lists = [one for one in public if one != "frame" and isinstance(getattr(self, one), (list, dict))]
        near = f"{said} " if (said := did_you_mean(name, lists)) else ""
        what = f"frame({name!r})" if name else "frame()"
        known = f"name one of {', '.join(lists)}" if lists else "this result has no rows"
        raise LaptimeError(f"{what}: no rows there; {near}{known}")


def as_pandas(table: polars.DataFrame) -> pandas.DataFrame:
    """A polars frame as one of pandas, which must be installed; pyarrow isn't needed."""
    try:
        import pandas
    except ImportError as error:
        raise LaptimeError("pandas is not installed: pip install pandas, or use the polars frame") from error
    return pandas.DataFrame(table.to_dict(as_series=False))


def flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row whose mappings became columns `outer.inner`."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        columns |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return columns


def _fields(row: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(row)
    return plain if isinstance(plain, dict) else {"value": plain}
