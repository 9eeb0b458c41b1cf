"""A search for blocks or experts in a terminal: how often each way's setting is right, on questions it didn't see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.models.block_list import written_blocks
from laptime.report.kit.numbers import NOTHING, percent
from laptime.report.kit.terminal import Column, columns_table
from laptime.report.kit.text import counted, one_line

if TYPE_CHECKING:
    from laptime.control.search.result import JudgedSetting, KnobSearch

SURE = 0.05


def search_report(result: KnobSearch) -> RenderableType:
    """A row for each total, a column for each way; then what the search chose."""
    blocks = result.knob == "blocks"
    table = columns_table(
        Column("blocks" if blocks else "experts", numeric=True), *(Column(way, numeric=True) for way in result.ways)
    )
    for total in result.totals:
        cells = [result.row(way, total) for way in result.ways]
        table.add_row(str(total), *(NOTHING if row is None else _share(row) for row in cells))
    chosen = columns_table(
        Column("blocks" if blocks else "experts", numeric=True),
        Column("left out by the search" if blocks else "experts in each block, by the search", narrow="fold"),
    )
    for total in result.totals:
        row = result.row("beam", total)
        if row is not None:
            chosen.add_row(str(total), chosen_levels(row, blocks=blocks))
    unit = "how many blocks run" if blocks else "experts over all blocks"
    said = remarks(result, rows=f"Rows are {unit}. ", sure="* differs")
    return Group(Text(headline(result), "bold"), table, chosen, Text(said, style="dim"))


def remarks(result: KnobSearch, *, rows: str, sure: str) -> str:
    """What the cells are, and how they came about. rows: what the rows are. sure: how a sure difference begins."""
    return (
        f"{cells_are(result)} on {counted(result.judged, 'question')} that the search didn't see; the whole model: "
        f"{percent(result.whole.value)}. {rows}The search asked {counted(result.searched, 'other question')} under "
        f"{counted(result.settings, 'setting')} (width {result.width}, {result.tries} tries). {sure} from the search "
        "by more than chance (paired, corrected for all comparisons)."
    )


def cells_are(result: KnobSearch) -> str:
    """What the score of a cell is."""
    if result.score == "likelihood":
        return "How probable the tokens of the right answer are (geometric mean: one over their perplexity)"
    return f"Share of right answers ({result.score})"


def headline(result: KnobSearch) -> str:
    """What the table says about the search and the simplest other way."""
    name = f"{one_line(result.model, 100)}: "
    others = [row for row in result.rows if row.less is not None]
    worse = [row for row in others if sure(row) and row.less is not None and row.less.value < 0]
    better = [row for row in others if sure(row) and row.less is not None and row.less.value > 0]
    if better:
        named = ", ".join(f"{row.way} at {row.total}" for row in better[:3])
        return f"{name}the search is worse than a simpler way: {named}"
    if not worse:
        return f"{name}on {counted(result.judged, 'question')} no way is surely better or worse than the search"
    simple = [row for row in worse if row.way != "random"]
    if not simple:
        return f"{name}the search is surely better than random choices alone"
    parts = []
    for way in dict.fromkeys(row.way for row in simple):
        totals = [str(row.total) for row in simple if row.way == way]
        parts.append(f"{way} (at {', '.join(totals)})")
    return f"{name}the search is surely better than {' and '.join(parts)}"


def _share(row: JudgedSetting) -> str:
    return percent(row.right.value) + (" *" if sure(row) else "")


def sure(row: JudgedSetting) -> bool:
    """Whether a way differs from the search by more than chance."""
    return row.p is not None and row.p < SURE


def chosen_levels(row: JudgedSetting, *, blocks: bool) -> str:
    """The blocks that a setting leaves out, or the experts of each block."""
    if not blocks:
        return " ".join(map(str, row.levels))
    left_out = [index for index, level in enumerate(row.levels) if not level]
    return written_blocks(left_out) or NOTHING
