"""Policies in a terminal: the value's numbers, the answer last, nothing that a terminal would obey."""

from __future__ import annotations

import io
import re

import pytest
from msgspec.structs import replace
from rich.console import Console

from laptime.control.judge.result import ControlEvaluation
from laptime.control.judge.verdict import differences_to, policy_names
from laptime.report.control.policies import title
from laptime.report.control.terminal import control_report
from laptime.report.control.words import headline
from laptime.report.kit.numbers import number
from tests.report.control.sample_controls import BUDGETS, an_evaluation, changed, hostile
from tests.report.hostile import HOSTILE


def shown(evaluation: ControlEvaluation, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(control_report(evaluation))
    return console.export_text(styles=False).replace("\xa0", " ")


def test_every_policy_stands_at_every_budget_with_the_values_numbers() -> None:
    evaluation = an_evaluation()
    rows = [line.split("  ") for line in shown(evaluation).splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    at = {(point.policy, point.budget_ms): point for point in evaluation.points}
    start = next(i for i, row in enumerate(cells) if row[:2] == ["16", "GRPO"])
    table = [row for row in cells[start:] if row][: len(BUDGETS) * 8]
    for i, budget in enumerate(BUDGETS):
        group = table[i * 8 : i * 8 + 8]
        assert group[0].pop(0) == f"{budget:g}"
        assert [row[0] for row in group] == [title(name) for name in policy_names(evaluation)]
        for row, name in zip(group, policy_names(evaluation), strict=True):
            point = at[name, budget]
            assert row[1] == f"{point.accuracy.value * 100:.1f}"
            assert row[3] == f"{point.attainment.value * 100:.1f}"
            assert row[4:6] == [number(point.total_ms.value), number(point.total_p95_ms)]


def test_the_answer_is_the_last_sentence() -> None:
    evaluation = an_evaluation()
    lines = shown(evaluation, 200).splitlines()
    assert lines[-1].strip() == headline(evaluation).replace("\xa0", " ") + "."


def test_a_missed_promise_is_marked() -> None:
    evaluation = an_evaluation()
    assert "✗" not in shown(evaluation)
    late = [
        replace(point, attainment=replace(point.attainment, value=0.9, low=0.88, high=0.92))
        if (point.policy, point.budget_ms) == ("static", BUDGETS[2])
        else point
        for point in evaluation.points
    ]
    words = shown(changed(points=late), 140)
    (line,) = [line for line in words.splitlines() if "90.0 ✗" in line]
    assert "best static" in line
    assert "missed by the best static configuration (90.0 % at 30 ms)" in " ".join(words.split())


def test_differences_stand_in_points_with_their_intervals() -> None:
    evaluation = an_evaluation()
    words = shown(evaluation)
    compared = [one for name in ("static", "lookup", "supervised") for one in differences_to(evaluation, name)]
    assert len(compared) == 14  # the lookup table misses its budget once even with a smaller one
    for one in compared:
        low, high = one.accuracy.low, one.accuracy.high
        assert low is not None
        assert high is not None
        star = "*" if one.at == "equal attainment" else " "
        written = f"{one.accuracy.value * 100:+.1f} ({low * 100:+.1f} to {high * 100:+.1f}){star}"
        assert written.replace("-", "−") in words
    assert "* at equal attainment" in words


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits(width: int) -> None:
    words = shown(an_evaluation(), width)
    assert max(map(len, words.splitlines())) <= width
    assert "…" not in words


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_no_commands(text: str) -> None:
    words = shown(hostile(f"[bold red]\x1b[31m{text}"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", words)
    assert "[bold red]" in words
    assert max(map(len, words.splitlines())) <= 100


def test_little_is_said_of_little() -> None:
    empty = changed(points=[], differences=[], slow_downs=[], training=[], findings=[], environment=None)
    assert shown(empty).splitlines()[-1] == "No policy was judged."
    one = changed(points=an_evaluation().points[:1], differences=[], slow_downs=[], findings=[], way="replayed")
    assert "Replayed" in shown(one)
