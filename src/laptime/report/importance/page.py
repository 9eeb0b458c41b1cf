"""The pages of block importance and of a search for blocks or experts: which blocks run, and what is then right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from laptime import __version__
from laptime.models.block_list import written_blocks
from laptime.report.importance.search import cells_are, chosen_levels, headline, remarks, sure
from laptime.report.importance.terminal import agreement_note, importance_headline
from laptime.report.kit.html import Html, card, cards, details, note, section, table, tag, wide
from laptime.report.kit.numbers import NOTHING, percent, percent_ends
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line

if TYPE_CHECKING:
    from laptime.control.search.result import JudgedSetting, KnobSearch
    from laptime.models.block_importance import BlockImportance

WIDTH, LEFT, ROW, TOP = 1080, 110, 34, 26
"""The picture's sizes in its own units."""


def search_page(result: KnobSearch) -> str:
    """The page of a search as one HTML document."""
    found = {row.total: row.levels for row in result.rows if row.way == "beam"}
    most = max((max(levels) for levels in found.values()), default=1)
    return document(
        title=one_line(result.model, 200),
        headline=headline(result),
        meta=[
            f"{counted(result.judged, 'question')} judge",
            f"{result.searched} others were searched on",
            f"score {result.score}",
        ],
        lead=_lead(result),
        sections=[
            _ways_section(result),
            section(
                "What the search chose",
                _map(found, most=most),
                _legend(experts=result.knob == "experts"),
                _chosen_table(result),
                id="chosen",
                lead="A column for each block, the first one on the left; a row for each total.",
            ),
            _importance_section(result.importance, "on the questions of the search"),
        ],
        data=result,
        styles=[asset("importance/page.css")],
        footer=[f"laptime {__version__}", result.schema],
    )


def importance_page(result: BlockImportance) -> str:
    """The page of block importance as one HTML document."""
    count = len(result.importance)
    numbers = sorted(result.active, reverse=True)
    running = {number: [int(index in result.active[number]) for index in range(count)] for number in numbers}
    rows = [
        [
            str(number),
            written_blocks([index for index in range(count) if index not in result.active[number]]),
            _share(result.agreement.get(number)),
        ]
        for number in numbers
    ]
    which = (
        section(
            "Which blocks run",
            _map(running, most=1),
            _legend(experts=False),
            table(["blocks", "left out", "same next token"], rows, numeric=[0, 2]),
            note(agreement_note(result)),
            id="running",
            lead="A column for each block, the first one on the left; a row for each number of blocks.",
        )
        if numbers
        else section(
            "Which blocks run",
            note("Leaving blocks out is not proved right for this model: no number of them is shown."),
            id="running",
        )
    )
    return document(
        title=one_line(result.model, 200),
        headline=importance_headline(result),
        meta=[counted(count, "block"), f"measured on {counted(result.inputs, 'input')}"],
        sections=[which, _importance_section(result.importance, f"on {counted(result.inputs, 'input')}")],
        data=result,
        styles=[asset("importance/page.css")],
        footer=[f"laptime {__version__}", result.schema],
    )


def _lead(result: KnobSearch) -> Html:
    """The tiles: the whole model, and what the search keeps at its smallest total."""
    fewest = result.row("beam", result.totals[-1])
    unit = "blocks" if result.knob == "blocks" else "experts over all blocks"
    return cards(
        card("Whole model", percent(result.whole.value), "", percent_ends(result.whole)),
        card(
            f"The search, at {result.totals[-1]}",
            percent(fewest.right.value) if fewest else "",
            "",
            unit,
            hint=cells_are(result),
        ),
        card("Settings asked", str(result.settings), "", f"width {result.width}, {result.tries} tries"),
    )


def _ways_section(result: KnobSearch) -> Html:
    ways = result.ways
    rows = [[str(total), *(_cell(result.row(way, total)) for way in ways)] for total in result.totals]
    return section(
        "Every way at every total",
        table(["blocks" if result.knob == "blocks" else "experts", *ways], rows, numeric=range(len(ways) + 1)),
        note(remarks(result, rows="", sure="A star: the way differs")),
        id="ways",
    )


def _cell(row: JudgedSetting | None) -> str:
    if row is None:
        return NOTHING
    return f"{percent(row.right.value)}{' *' if sure(row) else ''} ({percent_ends(row.right)})"


def _chosen_table(result: KnobSearch) -> Html:
    blocks = result.knob == "blocks"
    rows = [
        [str(row.total), chosen_levels(row, blocks=blocks), _share(row.found)]
        for row in result.rows
        if row.way == "beam"
    ]
    named = "left out by the search" if blocks else "experts in each block, by the search"
    return table(["blocks" if blocks else "experts", named, "on its own questions"], rows, numeric=[0, 2])


def _importance_section(importance: Sequence[float], where: str) -> Html:
    order = sorted(range(len(importance)), key=lambda index: (importance[index], -index))
    rows = [[str(index), f"{importance[index]:.4f}"] for index in order]
    return section(
        "Importance of each block",
        details("Every block", table(["block", "importance"], rows, numeric=[0, 1])),
        id="importance",
        lead=f"One minus the mean cosine similarity of what enters and leaves a block, {where}; the least first.",
    )


def _share(value: float | None) -> str:
    return NOTHING if value is None else percent(value)


def _map(rows: Mapping[int, Sequence[int]], *, most: int) -> Html:
    """A square for each block and total: whether it runs, or whether it has fewer experts than another."""
    count = max(map(len, rows.values()), default=1)
    side = min(ROW, (WIDTH - LEFT) // count)
    marks: list[Html] = [
        tag("text", str(index), x=LEFT + side * index + side / 2, y=12, class_="number")
        for index in range(0, count, 1 if side >= 20 else 5)
    ]
    for place, (total, levels) in enumerate(rows.items()):
        y = TOP + ROW * place
        marks.append(tag("text", str(total), x=0, y=y + (ROW - 6) / 2, class_="name"))
        for index, level in enumerate(levels):
            kind = "out" if not level else "runs" if level == most else "fewer"
            marks.append(tag("rect", x=LEFT + side * index + 1, y=y, width=side - 2, height=ROW - 6, rx=3, class_=kind))
    height = TOP + ROW * max(1, len(rows))
    label = "Which blocks run at each total"
    return wide(tag("svg", *marks, viewBox=f"0 0 {WIDTH} {height}", class_="map", role="img", aria_label=label))


def _legend(*, experts: bool) -> Html:
    runs = "the most experts" if experts else "runs"
    return tag(
        "ul",
        tag("li", tag("span", class_="swatch runs-swatch"), runs),
        tag("li", tag("span", class_="swatch fewer-swatch"), "fewer experts") if experts else None,
        tag("li", tag("span", class_="swatch out-swatch"), "has no experts" if experts else "left out"),
        class_="legend small",
    )
