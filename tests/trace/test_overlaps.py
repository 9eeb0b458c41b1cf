"""Kernels of one stream that overlap: dependent launches on cards that have them, else streams under one number."""

from __future__ import annotations

import msgspec
import pytest

from laptime.data.finding import Finding
from laptime.trace.analysis import analyse
from laptime.trace.read.timeline import Card
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow

COUNT, LASTS_NS, EARLY_NS = 120, 10_000, 2_500


def early(lasts_ns: int = LASTS_NS, before_ns: int = EARLY_NS) -> list[ActivityRow]:
    """Kernels that each begin a while before the one ahead of them ends. All were launched as one graph."""
    apart = lasts_ns - before_ns
    return [ActivityRow(i * apart, i * apart + lasts_ns, "gemm", correlation=1) for i in range(COUNT)]


def found(rows: list[ActivityRow], card: Card | None) -> dict[str, Finding]:
    timeline = build(rows, [CallRow(-9_000, -2_000, "cudaGraphLaunch", 1)])
    timeline = msgspec.structs.replace(timeline, cards=() if card is None else (card,))
    findings = analyse(timeline).integrity.findings
    return {finding.code: finding for finding in findings if finding.code in ("merged-streams", "overlapping-kernels")}


def test_dependent_launches_are_no_merged_streams() -> None:
    known = found(early(), Card(0, "NVIDIA H100 80GB HBM3", None, 9))
    assert list(known) == ["overlapping-kernels"]
    assert known["overlapping-kernels"].severity == "info"
    assert "(programmatic dependent launch):" in known["overlapping-kernels"].message


@pytest.mark.parametrize(
    "card", [Card(0, "NVIDIA A100-SXM4-80GB", None, 8), Card(0, "AMD Instinct MI300X", None, 9)], ids=["A100", "MI300X"]
)
def test_other_cards_have_no_dependent_launches(card: Card) -> None:
    assert "which no stream does: several" in found(early(), card)["merged-streams"].message


def test_a_card_that_the_file_doesnt_name_may_have_them() -> None:
    message = found(early(), None)["merged-streams"].message
    assert "which one stream does by programmatic dependent launch alone: if the program has none, several" in message


def test_kernels_that_hold_others_or_run_three_at_once_are_of_several_streams() -> None:
    card = Card(0, "NVIDIA H100 80GB HBM3", None, 9)
    held = [row for i in range(COUNT) for row in (ActivityRow(i * 20_000, i * 20_000 + 9_000), inside(i))]
    three = early(before_ns=6_000)
    for rows in (held, three):
        assert "which no stream does: several" in found(rows, card)["merged-streams"].message


def inside(i: int) -> ActivityRow:
    return ActivityRow(i * 20_000 + 5_000, i * 20_000 + 8_000)
