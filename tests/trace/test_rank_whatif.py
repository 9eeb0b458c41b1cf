"""What remedies on every rank would leave, from the traces of all of them: against ranks that are simulated."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import laptime
from laptime.cli.main import run as command
from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse
from laptime.trace.ranks_result import RankAnalysis
from laptime.trace.result import WhatIf
from tests.trace.build_timeline import build
from tests.trace.rank_programs import KERNELS, LAYERS, TRANSFER_NS, Rank, as_graphs, launched, simulated
from tests.trace.write_traces import write_kineto


def written(folder: Path, ranks: Sequence[Rank]) -> Path:
    """A folder with a trace of each rank."""
    folder.mkdir(exist_ok=True)
    for number, (rank, rows) in enumerate(zip(ranks, simulated(ranks), strict=True)):
        path = write_kineto(folder / f"rank{number}.json", rows, *launched(rows, rank))
        path.write_text(path.read_text().replace("{", f'{{"distributedInfo": {{"rank": {number}}},', 1))
    return folder


def asked(folder: Path, ranks: Sequence[Rank], tpot_ms: float | None = None) -> RankAnalysis:
    return laptime.read_ranks(written(folder, ranks), whatif=True, tpot_ms=tpot_ms)


def graph(analysis: RankAnalysis) -> WhatIf:
    assert analysis.step is not None
    assert analysis.step.refused == ""
    return next(row for row in analysis.whatif if row.remedy == "graph")


WAITING = {
    "equal": (Rank(), Rank()),
    "a slower host": (Rank(), Rank(slower=(20_000,))),
    "hosts slower in turns": (Rank(slower=(6_000, 0)), Rank(slower=(0, 6_000))),
    "longer kernels": (Rank(1_000, 20_000), Rank(1_000, 26_000)),
    "a host that does other work": (Rank(), Rank(away_ns=(6_000_000,))),
    "three ranks": (Rank(), Rank(slower=(9_000,)), Rank(kernel_ns=8_000)),
}


@pytest.mark.parametrize("ranks", WAITING.values(), ids=WAITING)
def test_the_replay_of_all_ranks_is_the_step_and_its_graph_is_promised(ranks: tuple[Rank, ...], tmp_path: Path) -> None:
    analysis = asked(tmp_path / "ranks", ranks)
    row = graph(analysis)
    assert analysis.step is not None
    assert analysis.step.replay_ns == pytest.approx(analysis.step.wall_ns, rel=0.05)
    assert row.step_ns_low <= as_graphs(ranks) <= row.step_ns_high < 1.4 * row.step_ns_low
    assert f"A CUDA graph on every rank could leave {row.step_ns_low / 1e6:.2f} to" in analysis.headline or (
        "No remedy that laptime knows is sure to win" in analysis.headline
    )


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.builds(
            Rank,
            host_ns=st.integers(500, 20_000),
            kernel_ns=st.integers(2_000, 30_000),
            slower=st.lists(st.integers(0, 3_000), min_size=1, max_size=1).map(tuple),
        ),
        min_size=2,
        max_size=3,
    )
)
def test_no_range_goes_below_the_work_of_the_slowest_rank_nor_above_the_step(ranks: list[Rank]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        analysis = asked(Path(folder) / "ranks", ranks)
    assert analysis.step is not None
    assert analysis.step.refused == ""
    work = LAYERS * (KERNELS * max(rank.kernel_ns for rank in ranks) + TRANSFER_NS)
    for row in analysis.whatif:
        assert row.floor_ns is not None
        assert work <= row.floor_ns <= row.step_ns_low <= row.step_ns_high <= (analysis.step.wall_ns or 0)
    assert graph(analysis).step_ns_low <= as_graphs(ranks)


def test_equal_ranks_are_promised_what_one_of_them_is_by_its_own_trace(tmp_path: Path) -> None:
    ranks = (Rank(), Rank(), Rank())
    row = graph(asked(tmp_path / "ranks", ranks))
    rows = simulated(ranks)[0]
    alone = next(one for one in analyse(build(rows, *launched(rows, ranks[0]))).whatif if one.remedy == "graph")
    assert row.step_ns_low == pytest.approx(alone.step_ns_low, rel=0.02)
    assert row.step_ns_high == pytest.approx(alone.step_ns_high, rel=0.02)
    assert row.floor_ns == pytest.approx(alone.floor_ns, rel=0.02)


def test_an_untraced_time_makes_all_hosts_faster(tmp_path: Path) -> None:
    ranks = (Rank(), Rank(slower=(20_000,)))
    analysis = asked(tmp_path / "ranks", ranks)
    assert analysis.step is not None
    assert analysis.step.wall_ns is not None
    given_ms = 0.7 * analysis.step.wall_ns / 1e6
    quick = asked(tmp_path / "ranks", ranks, tpot_ms=given_ms)
    assert quick.step is not None
    assert quick.step.replay_ns == pytest.approx(given_ms * 1e6, rel=0.05)
    row = graph(quick)
    assert row.step_ns_low <= as_graphs(ranks) <= row.step_ns_high <= given_ms * 1e6
    with pytest.raises(LaptimeError, match="the given time of a step, 500 ms"):
        asked(tmp_path / "ranks", ranks, tpot_ms=500.0)


def test_ranks_whose_steps_hold_other_collectives_are_promised_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path / "ranks", (Rank(), Rank()))
    one = folder / "rank1.json"
    value = json.loads(one.read_text())
    for event in value["traceEvents"]:
        event["name"] = event["name"].replace("ProfilerStep", "unnamed")
    one.write_text(json.dumps(value))
    value["traceEvents"] = [event for event in value["traceEvents"] if event["cat"] != "cuda_runtime"]
    one.write_text(json.dumps(value))
    analysis = laptime.read_ranks(folder, whatif=True)
    assert analysis.whatif == []
    assert analysis.step is not None
    assert "rank 1's trace holds no steady step, or not the launches of one" in analysis.step.refused
    assert "ranks-not-replayed" in {finding.code for finding in analysis.findings}
    assert "leave" not in analysis.headline


def test_without_asking_nothing_is_replayed(tmp_path: Path) -> None:
    analysis = laptime.read_ranks(written(tmp_path / "ranks", (Rank(), Rank())))
    assert (analysis.step, analysis.whatif) == (None, [])


def test_the_faces_show_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = written(tmp_path / "ranks", (Rank(), Rank(slower=(20_000,)))), tmp_path / "ranks.html"
    assert command(["trace", str(folder), "--whatif", "--html", str(page)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "A CUDA graph on every rank could leave" in said
    assert "What if" in said
    assert "these were known while the replay of several ranks was made" in said
    text = page.read_text()
    assert 'id="whatif-section"' in text
    assert "A CUDA graph on every rank could leave" in text
    assert command(["trace", str(folder), "--whatif", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["whatif"][0]["remedy"] == "graph"
    assert value["step"]["refused"] == ""


def test_what_if_is_asked_of_several_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "ranks", (Rank(), Rank()))
    assert command(["trace", str(folder / "rank0.json"), "--whatif"]) == 2
    assert "--whatif is for several ranks" in capsys.readouterr().err
    assert command(["trace", str(folder), "--tpot", "3"]) == 2
    assert "--tpot is for one trace" in capsys.readouterr().err
