"""A sweep in a terminal: its figures are the summary's, it fits a narrow window, and no string of a run acts."""

from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.console import Console

from laptime.report.kit.numbers import ratio, text
from laptime.report.sweep.terminal import sweep_report
from laptime.report.sweep.view import SweepView
from laptime.report.sweep.words import by_strength, headline
from tests.report.hostile import HOSTILE
from tests.report.sweep.sample_sweeps import GRID, sweep_run, sweep_samples
from tests.report.sweep.sweep_views import SMALL, all_failed, hostile_view, report_of, view, view_of


def printed(shown: SweepView, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=False)
    console.print(sweep_report(shown))
    return console.export_text()


def test_it_says_what_each_knob_buys_and_which_configurations_there_are() -> None:
    sweep = msgspec.structs.replace(view(), audit=report_of("severe", "warning", text="zero-decode"))
    shown = printed(sweep, 160)
    summary = sweep.summary
    assert headline(summary) in shown
    for effect in by_strength(summary):
        for level in effect.levels:
            assert ratio(level.ratio.value) in shown
    for row in summary.rows:
        if row.config_id in summary.pareto:
            assert text(row.stages["total"].value, "ms") in shown
    assert shown.count("●") == len(summary.pareto) + 1  # and what it means
    assert "24 × OutOfMemoryError: CUDA out of memory" in shown
    assert "image tier high · top-k 8 · blocks 8 · prompt tokens 1024 and 2 more" in shown
    assert "Audit: 1 severe, 1 warning. zero-decode 0: 3 of 12 samples" in shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(width: int) -> None:
    lines = printed(view(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert "accuracy" in "\n".join(lines)


def test_a_small_sweep_is_shown_whole() -> None:
    sweep = view(SMALL, scored=False)
    shown = printed(sweep)
    assert "more configuration" not in shown
    assert "accuracy" not in shown
    assert all(text(row.stages["total"].value, "ms") in shown for row in sweep.summary.rows)


def test_many_configurations_are_cut_to_the_front_the_fastest_and_the_slowest() -> None:
    sweep = view(GRID, scored=False)
    shown = printed(sweep)
    totals = sorted(row.stages["total"].value for row in sweep.summary.rows if row.samples)
    assert f"{len(totals) - 12} more configurations" in shown
    for total in (*totals[:11], totals[-1]):
        assert text(total, "ms") in shown


def test_nothing_measured_is_said() -> None:
    shown = printed(view_of(sweep_run(*all_failed())))
    assert "No configuration was measured" in shown
    assert "8 samples failed, in 4 configurations" in shown


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_no_control_character_reaches_the_terminal(words: str) -> None:
    shown = printed(hostile_view(words), 80)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert max(map(len, shown.splitlines())) <= 80


def test_markup_in_a_name_stays_text() -> None:
    samples, failures = sweep_samples({"[bold]knob[/]": ["[red]a", "[/]b"]})
    assert "[red]a" in printed(view_of(sweep_run(samples, failures)))
