"""Numbers as people write them: what a comma and a point mean in each column, percent signs, words for "missing".

1,234 is either a bit more than one or more than a thousand. A column tells which if all of it are numbers and one of
them can be read in one way only. Else the other columns tell. Points alone, with no comma that tells otherwise, begin
fractions, as programs write them. What stays open is refused: a guess would make values a thousand times too large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "none", "-")
"""What stands for no value in a column whose other values are numbers, in any case."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
PERCENT = r"^[+-]?(\d+\.?\d*|\.\d+) ?%$"
THOUSANDS = r"^[+-]?(\d{1,3}|[1-9]\d{0,2}(,\d{3})+)(\.\d+)?$"
COMMA = r"^[+-]?((\d+,?\d*|,\d+)([eE][+-]?\d+)?|[1-9]\d{0,2}(\.\d{3})+(,\d+)?)$"
COMMA_PERCENT = r"^[+-]?(\d+,?\d*|,\d+) ?%$"
INFINITE = r"^[+-]?(?i:inf(inity)?)$"


@dataclass(frozen=True)
class _Open:
    """A column of numbers that can be read in both ways, or in which some have a comma and others a point.

    marks: which of comma and point are in it. point: whether a point can begin the fraction in all of it.
    everywhere: whether a mark is in each of its numbers. example: one of its numbers, with a mark.
    """

    name: str
    marks: frozenset[str]
    point: bool
    everywhere: bool
    example: str


def comma_columns(columns: Iterable[polars.Series], *, comma_separates: bool, place: Path) -> tuple[set[str], bool]:
    """The columns in whose numbers a comma begins the fraction, and whether that is so in all columns that tell.

    comma_separates: whether commas separate the columns; then a point begins the fraction where nothing else is said.
    Raises LaptimeError for a column that stays open: 10,500 is read neither as 10.5 nor as 10500 by guess.
    """
    commas: set[str] = set()
    told: set[str] = set()
    still_open: list[_Open] = []
    for column in columns:
        if comma_separates and not column.str.contains(",", literal=True).any():
            continue
        mark = _mark_of(column)
        if isinstance(mark, _Open):
            still_open.append(mark)
        elif mark:
            told.add(mark)
            if mark == ",":
                commas.add(column.name)
    for column_ in still_open:
        if _decided(column_, told, comma_separates=comma_separates, place=place) == ",":
            commas.add(column_.name)
    return commas, told == {","} and not comma_separates


def _mark_of(column: polars.Series) -> str | _Open | None:
    """What begins the fraction in a column of numbers; None if it has no mark, or holds something else."""
    has_mark = column.str.contains("[.,]")
    if not has_mark.any():
        return None
    marked = column.filter(has_mark)
    bare = without_missing(column).drop_nulls()
    bare = bare.filter(~bare.str.contains(INFINITE))
    point = any(bare.str.contains(pattern).all() for pattern in (NUMBER, PERCENT, THOUSANDS))
    comma = any(bare.str.contains(pattern).all() for pattern in (COMMA, COMMA_PERCENT))
    marks = frozenset(mark for mark in ".," if marked.str.contains(mark, literal=True).any())
    mixed = len(marks) == 2 and not marked.str.contains(r",.*\.|\..*,").any()
    if not (point or comma):
        return None
    if not (point and comma) and not mixed:
        return "." if point else ","
    open_ones = marked.filter(marked.str.contains(r"[.,]\d{3}\s*$"))
    example = str((open_ones if open_ones.len() else marked)[0]).strip()
    return _Open(column.name, marks, point, marked.len() == bare.len(), example)


def _decided(column: _Open, told: set[str], *, comma_separates: bool, place: Path) -> str:
    """What begins the fraction in a column that doesn't tell by itself. Raises LaptimeError where nothing tells.

    Other columns that say "the other mark" make this one's mark that of thousands. That is believed only where some of
    its numbers have none, as those below a thousand have: fractions of three digits look like thousands otherwise.
    """
    if comma_separates and column.point and ("," not in column.marks or "," not in told):
        return "."
    if column.marks == {"."} and "," not in told:  # as programs write numbers, with three decimals: 10.500
        return "."
    if not comma_separates and len(told) == 1 and len(column.marks) == 1:
        if told == column.marks:
            return next(iter(told))
        if not column.everywhere:
            return next(iter(told))
    fraction = column.example.replace(",", ".").rstrip("0").rstrip(".")
    thousands = column.example.replace(",", "").replace(".", "")
    raise LaptimeError(
        f"{place}, column {column.name}: {column.example} may be {fraction} or {thousands}, and the table doesn't tell "
        "which; write a point before fractions, no mark of thousands, and commas between the columns"
    )


def numbers_of(texts: polars.Series, *, decimal_comma: bool = False) -> polars.Series:
    """A column of texts as numbers, where every value that isn't missing is one; else as it is.

    A percent sign is taken off and the number kept: 85 % is 85. decimal_comma: 1,234 is a bit more than one.
    """
    import polars

    bare = without_missing(texts)
    present = bare.drop_nulls()
    if not present.len():
        return texts
    kinds = [(NUMBER, ""), (PERCENT, r" ?%"), (THOUSANDS, ","), (COMMA_PERCENT, r" ?%"), (COMMA, r"\.")]
    for pattern, taken_off in reversed(kinds) if decimal_comma else kinds:
        if present.str.contains(pattern).all():
            digits = bare.str.replace_all(taken_off, "") if taken_off else bare
            if pattern in (COMMA, COMMA_PERCENT):
                digits = digits.str.replace(",", ".", literal=True)
            numbers: polars.Series = digits.cast(polars.Float64).rename(texts.name)
            return numbers
    return texts


def without_missing(texts: polars.Series) -> polars.Series:
    """The texts without blanks around them, null for what stands for no value."""
    import polars

    kept = polars.when(~polars.col("text").str.to_lowercase().is_in(MISSING)).then(polars.col("text"))
    return texts.str.strip_chars().to_frame("text").select(kept.alias(texts.name)).to_series()


def is_number_text(texts: polars.Series) -> polars.Series:
    """Which texts are numbers, (n,) true or false."""
    return texts.str.strip_chars().str.contains(NUMBER)
