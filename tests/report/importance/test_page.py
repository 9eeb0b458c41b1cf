"""The pages of importance and of a search: a square for each block, and the terminal's words."""

from __future__ import annotations

import msgspec

from laptime.report.importance.search import headline
from laptime.report.kit.numbers import KEEP_TOGETHER
from laptime.report.results import page
from tests.report.importance.sample_searches import COUNT, a_block_search, an_importance


def test_a_block_search_shows_each_block_at_each_total_and_says_what_the_terminal_says() -> None:
    result = a_block_search()
    html = page(result)
    assert html.count('class="runs"') == sum(sum(row.levels) for row in result.rows if row.way == "beam")
    assert html.count('class="out"') == 3 * COUNT - html.count('class="runs"')
    assert "surely better than importance (at 24) and prefix (at 24)" in headline(result)
    assert f"40.0{KEEP_TOGETHER}% * (29.0–52.0{KEEP_TOGETHER}%)" in html
    assert "How probable the tokens of the right answer are" in html
    assert "</script>SmolLM2" not in html


def test_experts_show_who_has_fewer() -> None:
    rows = [msgspec.structs.replace(row, levels=[2, 1, 0]) for row in a_block_search().rows if row.way == "beam"]
    html = page(msgspec.structs.replace(a_block_search(), knob="experts", rows=rows, importance=[1.0, 2.0, 3.0]))
    assert html.count('class="fewer"') == html.count('class="runs"') == html.count('class="out"') == 3
    assert "2 1 0" in html


def test_importance_shows_what_runs_and_a_model_that_keeps_its_blocks_is_said_to() -> None:
    html = page(an_importance())
    assert html.count('class="out"') == 1 + 2 + 3 + 4
    assert "Same next token" in html
    assert "not proved right for this model" in page(msgspec.structs.replace(an_importance(), active={}, agreement={}))
