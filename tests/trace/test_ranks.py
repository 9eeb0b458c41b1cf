"""Several ranks as one analysis: exact times, who waits for whom, and nothing claimed where clocks don't align."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from laptime.errors import LaptimeError
from laptime.report.results import report
from laptime.report.trace.ranks import ranks_page
from laptime.trace.analysis import read_trace
from laptime.trace.ranks import read_ranks
from laptime.trace.ranks_result import RankAnalysis
from tests.cli.test_trace import app
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

GEMM, NCCL = "ampere_sgemm_128x64_tn", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
US = 1_000
T = 40_000_000_000


def a_rank(compute_us: int, *, steps: int = 6, clock_ns: int = 0, slowest_us: int = 300) -> tuple[list, list]:
    """Each step: compute, then an all-reduce that ends for all ranks 20 µs after the slowest rank's compute."""
    activities, calls = [], []
    for step in range(steps):
        at = T + clock_ns + step * 1_000 * US
        end = at + (slowest_us + 20) * US
        rows = [
            ActivityRow(at, at + compute_us * US, GEMM, correlation=2 * step + 1),
            ActivityRow(at + compute_us * US, end, NCCL, stream=20, correlation=2 * step + 2),
        ]
        activities += rows
        calls += [CallRow(row.start_ns - 9_001, row.start_ns - 4_001, correlation=row.correlation) for row in rows]
    return activities, calls


COMPUTE_US = (100, 120, 300, 80)


def write_ranks(folder: Path, clocks_ns: tuple[int, ...] = (0, 5_000_000_000, -77, 123_456)) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for rank, (compute, clock) in enumerate(zip(COMPUTE_US, clocks_ns, strict=True)):
        path = write_kineto(folder / f"host_{9 - rank}.json", *a_rank(compute, clock_ns=clock))
        path.write_text(
            path.read_text().replace("{", f'{{"distributedInfo": {{"backend": "nccl", "rank": {rank}}},', 1)
        )
        paths.append(path)
    return paths


def test_who_waits_for_whom_whatever_the_clocks_say(tmp_path: Path) -> None:
    write_ranks(tmp_path / "ranks")
    analysis = read_ranks(tmp_path / "ranks")
    assert [rank.rank for rank in analysis.ranks] == [0, 1, 2, 3]
    assert [rank.compute_ns for rank in analysis.ranks] == [6 * us * US for us in COMPUTE_US]
    assert [rank.exposed_communication_ns for rank in analysis.ranks] == [6 * (320 - us) * US for us in COMPUTE_US]
    assert [rank.waited_ns for rank in analysis.ranks] == [6 * (300 - us) * US for us in COMPUTE_US]
    assert [rank.last_in for rank in analysis.ranks] == [0, 0, 6, 0]
    assert analysis.straggler == 2
    assert {row.rank for rank in analysis.ranks for row in rank.waited_for or []} == {2}
    assert "Most waiting is for rank 2, which comes last to 6 of 6 collectives" in analysis.headline
    assert analysis.clocks.offsets_ns == [0, 5_000_000_000, -77, 123_456]
    for rank in analysis.ranks:
        assert rank.span_ns == rank.busy_ns + rank.idle_ns


def test_a_ranks_times_sum_to_its_span_and_partial_files_are_counted(tmp_path: Path) -> None:
    for rank in range(3):
        activities, calls = a_rank(100 + 50 * rank)
        end = activities[-1].end_ns
        activities.append(ActivityRow(end + 5, end + 905, "Memcpy DtoH (Device -> Pinned)", "memcpy", correlation=900))
        activities.append(ActivityRow(end + 906, end + 956, "Memset (Device)", "memset", correlation=901))
        calls += [CallRow(end - 10, end - 5, correlation=number) for number in (900, 901)]
        write_kineto(tmp_path / f"rank{rank}.json", activities, calls[:3] + calls[6:] if rank == 1 else calls)
    analysis = read_ranks(tmp_path)
    for rank in analysis.ranks:
        parts = (rank.compute_ns, rank.exposed_communication_ns, rank.copy_ns, rank.memset_ns, rank.idle_ns)
        assert sum(parts) == rank.span_ns
        assert (rank.copy_ns, rank.memset_ns) == (900, 50)
    assert [rank.verdict for rank in analysis.ranks] == ["ok", "partial", "ok"]
    assert analysis.headline.startswith("3 ranks, 1 of them from partial files (1): they compute")
    assert "the file of rank 1 doesn't" in analysis.findings[0].message


def test_ranks_that_do_not_fit_together_are_not_aligned(tmp_path: Path) -> None:
    write_kineto(tmp_path / "rank0.json", *a_rank(100))
    write_kineto(tmp_path / "rank1.json", *a_rank(100, steps=5))
    analysis = read_ranks(tmp_path)
    assert analysis.ranks[0].waited_ns is None
    assert analysis.straggler is None
    assert "not known" in analysis.headline
    # The same collectives, which end together in no way: the pairs are not pairs.
    activities, calls = a_rank(100)
    moved = [
        ActivityRow(a.start_ns, a.end_ns + i * 90_000, a.name, correlation=a.correlation)
        for i, a in enumerate(activities)
    ]
    write_kineto(tmp_path / "rank1.json", moved, calls)
    assert not read_ranks(tmp_path).clocks.aligned


def test_collectives_that_last_no_time_blame_nobody(tmp_path: Path) -> None:
    write_kineto(tmp_path / "rank1.json", *a_rank(100))
    activities, calls = a_rank(300)
    write_kineto(tmp_path / "rank0.json", activities, calls)
    assert read_ranks(tmp_path).straggler == 0
    write_kineto(tmp_path / "rank0.json", [replace(row, end_ns=row.start_ns) for row in activities], calls)
    analysis = read_ranks(tmp_path)
    assert (analysis.straggler, analysis.clocks.aligned, analysis.ranks[0].verdict) == (None, False, "partial")
    assert "recorded to last no time" in analysis.headline


def test_traces_of_separate_runs_are_not_called_ranks_of_one(tmp_path: Path) -> None:
    for i, name in enumerate(("attention", "norm", "mlp")):
        activities, calls = a_rank(100 + i)
        write_kineto(tmp_path / f"{name}.json", activities[::2], calls[::2])
    analysis = read_ranks(tmp_path)
    assert [finding.code for finding in analysis.findings] == ["ranks-apart"]
    assert analysis.headline.startswith("3 files, which may be of separate runs: they compute 0.6 to 0.612 ms each")


def test_what_is_no_trace_is_left_out_of_a_folder_and_said(tmp_path: Path) -> None:
    paths = write_ranks(tmp_path / "ranks")
    (tmp_path / "ranks" / "config.json").write_text('{"layers": 12}')
    (tmp_path / "ranks" / "host.json").write_text('{"schema": "1.0.2", "nodes": [{"id": 1}]}')
    analysis = read_ranks(tmp_path / "ranks")
    assert [(finding.code, finding.severity) for finding in analysis.findings] == [("other-files", "warning")]
    assert "2 of 6 files are no trace, and left out: config.json, host.json" in analysis.findings[0].message
    assert same(read_ranks(*paths), analysis)
    with pytest.raises(LaptimeError, match="no traceEvents"):
        read_ranks(*paths, tmp_path / "ranks" / "config.json")  # one that is named is no slip
    paths[0].write_bytes(paths[0].read_bytes()[:-200].replace(b"traceEvents", b"trace"))
    for path in paths[2:]:
        path.unlink()
    with pytest.raises(LaptimeError, match=r"the only trace with work of a GPU here .* name it by itself"):
        read_ranks(tmp_path / "ranks")  # one trace alone


def test_a_folder_of_reports_says_how_to_export_them(tmp_path: Path) -> None:
    (tmp_path / "rank0.nsys-rep").write_bytes(b"x")
    with pytest.raises(LaptimeError, match=r"nsys export --type sqlite rank0\.nsys-rep"):
        read_ranks(tmp_path)


def test_an_engines_front_end_is_left_out_of_a_folder_and_said(tmp_path: Path) -> None:
    paths = write_ranks(tmp_path / "ranks")
    front = write_kineto(tmp_path / "ranks" / "front.json", ranges=[RangeRow(T, T + 900 * US, "schedule", "cpu_op")])
    analysis = read_ranks(tmp_path / "ranks")
    assert [finding.code for finding in analysis.findings] == ["host-only-files"]
    assert "1 of 5 files holds no work of a GPU" in analysis.findings[0].message
    assert same(read_ranks(*paths), analysis)
    with pytest.raises(LaptimeError, match="only the host's work was traced"):
        read_ranks(*paths, front)


@pytest.mark.parametrize("straggler", [False, True])
def test_ranks_that_are_not_here_may_be_the_ones_waited_for(tmp_path: Path, straggler: bool) -> None:
    """Three of four ranks wait for the fourth, of which there is no file."""
    computes_us = (100, 100, 200 if straggler else 100)
    for rank, compute_us in enumerate(computes_us):
        path = write_kineto(tmp_path / f"rank{rank}.json", *a_rank(compute_us, slowest_us=600))
        info = f'{{"distributedInfo": {{"rank": {rank}, "world_size": 4}},'
        path.write_text(path.read_text().replace("{", info, 1))
    analysis = read_ranks(tmp_path)
    assert analysis.absent == 1
    assert [finding.code for finding in analysis.findings] == ["absent-ranks"]
    assert analysis.headline.startswith("3 of 4 ranks: they compute ")
    assert analysis.headline.endswith("how long they wait for rank 3 isn't known: its trace is not here")
    assert "other ranks" not in analysis.headline
    assert ("Of the waiting for one of these most is for rank 2" in analysis.headline) == straggler
    assert analysis.straggler == (2 if straggler else None)


@pytest.mark.parametrize("rank", [-7, 65_536, 2**62])
def test_a_rank_that_no_run_has_is_not_believed(tmp_path: Path, rank: int) -> None:
    for place in range(2):
        path = write_kineto(tmp_path / f"{place}.json", *a_rank(100))
        info = f'{{"distributedInfo": {{"rank": {rank + place}, "world_size": 2}},'
        path.write_text(path.read_text().replace("{", info, 1))
    assert [one.rank for one in read_ranks(tmp_path).ranks] == [0, 1]
    assert read_trace(tmp_path / "0.json").source.rank is None


def test_more_traces_than_their_run_has_ranks_are_said(tmp_path: Path) -> None:
    for rank in range(3):
        path = write_kineto(tmp_path / f"{rank}.json", *a_rank(100))
        info = f'{{"distributedInfo": {{"rank": {rank}, "world_size": 2}},'
        path.write_text(path.read_text().replace("{", info, 1))
    found = [finding for finding in read_ranks(tmp_path).findings if finding.code == "more-than-ranks"]
    assert [finding.message.partition(":")[0] for finding in found] == [
        "3 traces are here, and each states that its run has 2 ranks"
    ]
    (tmp_path / "2.json").unlink()
    assert "more-than-ranks" not in {finding.code for finding in read_ranks(tmp_path).findings}


def test_equal_ranks_have_one_figure(tmp_path: Path) -> None:
    for rank in range(2):
        write_kineto(tmp_path / f"rank{rank}.json", *a_rank(100, clock_ns=rank))
    assert "they compute 0.6 ms each; exposed communication is 1.32 ms on each." in read_ranks(tmp_path).headline


def write_captures(folder: Path, *counts: int) -> None:
    """Captures of some ranks, one minute after the other, as a profiler that repeats its schedule writes them."""
    for rank, count in enumerate(counts):
        for capture in range(count):
            path = folder / f"node0_{100 + rank}.17{capture}.pt.trace.json"
            write_kineto(path, *a_rank(100 + 50 * rank + 10 * capture, clock_ns=capture * 60_000_000_000))
            path.write_text(path.read_text().replace("{", f'{{"distributedInfo": {{"rank": {rank}}},', 1))


def test_of_several_captures_the_last_one_is_shown(tmp_path: Path) -> None:
    write_captures(tmp_path, 3, 3)
    analysis = read_ranks(tmp_path)
    assert [(rank.rank, rank.compute_ns) for rank in analysis.ranks] == [(0, 6 * 120 * US), (1, 6 * 170 * US)]
    assert [finding.code for finding in analysis.findings] == ["several-captures"]
    assert "3 captures of 2 ranks" in analysis.findings[0].message
    assert analysis.headline.startswith("2 ranks: ")


@pytest.mark.parametrize(("counts", "said"), [((3, 2), "3 files state rank 0, and 2 rank 1"), ((3,), "all 3 files")])
def test_captures_that_do_not_belong_together_are_refused(tmp_path: Path, counts: tuple[int, ...], said: str) -> None:
    write_captures(tmp_path, *counts)
    with pytest.raises(LaptimeError, match=said):
        read_ranks(tmp_path)


def same(one: RankAnalysis, other: RankAnalysis) -> bool:
    return (one.ranks, one.straggler, one.clocks) == (other.ranks, other.straggler, other.clocks)


def test_files_folders_and_archives_say_the_same(tmp_path: Path) -> None:
    paths = write_ranks(tmp_path / "ranks")
    by_folder = read_ranks(tmp_path / "ranks")
    assert same(read_ranks(*reversed(paths)), by_folder)
    for name, mode in (("r.tar", "w"), ("r.tar.gz", "w:gz"), ("r.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            for path in paths:
                archive.add(path, f"../../deep/{path.name}")
        assert same(read_ranks(tmp_path / name), by_folder)
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in paths:
            packed.write(path, f"deep/{path.name}")
        packed.writestr("readme.txt", "no trace")
    assert same(read_ranks(tmp_path / "r.zip"), by_folder)


def test_an_archive_can_not_write_elsewhere_or_fill_the_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("rank0.json", b" " * (200 << 20))
    with pytest.raises(LaptimeError, match="300 times its size"):
        read_ranks(tmp_path / "bomb.zip")
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("rank0.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(LaptimeError, match="no trace in it"):
        read_ranks(tmp_path / "link.tar")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("rank0.json", "x" * 5_000)
    damaged = bytearray(whole.getvalue())
    damaged[40:60] = bytes(20)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(LaptimeError, match="archive is damaged"):
        read_ranks(tmp_path / "damaged.zip")


def test_an_archive_that_can_not_be_unpacked_says_why(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "long.zip", "w") as packed:
        packed.writestr("a" * 260 + ".json", "{}")
    with pytest.raises(LaptimeError, match="name of over 255 bytes") as long:
        read_ranks(tmp_path / "long.zip")
    assert "laptime-" not in str(long.value)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as packed:
        packed.writestr("rank0.json", "{}")
    locked = bytearray(whole.getvalue())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(LaptimeError, match="it is encrypted"):
        read_ranks(tmp_path / "locked.zip")


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_damaged_packed_tar_is_one_clear_line(tmp_path: Path, packing: str) -> None:
    content = "".join(f'{{"ts": {i * i * 7_919 % 1_000_003}}}\n' for i in range(20_000)).encode()
    file = tmp_path / f"ranks.tar.{packing}"
    with tarfile.open(file, f"w:{packing}") as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("rank0.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    damaged = bytearray(file.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 200] = bytes(200)
    file.write_bytes(damaged)
    with pytest.raises(LaptimeError, match="the archive is damaged"):
        read_ranks(file)


def test_the_command_line_shows_all_faces(tmp_path: Path) -> None:
    write_ranks(tmp_path / "ranks")
    runner = CliRunner()
    page = tmp_path / "ranks.html"
    arguments = ["trace", str(tmp_path / "ranks"), "--json", "--html", str(page)]
    value = json.loads(runner.invoke(app, arguments).stdout)
    assert (value["schema"], value["straggler"]) == ("laptime.trace-ranks/1", 2)
    assert "rank-bars" in page.read_text()
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report(read_ranks(tmp_path / "ranks")))
    assert "2 (1.20 ms)" in console.export_text().replace("\xa0", " ")
    assert "had compute beside it" not in console.export_text(), "no compute ran beside their waiting"
    result = runner.invoke(app, ["trace", str(tmp_path / "ranks"), "--tpot", "3"], standalone_mode=False)
    assert isinstance(result.exception, LaptimeError)
    assert "4 ranks" in str(result.exception)


def test_the_gpus_of_one_file_are_set_side_by_side(tmp_path: Path) -> None:
    """One report of Nsight Systems holds all GPUs of a host."""
    activities, calls = [], []
    for device, compute in enumerate(COMPUTE_US[1:3]):
        work, launched = a_rank(compute)
        activities += [
            replace(row, device=device, process=device + 1, correlation=(row.correlation or 0) + 100 * device)
            for row in work
        ]
        calls += [replace(row, process=device + 1, correlation=row.correlation + 100 * device) for row in launched]
    path = write_nsys(tmp_path / "host.sqlite", activities, calls)
    (finding,) = [one for one in read_trace(path).integrity.findings if one.code == "gpus-as-ranks"]
    assert (finding.severity, finding.count) == ("info", 2)
    value = json.loads(CliRunner().invoke(app, ["trace", str(path), "--ranks", "--json"]).stdout)
    assert [rank["waited_ns"] for rank in value["ranks"]] == [6 * 180 * US, 0]
    assert value["straggler"] == 1
    alone = write_nsys(tmp_path / "one.sqlite", *a_rank(100))
    result = CliRunner().invoke(app, ["trace", str(alone), "--ranks"], standalone_mode=False)
    assert "this file has one" in str(result.exception)


@pytest.mark.chromium
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_draws_every_rank(tmp_path: Path, width: int, open_page, console_lines, browser) -> None:
    write_ranks(tmp_path / "ranks")
    browser.set_window_size(width, 1200)
    try:
        opened = open_page(ranks_page(read_ranks(tmp_path / "ranks")))
        assert len(opened.find_elements("css selector", "#rank-bars rect.work-communication")) == 4
        assert opened.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert console_lines() == []
    finally:
        browser.set_window_size(1280, 2000)


def test_captures_that_end_apart_say_so_where_they_fit_in_several_ways(tmp_path: Path) -> None:
    """One rank's file ends two steps earlier, and all steps last the same."""
    for rank in range(2):
        activities, calls = a_rank(100 + 50 * rank, steps=14 - 2 * rank)
        write_kineto(tmp_path / f"rank{rank}.json", activities, calls)
    clocks = read_ranks(tmp_path).clocks
    assert (
        clocks.why == "the files hold 12 to 14 of the same collectives, and which of them belong together isn't certain"
    )


def test_sends_and_receives_of_unlike_numbers_are_the_reason(tmp_path: Path) -> None:
    """Stages of a pipeline: the first one only sends, the second one receives and sends."""
    for rank in range(2):
        activities, calls = a_rank(100 + 50 * rank, steps=10 + 4 * rank)
        named = [replace(row, name=row.name.replace("AllReduce_Sum_f32", "SendRecv")) for row in activities]
        write_kineto(tmp_path / f"rank{rank}.json", named, calls)
    assert read_ranks(tmp_path).clocks.why.startswith("sends and receives are among them")
