"""Block importance in a terminal: the blocks from the least important on, and what is left without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.models.block_list import written_blocks
from laptime.report.kit.numbers import NOTHING, percent
from laptime.report.kit.terminal import Column, columns_table
from laptime.report.kit.text import counted, one_line

if TYPE_CHECKING:
    from laptime.models.block_importance import BlockImportance

ROWS = 12


def importance_report(result: BlockImportance) -> RenderableType:
    """The numbers of blocks that can run, the largest first: what is left out, and how often the next token stays."""
    table = columns_table(
        Column("blocks", numeric=True), Column("left out", narrow="fold"), Column("same next token", numeric=True)
    )
    count = len(result.importance)
    numbers = sorted(result.active, reverse=True)
    for number in numbers[:ROWS]:
        left_out = [index for index in range(count) if index not in result.active[number]]
        share = result.agreement.get(number)
        table.add_row(str(number), written_blocks(left_out), NOTHING if share is None else percent(share))
    lines: list[RenderableType] = [Text(importance_headline(result), "bold"), table]
    if len(numbers) > ROWS:
        lines.append(Text(f"{len(numbers) - ROWS} smaller numbers: --json shows them all", style="dim"))
    if not numbers:
        lines[1] = Text("Leaving blocks out is not proved right for this model: no number of them is shown.")
    lines.append(Text(agreement_note(result), style="dim"))
    return Group(*lines)


def importance_headline(result: BlockImportance) -> str:
    """Which blocks are left out first."""
    named, count = f"{one_line(result.model, 100)}: ", len(result.importance)
    if not result.active:
        return f"{named}the importance of its {counted(count, 'block')} is in --json"
    first = ", ".join(map(str, _leaving_order(result)[:5]))
    return f"{named}of {counted(count, 'block')} the first ones to leave out are {first}"


def agreement_note(result: BlockImportance) -> str:
    """What the share of each row is."""
    return (
        f"Measured on {counted(result.inputs, 'input')}. “Same next token”: how often the most probable next token "
        "is still the whole model's. It is no score of answers: sweep `blocks` with a score for that."
    )


def _leaving_order(result: BlockImportance) -> list[int]:
    """The blocks in the order in which they are left out, as ever fewer run."""
    order: list[int] = []
    for number in sorted(result.active, reverse=True):
        left = set(range(len(result.importance))) - set(result.active[number]) - set(order)
        order += sorted(left, key=lambda index: (result.importance[index], -index))
    return order
