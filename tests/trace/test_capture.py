"""Kernels of graph replays get their names from a trace of the capture, or none where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from laptime.trace.analysis import read_trace
from laptime.trace.launch_result import LaunchedBy
from laptime.trace.result import TraceAnalysis
from tests.cli.test_trace import app

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)"
LAYERS = 3
KERNELS = (GEMM, ADD) * LAYERS
SHAPE = {"Input Dims": [[64, 64], [64, 64]], "Input type": ["float", "float"]}


def event(cat: str, name: str, at: float, long: float, **args: object) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 100, "tid": 7, "ts": at, "dur": long, "args": args}


def captures(count: int = 1, *, stated: Sequence[str] = (), first_layer: int = 0) -> list[dict[str, Any]]:
    """Graphs captured one after the other: layers with a product and a sum each."""
    events = [event("user_annotation", "capture_8_FULL", 0, 10_000 * count)]
    for graph in range(count):
        at = graph * 10_000.0 + 10
        events.append(event("cuda_runtime", "cudaStreamBeginCapture", at, 1))
        for layer in range(LAYERS):
            start = at + 100 + layer * 1_000
            number = first_layer + graph * LAYERS + layer
            events.append(event("python_function", f"nn.Module: Layer_{number}", start, 900))
            for i, operator in enumerate(("aten::mm", "aten::add")):
                events.append(event("cpu_op", operator, start + 10 + i * 100, 90, **SHAPE))
                names = {"kernel": stated[layer * 2 + i]} if stated else {}
                events.append(event("cuda_runtime", "cudaLaunchKernel", start + 20 + i * 100, 5, **names))
        events.append(event("cuda_runtime", "cudaStreamEndCapture", at + 9_000, 1))
    return events


def replays(count: int, kernels: Sequence[str] = KERNELS, *, streams: bool = False) -> list[dict[str, Any]]:
    """Replays of one graph. streams: every other kernel on another stream, where it starts before the one ahead."""
    events = []
    for i in range(count):
        at = i * 1_000.0
        events.append(event("user_annotation", "decode step", at, 900))
        events.append(event("cuda_runtime", "cudaGraphLaunch", at + 10, 20, correlation=i + 1))
        for j, name in enumerate(kernels):
            own = {"correlation": i + 1, "device": 0, "stream": 7 + (j % 2 if streams else 0), "graph node id": j + 1}
            start = at + 100 + j * 20 - (25 if streams and j % 2 else 0)
            events.append(event("kernel", name, start, 10 + j, **own))
    return events


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"traceEvents": events}))
    return path


def named(folder: Path, replayed: list[dict[str, Any]], captured: list[dict[str, Any]]) -> TraceAnalysis:
    return read_trace(write(folder / "replay.json", replayed), capture=write(folder / "capture.json", captured))


def launchers(found: LaunchedBy | None) -> dict[str, tuple[int, int, int]]:
    assert found is not None
    return {row.name: (row.calls, row.activities, row.total_ns) for row in found.launchers}


GEMM_NS, ADD_NS = sum(10_000 + j * 1_000 for j in (0, 2, 4)), sum(10_000 + j * 1_000 for j in (1, 3, 5))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("stated", [(), KERNELS], ids=["by order", "by name"])
def test_kernels_take_the_names_of_their_capture(tmp_path: Path, stated: Sequence[str], streams: bool) -> None:
    analysis = named(tmp_path, replays(4, streams=streams), captures(stated=stated))
    found = analysis.launched_by
    assert found is not None
    assert found.capture is not None
    assert (found.capture.captures, found.capture.replays, found.capture.named) == (1, 4, 4)
    assert (found.capture.activities, found.capture.by_order) == (24, not stated)
    assert found.capture.agreement == (1.0 if stated else None)
    rows = launchers(found)
    assert rows["aten::mm"] == (12, 12, 4 * GEMM_NS)
    assert rows["aten::add"] == (12, 12, 4 * ADD_NS)
    assert rows["Layer 1"][:2] == (4, 8)
    assert rows["decode step"][1] == 24
    assert "capture_8_FULL" not in rows
    assert {row.operator: row.calls for row in found.work} == {"aten::mm": 12, "aten::add": 12}
    assert {row.operator: row.flop for row in found.work} == {"aten::mm": 2 * 64**3, "aten::add": 64**2}
    assert not [f for f in analysis.integrity.findings if f.code == "capture-unmatched"]


def test_without_a_capture_replays_have_no_operators(tmp_path: Path) -> None:
    rows = launchers(read_trace(write(tmp_path / "a.json", replays(4))).launched_by)
    assert set(rows) == {"decode step"}


def test_graphs_of_one_size_take_turns(tmp_path: Path) -> None:
    """Two captures, as where each half of a model has a graph: the first, third … replay is of the first."""
    found = named(tmp_path, replays(4), captures(2)).launched_by
    rows = launchers(found)
    assert {name: row[:2] for name, row in rows.items() if name.startswith("Layer")} == {
        f"Layer {i}": (2, 4) for i in range(1, 7)
    }


@pytest.mark.parametrize(
    ("replayed", "captured", "said"),
    [
        (replays(4, KERNELS[:-1]), captures(), "4 of 4 graph replays fit no capture"),
        (replays(4, (ADD, GEMM) * LAYERS), captures(), "4 of 4 graph replays fit no capture"),
        (replays(4, (ADD, GEMM) * LAYERS), captures(stated=KERNELS), "4 of 4 graph replays fit no capture"),
        (replays(4), [event("cpu_op", "aten::mm", 0, 5)], "holds no capture of a graph"),
        (replays(4), captures()[:-1], "holds no capture of a graph"),
        ([event("kernel", GEMM, 0, 5, device=0, stream=7)], captures(), "has nothing to name"),
        (
            [row for row in replays(4, KERNELS[:-1]) if "step" not in row["name"]],
            captures(),
            "4 of 4 graph replays fit",
        ),
    ],
)
def test_what_does_not_fit_is_said(
    tmp_path: Path, replayed: list[dict[str, Any]], captured: list[dict[str, Any]], said: str
) -> None:
    analysis = named(tmp_path, replayed, captured)
    (finding,) = (f for f in analysis.integrity.findings if f.code == "capture-unmatched")
    assert said in finding.message
    found = analysis.launched_by
    assert found is None or "aten::mm" not in launchers(found)


def test_the_command_line_takes_a_capture(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / "r.json", replays(4))), str(write(tmp_path / "c.json", captures()))]
    result = CliRunner().invoke(app, ["trace", paths[0], "--capture", paths[1], "--json"])
    assert json.loads(result.stdout)["launched_by"]["capture"]["named"] == 4
    shown = CliRunner().invoke(app, ["trace", paths[0], "--capture", paths[1]])
    assert "c.json names 24 kernels of 4 graph replays" in " ".join(shown.stdout.replace("\xa0", " ").split())
    missing = CliRunner().invoke(
        app, ["trace", paths[0], "--capture", str(tmp_path / "no.json")], standalone_mode=False
    )
    assert "no.json" in str(missing.exception)


def test_a_real_capture_names_its_real_replays() -> None:
    """A decoder of twelve layers, captured and replayed eight times on an H200 (benchmarks/trace_pairs.py)."""
    data = Path(__file__).parent / "data"
    analysis = read_trace(data / "graph-replay.json.gz", capture=data / "graph-capture.json.gz")
    found = analysis.launched_by
    assert found is not None
    assert found.capture is not None
    assert (found.capture.replays, found.capture.named, found.capture.activities) == (8, 8, 1080)
    operators = {row.name: (row.calls, row.activities) for row in found.launchers if row.kind == "operator"}
    assert operators["aten::addmm"] == (8 * 12 * 2, 8 * 12 * 2)
    assert operators["aten::_cudnn_attention_forward"] == (8 * 12, 8 * 12 * 2)
    assert operators["aten::mm"] == (8 * (12 * 2 + 1), 8 * (12 * 2 + 2))  # the head's product takes two kernels
    modules = {row.name: row.calls for row in found.launchers if row.kind == "module"}
    assert modules["Decoder › Layer › Linear 4"] == 8 * 12
    up = next(row for row in found.work if row.shape.startswith("4096, 512×1024"))
    assert (up.flop, up.bound) == (2 * 512 * 1024 * 4096, "compute")
    assert up.of_peak is not None
    assert 0.4 < up.of_peak < 0.5
