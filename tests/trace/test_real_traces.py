"""Steps, start-up and what-if of real traces against what an expert reads off them. Needs LAPTIME_TRACES."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from benchmarks.trace_sentences import FURTHER, sentences

from laptime.trace.analysis import read_trace
from laptime.trace.result import TraceAnalysis

FOLDER = os.environ.get("LAPTIME_TRACES")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not FOLDER, reason="LAPTIME_TRACES names no folder of real traces")


@cache
def analysis_of(start: str) -> TraceAnalysis:
    path = next((path for path in sorted(Path(FOLDER or "").iterdir()) if path.name.startswith(start)), None)
    if path is None:
        pytest.skip(f"the folder has no {start}")
    return read_trace(path)


@pytest.mark.parametrize(
    ("start", "count", "kernels", "layers"),
    [
        ("qwen3_4b_hf_decode24", 23, 2163, 36),
        ("HTA@2026__step_based", 5, 26, None),
        ("HTA@2026__trace_diff_test_6_profilersteps", 6, 1555, None),
        ("TraceLens@2026__ddp_resnet18", 5, 472, None),
        ("TraceLens@2026__mi300__resnet_act_checkpoint_ddp", 3, 746, None),
        ("TraceLens@2026__mi300__google_owlv2-large", 5, 851, 24),
        ("TraceLens@2026__xdit_flux_aiter", 4, 1000, None),  # 19 double blocks and 38 single ones
        ("TraceLens@171dd747__inference__vllm_decode_full", 1, 425, 24),
        ("TraceLens@171dd747__traces__h100__Qwen", 1, 1029, 24),
    ],
)
def test_steps_and_layers(start: str, count: int, kernels: int, layers: int | None) -> None:
    steps = analysis_of(start).steps
    assert (steps.count, steps.kernels_per_step) == (count, kernels)
    assert (steps.layers.count if steps.layers else None) == layers


def test_passes_before_decoding() -> None:
    (prefill,) = analysis_of("qwen3_4b_hf_decode24").passes
    assert (prefill.stage, prefill.kernels, prefill.layers and prefill.layers.count) == ("prefill", 2039, 36)
    graph = next(row for row in prefill.whatif if row.remedy == "graph")
    assert graph.step_ns_low < 14_400_000 < graph.step_ns_high  # the first token of the same prompt by a graph
    (vision,) = analysis_of("TraceLens@2026__mi300__google_owlv2-large").passes
    assert (vision.stage, vision.method, vision.count, vision.kernels) == ("vision", "module", 5, 511)
    assert not analysis_of("TraceLens@2026__xdit_flux_aiter").passes  # texts' encoders before a diffusion


def test_a_diffusion_step_has_57_attention_kernels() -> None:
    assert analysis_of("TraceLens@2026__xdit_flux_aiter").steps.attention_kernels == 57


def test_who_launched_most() -> None:
    """What TraceLens' own tables say of the same files (benchmarks/trace_operators.py)."""
    found = analysis_of("TraceLens@171dd747__traces__h100__Qwen").launched_by
    assert found is not None
    rows = {(row.kind, row.name): row for row in found.launchers}
    assert rows["operator", "aten::mm"].own_ns == pytest.approx(6_668_682, abs=10)  # theirs are sums of floats
    assert rows["operator", "aten::mul"].own_ns == pytest.approx(6_752_900, abs=10)
    assert rows["module", "Qwen2Model › Qwen2DecoderLayer"].calls == 24
    product = next(row for row in found.work if row.shape == "8944×1024, 1024×2816 (bf16)")
    assert product.flop == 51_581_550_592
    assert product.bytes == round(71.0078125 * 2**20)
    softmax = analysis_of("TraceLens@2026__mi300__google_owlv2-large").launched_by
    assert softmax is not None
    assert softmax.work[0].operator == "aten::_softmax"


def test_what_held_the_peak() -> None:
    memory = analysis_of("TraceLens@2026__mi300__google_owlv2-large").memory[0]
    assert memory.holders[0].operator == "aten::_softmax"
    assert (memory.holders[0].module or "").endswith("Owlv2Attention")
    assert memory.before_bytes == memory.start_bytes


def test_a_graph_leaves_the_cpus_preprocessing() -> None:
    """142 ms of each 210 ms step are images prepared on the CPU between copies."""
    analysis = analysis_of("TraceLens@2026__mi300__google_owlv2-large")
    assert analysis.steps.host_work_ns == pytest.approx(142_000_000, rel=0.02)
    promised = {row.remedy: row.step_ns_low for row in analysis.whatif}
    assert promised.pop("workers") >= analysis.steps.busy_ns  # type: ignore[operator]
    assert all(low >= 200_000_000 for low in promised.values())
    assert "A CUDA graph" not in analysis.advice
    assert "no graph ends" in analysis.advice


@pytest.mark.parametrize(
    ("start", "start_up_ms", "call"),
    [("nsys@2026__fire_first_launch", 15.9, "cudaLaunchKernel"), ("HTA@2026__alexnet_first_call", 6_008, "cudaFree")],
)
def test_start_up_is_its_own_cause(start: str, start_up_ms: float, call: str) -> None:
    analysis = analysis_of(start)
    (device,) = analysis.devices
    times = {row.cause: row.total_ns / 1e6 for row in device.gaps.causes}
    assert times["start-up"] >= start_up_ms - 0.1
    assert max(times, key=times.__getitem__) == "start-up"
    assert "while the program starts up" in analysis.headline
    assert analysis.headline.endswith(call)


def test_a_graph_capture_has_no_steps_and_says_why() -> None:
    reason = analysis_of("TraceLens@2026__sglang_decode_capture_bs32").steps.reason
    assert reason == "only 2 kernels ran; the host captured graphs, which runs no kernel"


def test_the_sentences_of_the_docs_are_those_of_the_program() -> None:
    """`python benchmarks/trace_sentences.py` writes them anew."""
    lines = sentences(Path(FOLDER or "")).splitlines()
    assert len(lines) > 2
    page = (ROOT / "docs" / "trace.md").read_text(encoding="utf-8")
    assert [line for line in lines if line not in page] == []
    further = (ROOT / "docs" / "appendix" / "trace-sentences.md").read_text(encoding="utf-8")
    assert [line for line in sentences(Path(FOLDER or ""), FURTHER).splitlines() if line not in further] == []
