"""Tables for the terminal: one look in every verb, figures to the right, no string that acts as markup.

    table = columns_table("stage", Column("median", numeric=True), title="Stages")
    table.add_row("Vision", text(62.1, "ms"))
    console.print(table)

On a narrow terminal the words of a column wrap or are cut; figures never are. Where not even they fit beside each
other, each row becomes a block: its first cell, then a line for each further column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    Group,
    OverflowMethod,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from laptime.data.printable import printable
from laptime.report.kit.numbers import KEEP_TOGETHER, THIN
from laptime.report.kit.text import one_line

_EIGHTHS = " ▏▎▍▌▋▊▉"
BAR_CELLS = 12


@dataclass(frozen=True)
class Column:
    """One column: its head, and how its cells stand.

    numeric: to the right, never cut.
    narrow: what happens to words that don't fit: "wrap" at spaces, "cut" with an ellipsis, "fold" anywhere, or "keep".
    min_width, max_width: in character cells.
    """

    head: str = ""
    numeric: bool = False
    narrow: Literal["wrap", "cut", "fold", "keep"] = "wrap"
    min_width: int | None = None
    max_width: int | None = None


FEWEST_CELLS = 6
"""A column of words is not made narrower than this, unless its words are."""


class FittingTable(Table):
    """A table that gives figures the room that they need, and words the rest."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as it fits into the console."""
        unbounded = options.update(max_width=10_000)
        wanted = [self._wanted(column, console, unbounded) for column in self.columns]
        around = Measurement.get(console, unbounded, self).maximum - sum(wanted)
        room = options.max_width - around
        words = [place for place, column in enumerate(self.columns) if not self._is_whole(column)]
        left = room - sum(width for place, width in enumerate(wanted) if place not in words)
        if sum(wanted) > room and left < sum(self._least(self.columns[place], wanted[place]) for place in words):
            yield from self._blocks(console)
            return
        while words and sum(wanted[place] for place in words) > left:
            widest = max(words, key=lambda place: wanted[place] - self._least(self.columns[place], wanted[place]))
            wanted[widest] -= 1
        before = [column.width for column in self.columns]
        for place in words:
            self.columns[place].width = wanted[place]
        yield from super().__rich_console__(console, options)
        for column, width in zip(self.columns, before, strict=True):
            column.width = width

    @staticmethod
    def _is_whole(column: RichColumn) -> bool:
        """Whether no cell of the column may be cut."""
        return column.justify == "right" or (column.no_wrap and column.overflow == "crop")

    @staticmethod
    def _least(column: RichColumn, wanted: int) -> int:
        return min(wanted, max(FEWEST_CELLS, column.min_width or 0))

    @staticmethod
    def _wanted(column: RichColumn, console: Console, options: ConsoleOptions) -> int:
        """The width of the column's widest cell, within the limits that it was given."""
        widths = [Measurement.get(console, options, cell).maximum for cell in (column.header, *column.cells)]
        width = max(*widths, column.min_width or 0)
        return width if column.max_width is None else min(width, column.max_width)

    def _blocks(self, console: Console) -> Iterator[RenderableType]:
        """The rows below each other."""
        if self.title:
            yield Text(str(self.title), style="bold")
        heads = [str(column.header).replace("\n", " ") for column in self.columns]
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            yield Text()
            for place, (head, cell) in enumerate(zip(heads, cells, strict=True)):
                value = console.render_str(cell) if isinstance(cell, str) else cell
                if not isinstance(value, Text) or not value.plain.strip():
                    continue
                named = place and head.strip() and self._is_whole(self.columns[place])
                indent = 1 if place else 0
                yield Padding(Text.assemble(f"{head}: ", value) if named else value.copy(), (0, 0, 0, indent + 1))


class Unescaped(RenderHook):
    """A hook of a console: whatever is printed, no text in it reaches the terminal as an instruction.

    Reports make texts printable where they lay them out (`one_line`); this holds also where one was forgotten.
    """

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What the console is about to print, each wrapped."""
        return [_Printable(renderable) for renderable in renderables]


class ReportConsole(Console):
    """rich's console, but a line breaks neither inside a number nor before its unit.

    rich takes every white space for a place to break, also those that say the opposite. So they are other signs while
    lines are broken.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.push_render_hook(Unescaped())

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable; rich calls this also for each part of one."""
        if not isinstance(renderable, Text):
            return super().render(renderable, options)
        held = renderable.copy()
        held.plain = renderable.plain.translate(_HELD)
        return (
            segment if segment.control else Segment(segment.text.translate(_RELEASED), segment.style)
            for segment in super().render(held, options)
        )


_HELD = {ord(KEEP_TOGETHER): 0xE0A0, ord(THIN): 0xE0A1}
_RELEASED = {held: space for space, held in _HELD.items()}


@dataclass(frozen=True)
class _Printable:
    content: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def columns_table(*columns: str | Column, title: str | None = None, numeric: Iterable[int] = ()) -> Table:
    """An empty table with these columns; `add_row` fills it.

    A column is a head or a `Column`. numeric: places (from 0) of heads whose column holds figures.
    Example: columns_table("policy", "right", "late", title="Policies", numeric=(1, 2))
    """
    right = frozenset(numeric)
    table = FittingTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=None if title is None else Text(one_line(title, 200)),
        title_justify="left",
        title_style="bold",
    )
    overflows: dict[str, OverflowMethod] = {"fold": "fold", "keep": "crop"}
    for place, given in enumerate(columns):
        column = Column(given, numeric=place in right) if isinstance(given, str) else given
        table.add_column(
            Text(column.head),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric or column.narrow in ("cut", "keep"),
            overflow=overflows.get(column.narrow, "ellipsis"),
            min_width=column.min_width,
            max_width=column.max_width,
        )
    return table


def facts_table(pairs: Iterable[tuple[str, str | None]]) -> Table:
    """Names and values in two columns without a head, such as an environment. A value that is None is left out.

    Example: facts_table([("device", "cuda:0"), ("gpu", None)]) has one row.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            table.add_row(Text(one_line(name, 60)), Text(one_line(value, 400)))
    return table


def with_remarks(table: RenderableType, remarks: Sequence[str | Text]) -> RenderableType:
    """A table and the lines below it, each indented by one space.

    Example: with_remarks(table, ["6 of 6 samples, none left out."])
    """
    lines = (Text(remark) if isinstance(remark, str) else remark for remark in remarks)
    return Group(table, *(Padding(line, (0, 0, 0, 1)) for line in lines))


def bar(share: float, cells: int = BAR_CELLS) -> str:
    """A bar that fills its share (0 to 1) of the cells, to an eighth of a cell: bar(0.5, 4) is "██"."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
