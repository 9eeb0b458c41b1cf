"""Halves of a file in two processes: the same answer as in one go, whatever is in the file, or one go after all."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.trace.read import kineto_bytes, kineto_stream, nsight_tables, second_process
from laptime.trace.read.nsight_tables import Rows
from laptime.trace.read.reading import read_timeline
from laptime.trace.read.second_process import elsewhere
from tests.trace.read.rows_back import activity_rows, call_rows, range_rows
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

T = 1_712_195_495_519_689_034
ROWS = [ActivityRow(T + 900 * i, T + 900 * i + 401, f"k{i % 7}", correlation=i + 1) for i in range(60)]
CALLS = [CallRow(T + 900 * i - 300, T + 900 * i - 100, correlation=i + 1) for i in range(60)]
RANGES = [RangeRow(T + 900 * i - 400, T + 900 * i - 50, f"aten::op{i % 5}", "cpu_op") for i in range(60)]
TRICK = '"}, {"ph": "X", "cat": "kernel", "name": "not one", "ts": 1, "dur": 1}, {'


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes for files of any size."""
    monkeypatch.setattr(kineto_stream, "LEAST_BYTES", 0)
    monkeypatch.setattr(kineto_stream, "available", lambda: True)
    monkeypatch.setattr(nsight_tables, "LARGE_BYTES", 0)
    monkeypatch.setattr(nsight_tables, "available", lambda: True)


def everything(path: Path) -> tuple:
    """All that a reader says of a file, or how it refuses."""
    try:
        timeline = read_timeline(path)
    except LaptimeError as error:
        return ("refused", str(error))
    rows = activity_rows(timeline), call_rows(timeline), range_rows(timeline)
    # Whether the comma behind the last event counts as read depends on where a block of the file ends.
    findings = [
        (finding.code, finding.count, re.sub(r"byte \d+", "", finding.message)) for finding in timeline.findings
    ]
    return (*rows, timeline.source, findings, timeline.strings)


def both_ways(path: Path, block: int = kineto_bytes.BLOCK_BYTES) -> tuple[tuple, tuple, bool]:
    """(read in one go, read in halves, whether the halves were really used)."""
    alone = everything(path)
    used: list[bool] = []
    original = kineto_stream._in_halves

    def watched(*args):
        result = original(*args)
        used.append(result is not None)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kineto_stream, "LEAST_BYTES", 0)
        patch.setattr(kineto_stream, "available", lambda: True)
        patch.setattr(kineto_stream, "_in_halves", watched)
        patch.setattr(kineto_bytes, "BLOCK_BYTES", block)
        return alone, everything(path), used == [True]


def test_halves_make_the_same_timeline(tmp_path: Path) -> None:
    alone, halves, used = both_ways(write_kineto(tmp_path / "t.json", ROWS, CALLS, RANGES))
    assert used
    assert halves == alone
    assert halves[0] == ROWS


@pytest.mark.parametrize("block", [200, 1 << 20])
def test_a_name_that_looks_like_the_end_of_an_event_does_not_split_the_file(tmp_path: Path, block: int) -> None:
    rows = [ActivityRow(T + 900 * i, T + 900 * i + 1, TRICK * 20) for i in range(40)]
    alone, halves, _ = both_ways(write_kineto(tmp_path / "t.json", rows, CALLS[:2]), block)
    assert halves == alone
    assert halves[0] == rows


@settings(max_examples=40, deadline=None)
@given(
    cut=st.integers(0, 30_000),
    flip=st.one_of(st.none(), st.tuples(st.integers(0, 29_000), st.integers(1, 255))),
    block=st.sampled_from([300, 5_000, 1 << 20]),
)
def test_damaged_files_read_the_same_in_halves(tmp_path_factory, cut: int, flip, block: int) -> None:
    path = write_kineto(tmp_path_factory.mktemp("halves") / "t.json", ROWS, CALLS, RANGES)
    data = bytearray(path.read_bytes())
    if flip is not None and flip[0] < len(data):
        data[flip[0]] ^= flip[1]
    path.write_bytes(data[: max(len(data) - cut, 10)])
    alone, halves, _ = both_ways(path, block)
    assert halves == alone


def test_a_list_that_ends_in_the_first_half(tmp_path: Path) -> None:
    path = write_kineto(tmp_path / "t.json", ROWS[:5], CALLS[:5])
    text = path.read_text().rstrip()
    events = ",".join(['{"ph": "X", "cat": "kernel", "name": "x", "ts": 1, "dur": 1}'] * 400)
    path.write_text(text[:-1] + f', "other": [{events}]}}')
    alone, halves, used = both_ways(path)
    assert not used
    assert halves == alone
    assert halves[0] == ROWS[:5]


def test_an_export_reads_the_same_with_its_calls_read_elsewhere(tmp_path: Path, request) -> None:
    path = write_nsys(tmp_path / "t.sqlite", ROWS, CALLS)
    alone = everything(path)
    request.getfixturevalue("always")
    assert everything(path) == alone
    assert len(alone[1]) == len(CALLS)


@pytest.mark.usefixtures("always")
def test_a_second_process_that_dies_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_kineto(tmp_path / "t.json", ROWS, CALLS, RANGES)
    this = os.getpid()
    original = kineto_stream._rest

    def dying(*args):
        if os.getpid() != this:
            raise MemoryError
        return original(*args)

    monkeypatch.setattr(kineto_stream, "_rest", dying)
    assert activity_rows(read_timeline(path)) == ROWS


def test_work_elsewhere_comes_back_or_does_not() -> None:
    sent = [Rows({"start_ns": np.arange(3)}, damage="none"), Rows({}, unreadable=2)]
    with elsewhere(lambda: sent, Rows) as fetch:
        first, second = fetch() or ()
    assert first.columns["start_ns"].tolist() == [0, 1, 2]
    assert (first.damage, second) == ("none", sent[1])
    with elsewhere(lambda: [1 / 0], Rows) as fetch:
        assert fetch() is None
    with elsewhere(lambda: [os.kill(os.getpid(), 9)], Rows) as fetch:
        assert fetch() is None


def test_nobody_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[int] = []
    fork = os.fork

    def watched() -> int:
        born.append(fork())
        return born[-1]

    monkeypatch.setattr(os, "fork", watched)
    with pytest.raises(KeyError), elsewhere(lambda: [time.sleep(60)]):
        raise KeyError
    with pytest.raises(ChildProcessError):
        os.waitpid(born[0], os.WNOHANG)


def test_a_copy_that_answered_is_not_waited_for_and_leaves_nothing_behind() -> None:
    second_process._see_off(wait=True)
    with elsewhere(list) as fetch:
        assert fetch() == []
    (child,) = second_process._ENDING
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # until it has ended; it stays to be asked
    with elsewhere(list) as fetch:
        assert fetch() == []
    assert child not in second_process._ENDING
    second_process._see_off(wait=True)
    assert not second_process._ENDING
    with pytest.raises(ChildProcessError):
        os.waitpid(child, 0)
