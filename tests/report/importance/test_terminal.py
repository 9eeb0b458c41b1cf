"""Block importance in a terminal: the headline is what the table leaves out."""

from __future__ import annotations

import io

from rich.console import Console

from laptime.models.block_importance import BlockImportance
from laptime.report.importance.terminal import importance_report


def shown(result: BlockImportance) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(importance_report(result))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_headline_names_the_blocks_in_the_order_in_which_the_table_leaves_them_out() -> None:
    """Block 4 matters least, and always runs: it is not among them."""
    result = BlockImportance(
        model="tiny", inputs=3, importance=[9.0, 2.0, 1.0, 3.0, 0.5],
        active={4: [0, 1, 3, 4], 3: [0, 3, 4], 2: [0, 4]}, agreement={4: 0.9, 3: 0.5, 2: 0.1},
    )  # fmt: skip
    text = shown(result)
    assert "tiny: of 5 blocks the first ones to leave out are 2, 1, 3" in text
    rows = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows] == [["4", "2"], ["3", "1-2"], ["2", "1-3"]]
    assert max(map(len, text.splitlines())) <= 80


def test_a_model_that_must_keep_its_blocks_is_said_to() -> None:
    text = shown(BlockImportance(model="tiny", inputs=1, importance=[1.0, 2.0], active={}, agreement={}))
    assert "not proved right for this model" in text
    assert "--json" in text
