"""The whole answer: the contract's JSON, equality across formats, exactness on real files."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse, read_trace
from laptime.trace.comparison import compare
from laptime.trace.result import TraceAnalysis
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

CONTRACT = {
    "": "schema source integrity devices kernels steps api whatif",
    "source": "format file schema_version",
    "integrity": "verdict findings",
    "integrity.findings": "code severity message count",
    "devices": "device span_ns busy_ns idle_ns kernel_busy_ns kernel_sum_ns memcpy_ns memset_ns kernels launches gaps",
    "devices.gaps": "count median_ns histogram large",
    "devices.gaps.histogram": "lo_ns hi_ns count total_ns",
    "devices.gaps.large": "start_ns duration_ns before after cause api",
    "kernels": "device name short_name count total_ns mean_ns share",
    "steps": "method confidence count kernels_per_step launches_per_step wall_ns kernel_ns gap_ns utilisation layers",
    "steps.layers": "count kernels_per_layer outside",
    "api": "name count total_ns",
    "whatif": "remedy step_ns_low step_ns_high speedup_low speedup_high assumptions",
}


def test_the_json_is_the_contract() -> None:
    rows = engines.published_engine(6)
    rows.activities.append(ActivityRow(0, 500, "Memcpy HtoD", "memcpy"))
    value = json.loads(analyse(build(*rows.all)).to_json())
    assert value["schema"] == "laptime.trace/1"
    for path, keys in CONTRACT.items():
        at = value
        for part in filter(None, path.split(".")):
            at = at[part][0] if isinstance(at[part], list) else at[part]
        assert set(keys.split()) <= set(at), path
    for device in value["devices"]:
        for key, figure in device.items():
            assert not key.endswith("_ns") or figure is None or isinstance(figure, int), key


def test_the_json_reads_back() -> None:
    analysis = analyse(build(*engines.published_engine(6).all))
    assert msgspec.json.decode(analysis.to_json(), type=TraceAnalysis) == analysis


def test_both_formats_give_the_same_analysis(tmp_path: Path) -> None:
    rows = engines.published_engine(5)
    rows.activities += [ActivityRow(100, 900, "Memcpy HtoD", "memcpy"), ActivityRow(1_500, 1_700, "Memset", "memset")]
    kineto = read_trace(write_kineto(tmp_path / "a.json.gz", *rows.all))
    nsys = read_trace(write_nsys(tmp_path / "b.sqlite", *rows.all))

    def without_names(analysis: TraceAnalysis) -> TraceAnalysis:
        # Kineto's copies and memsets bear longer names, and the formats notice different things.
        nothing = msgspec.structs.replace(analysis.integrity, findings=[])
        devices = [msgspec.structs.replace(d, gaps=msgspec.structs.replace(d.gaps, large=[])) for d in analysis.devices]
        return msgspec.structs.replace(analysis, source=nsys.source, integrity=nothing, devices=devices)

    assert without_names(kineto) == without_names(nsys)
    assert [(g.start_ns, g.duration_ns, g.cause, g.api) for g in kineto.devices[0].gaps.large] == [
        (g.start_ns, g.duration_ns, g.cause, g.api) for g in nsys.devices[0].gaps.large
    ]


def test_an_empty_trace_is_an_answer() -> None:
    analysis = analyse(build())
    assert analysis.integrity.verdict == "unsupported"
    assert (analysis.devices, analysis.kernels, analysis.steps.method, analysis.whatif) == ([], [], "none", [])
    assert "can't say" in analysis.headline


def test_one_kernel_is_an_answer() -> None:
    analysis = analyse(build([ActivityRow(5, 25)]))
    (device,) = analysis.devices
    assert (device.span_ns, device.busy_ns, device.idle_ns, device.gaps.count, device.gaps.median_ns) == (
        20,
        20,
        0,
        0,
        None,
    )


def test_a_device_that_is_not_there_is_refused() -> None:
    timeline = build([ActivityRow(0, 1, device=2)])
    assert [d.device for d in analyse(timeline, device=2).devices] == [2]
    with pytest.raises(LaptimeError, match=r"no activity on device 0; it has \[2\]"):
        analyse(timeline, device=0)


def test_causes_of_a_device_sum_to_its_idle_time() -> None:
    (device,) = analyse(build(*engines.published_engine(5).all)).devices
    assert sum(row.total_ns for row in device.gaps.causes) == device.idle_ns
    assert sum(row.gaps for row in device.gaps.causes) == device.gaps.count
    assert sum(b.total_ns for b in device.gaps.histogram) == device.idle_ns


def test_the_headline_says_what_the_gpu_waited_for() -> None:
    rows = engines.host_bound([engines.published_step()] * 5, host=[("cudaStreamSynchronize", 90_000)])
    assert analyse(build(*rows.all)).headline == "GPU idle 76 %: the host sits in synchronisations"
    busy = engines.host_bound([engines.published_step()] * 5, launch_ns=100, host=[])
    assert analyse(build(*busy.all)).headline.startswith("GPU busy 99.7 %: it hardly waits; its busy time goes to")


def test_two_traces_are_compared_kernels_first() -> None:
    a = analyse(build(*engines.published_engine(6).all))
    faster = [
        (name, duration // 2 if name == "fused_mlp_output" else duration) for name, duration in engines.published_step()
    ]
    b = analyse(build(*engines.host_bound([faster] * 6, launch_ns=5_200).all))
    result = compare(a, b)
    assert result.per == "step"
    saved = sum(d - d // 2 for name, d in engines.published_step() if name == "fused_mlp_output")
    assert result.kernel_sums[0].delta == pytest.approx(-saved, abs=1)
    assert result.kernels[0].name == "fused_mlp_output"
    gaps = {pair.name: pair for pair in result.gaps}
    assert gaps["gaps"].delta == b.steps.gap_ns - a.steps.gap_ns
    assert gaps["gaps: allocation"].b == 0
    assert [pair.name for pair in result.counts] == ["kernels", "launches", "layers", "steps"]
    before, after = a.steps.wall_ns, b.steps.wall_ns
    assert result.headline.startswith(f"A step goes from {before / 1e6:.2f} to {after / 1e6:.2f} ms (−")
    parts = [gaps[name].delta / 1e6 for name in ("busy", "gaps")]
    assert sum(parts) == pytest.approx((after - before) / 1e6)  # what the headline names sums to the step's change
    assert f"busy {parts[0]:+.3f} ms".replace("-", "−") in result.headline
    assert f"gaps {parts[1]:+.3f} ms".replace("-", "−") in result.headline
    nothing = analyse(build())
    unread = compare(nothing, a)
    assert unread.headline == f"Nothing to compare. A: {nothing.headline}"
    assert unread.kernel_sums[0].a is None
    assert {pair.a for pair in unread.gaps} <= {None}
    same = compare(a, a)
    assert {pair.delta for pair in [*same.kernel_sums, *same.gaps, *same.counts]} <= {0}
    assert not same.headline.endswith("if both are steps of the same work")
    unknown = msgspec.structs.replace(a, steps=msgspec.structs.replace(a.steps, layers=None))
    assert compare(a, unknown).headline.endswith("if both are steps of the same work")
    one, many = (
        msgspec.structs.replace(a, steps=msgspec.structs.replace(a.steps, tokens=tokens))
        for tokens in ([1, 1], [16, 1])
    )
    assert compare(one, many).headline.endswith("; but a step of A embeds 1 × 1 tokens and one of B 16 × 1")
    stepless = analyse(build(*engines.host_bound([[("gemm", 9_000)]] * 30).all))
    assert compare(a, stepless).headline.endswith("; no steps are known in B, so their work may differ")
    assert "no steps are known in either" in compare(stepless, stepless).headline


def test_kernels_outside_usual_steps_dont_change_what_a_step_is_compared_by() -> None:
    """The first step ran at a slow clock: its kernels took ten times as long."""
    step = engines.published_step()
    slow = engines.host_bound([[(name, 10 * duration) for name, duration in step]], annotate="ProfilerStep#{}")
    usual = engines.host_bound([step] * 8, start_ns=slow.ranges[0].end_ns + 40_000, annotate="ProfilerStep#{}")
    begun = len(slow.calls)
    calls, work = (
        [replace(row, correlation=row.correlation + begun) for row in rows] for rows in (usual.calls, usual.activities)
    )
    a = analyse(build(work, calls, usual.ranges))
    b = analyse(build(slow.activities + work, slow.calls + calls, slow.ranges + usual.ranges))
    assert b.kernels[0].mean_ns > 1.5 * a.kernels[0].mean_ns
    assert compare(a, b).kernel_sums[0].delta == pytest.approx(0, abs=a.steps.busy_ns // 100)
    assert sum(kernel.step_ns for kernel in b.kernels) == pytest.approx(b.steps.kernel_ns, rel=0.01)


TIMES = st.integers(0, 2_000)
NAMES = st.sampled_from(["a", "rms_norm", "gemm", "embedding", "argmax", "b" * 300, "\ud7ff<x>"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda start, length, name, kind, device, stream, correlation, node, process: ActivityRow(
                start, start + length, name, kind, device, stream, correlation, process, node
            ),
            *(TIMES, st.integers(-5, 90), NAMES, st.sampled_from(["kernel", "kernel", "memcpy", "memset", "graph"])),
            *(st.integers(0, 2), st.integers(0, 2), st.none() | st.integers(0, 9), st.none() | st.integers(0, 3)),
            st.sampled_from([1, 2]),
        ),
        max_size=60,
    ),
    st.lists(
        st.builds(
            lambda start, length, name, correlation, process, thread: CallRow(
                start, start + length, name, correlation, process, thread
            ),
            *(TIMES, st.integers(-2, 60), st.sampled_from(["cudaLaunchKernel", "cudaMalloc", "cuCtxSynchronize"])),
            *(st.integers(-1, 9), st.sampled_from([1, 2]), st.sampled_from([1, 2])),
        ),
        max_size=30,
    ),
    st.lists(
        st.builds(
            lambda start, length, name, kind: RangeRow(start, start + length, name, kind, 1, 1),
            *(TIMES, st.integers(-2, 200), st.sampled_from(["step 1", "step 2", "aten::mm"])),
            st.sampled_from(["nvtx", "cpu_op", "python", "profiler"]),
        ),
        max_size=20,
    ),
)
def test_any_timeline_has_an_answer_that_adds_up(
    activities: list[ActivityRow], calls: list[CallRow], ranges: list[RangeRow]
) -> None:
    analysis = analyse(build(activities, calls, ranges))
    for device in analysis.devices:
        assert device.busy_ns + device.idle_ns == device.span_ns
        assert sum(b.total_ns for b in device.gaps.histogram) == device.idle_ns
        assert sum(b.count for b in device.gaps.histogram) == device.gaps.count
        assert sum(row.total_ns for row in device.gaps.causes) == device.idle_ns
        for gap in device.gaps.large:
            assert sum(share.total_ns for share in gap.shares) == gap.duration_ns
    steps = analysis.steps
    if steps.wall_ns is not None:
        assert steps.wall_ns == (steps.busy_ns or 0) + (steps.gap_ns or 0)
        assert 0 <= steps.confidence <= 1
        assert sum(row.total_ns for row in steps.causes) == steps.gap_ns
    for row in analysis.whatif:
        assert 0 < row.step_ns_low <= row.step_ns_high
    assert msgspec.json.decode(analysis.to_json(), type=TraceAnalysis) == analysis


TRACES = Path(os.environ["LAPTIME_TRACES"]) if os.environ.get("LAPTIME_TRACES") else None
needs_traces = pytest.mark.skipif(TRACES is None, reason="LAPTIME_TRACES names no folder of real traces")
FILES = sorted(p for p in TRACES.iterdir() if p.name.endswith((".gz", ".json", ".sqlite"))) if TRACES else []


def independent(path: Path) -> dict[int, list[tuple[int, int, str]]]:
    """Each device's activities, read in the plainest way: json with Decimal, or one SELECT for each table."""
    devices: dict[int, list[tuple[int, int, str]]] = {}
    if path.suffix == ".sqlite":
        with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                kind = table.removeprefix("CUPTI_ACTIVITY_KIND_").split("_V")[0]
                if table.startswith("CUPTI_ACTIVITY") and kind in ("KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"):
                    for device, start, end in db.execute(f'SELECT deviceId, start, "end" FROM "{table}"'):
                        devices.setdefault(device, []).append((start, end, kind.lower()))
        return devices
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = json.load(file, parse_float=Decimal)
    events = content if isinstance(content, list) else content["traceEvents"]
    kinds = {"kernel": "kernel", "gpu_memcpy": "memcpy", "gpu_memset": "memset", "memcpy": "memcpy", "memset": "memset"}
    for event in events:
        kind = kinds.get(str(event.get("cat", "")).lower())
        if event.get("ph") == "X" and kind:
            start = int(Decimal(event["ts"]) * 1000)
            end = start + int(Decimal(event.get("dur", 0)) * 1000)
            devices.setdefault(int(event["args"]["device"]), []).append((start, end, kind))
    return devices


@needs_traces
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name[:48])
def test_real_files_are_exact_to_the_nanosecond(path: Path) -> None:
    analysis = read_trace(path)
    expected = independent(path)
    assert {d.device for d in analysis.devices} == set(expected)
    assert expected or analysis.integrity.verdict == "unsupported"
    for device in analysis.devices:
        rows = sorted(expected[device.device])
        reach, idle, gaps = rows[0][1], 0, 0
        for start, end, _ in rows[1:]:
            if start > reach:
                idle, gaps = idle + start - reach, gaps + 1
            reach = max(reach, end)
        span = reach - rows[0][0]
        assert (device.span_ns, device.idle_ns, device.busy_ns) == (span, idle, span - idle)
        assert device.gaps.count == gaps
        kinds = Counter(kind for *_, kind in rows)
        hidden = "graph_trace" in kinds
        assert device.kernels == (None if hidden else kinds["kernel"])
        total = sum(end - start for start, end, kind in rows if kind == "kernel")
        assert device.kernel_sum_ns == (None if hidden else total)
        assert device.memcpy_ns == sum(end - start for start, end, kind in rows if kind == "memcpy")
        assert sum(row.total_ns for row in device.gaps.causes) == device.idle_ns


@needs_traces
def test_a_real_file_of_another_device_is_named_as_that() -> None:
    analysis = read_trace(TRACES / "mstt@2026__ascend_trace_view.json")
    assert [finding.code for finding in analysis.integrity.findings][:2] == ["unread-device", "no-device-activity"]
    assert "Ascend" in analysis.headline


@needs_traces
def test_the_decode_steps_of_a_real_generate_without_annotations() -> None:
    analysis = read_trace(TRACES / "qwen3_4b_hf_decode24.json.gz", tpot_ms=28.0)
    (device,) = analysis.devices
    assert device.idle_ns == 1_053_945_153
    steps = analysis.steps
    assert (steps.method, steps.count) == ("period", 23)
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.identical) == (36, 36)
    assert analysis.headline.startswith("GPU idle 87 %: the host can't launch fast enough; partly in aten::mm")
    graph = next(row for row in analysis.whatif if row.remedy == "graph")
    assert graph.step_ns_low <= 8_450_000 <= graph.step_ns_high  # measured: the same step captured with a static cache
    for row in analysis.whatif:
        assert (row.step_ns_high - row.step_ns_low) / 2 <= 0.08 * 28_000_000, row
