"""Passes before decoding: a made-up engine whose passes and their times are known, and real captures."""

from __future__ import annotations

from pathlib import Path

import pytest

from laptime.errors import LaptimeError
from laptime.trace.analysis import analyse, read_trace
from laptime.trace.result import TracedPass
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.engines import Rows, decoder
from tests.trace.write_traces import CallRow, RangeRow

DATA = Path(__file__).parent / "data"
HOST_NS, LAUNCH_NS = 12_000, 5_000
EACH_NS = HOST_NS + LAUNCH_NS  # idle time before each kernel

ENTRY = [("cumsum_scan_kernel", 900), ("vectorized_gather_kernel_embedding", 1_500)]
TOWER = [
    ("cudnn_convolution_patches", 9_000),
    *decoder(
        12, [("vit_layer_norm", 3_000), ("vit_gemm_qkv", 14_000), ("vit_fmha_attention", 8_000), ("vit_gemm_o", 9_000)]
    ),
]
PROJECTOR = [("projector_gemm_1", 20_000), ("gelu_elementwise", 2_000), ("projector_gemm_2", 20_000)]
MERGE = [("masked_scatter_kernel", 2_000)]
LAYER = [
    ("rms_norm", 3_000),
    ("gemm_qkv", 30_000),
    ("flash_fwd_attention", 16_000),
    ("gemm_o", 20_000),
    ("add", 1_000),
    ("gemm_mlp", 60_000),
]
PREFILL = [("cos", 1_000), *decoder(16, LAYER), ("rms_norm", 3_000), ("gemm_head", 50_000)]
CHOICE = [("argmax_reduce", 3_000)]
STEP = [
    ("indexSelect_embedding", 1_000),
    *[("position_fill", 900), ("position_add", 900), ("cos", 900), ("sin", 900)],
    *decoder(
        16,
        [
            ("rms_norm", 2_000),
            ("gemvx_q", 5_000),
            ("gemvx_k", 3_000),
            ("gemvx_v", 3_000),
            ("rope_q", 1_000),
            ("rope_k", 1_000),
            ("splitkv_attention", 5_000),
            ("gemvx_o", 6_000),
            ("add", 900),
            ("rms_norm", 2_000),
            ("gemvx_up", 12_000),
            ("silu_mul", 1_000),
            ("gemvx_down", 9_000),
            ("add", 900),
        ],
    ),
    ("rms_norm", 2_000),
    ("gemvx_head", 15_000),
    *[("softcap_tanh", 900), ("copy_logits", 900), ("eos_compare", 900), ("eos_or", 900), ("any_reduce", 900)],
    *CHOICE,
]
STEPS = 8


def engine(*parts: list[tuple[str, int]], steps: int = STEPS) -> tuple[Rows, list[tuple[int, int]]]:
    """The parts one after another, then decode steps; and when the host begins and ends each of the parts."""
    rows = engines.host_bound([*parts, *[STEP] * steps], host=((None, HOST_NS),), launch_ns=LAUNCH_NS)
    spans, now = [], 1_000_000
    for part in parts:
        lasts = sum(EACH_NS + duration for _, duration in part)
        spans.append((now, now + lasts))
        now += lasts
    return rows, spans


def wall_ns(kernels: list[tuple[str, int]]) -> int:
    """From the first kernel's beginning to the last one's end."""
    return sum(EACH_NS + duration for _, duration in kernels) - EACH_NS


def passes(rows: Rows, **options: object) -> dict[str, TracedPass]:
    return {one.stage: one for one in analyse(build(*rows.all), **options).passes}  # type: ignore[arg-type]


def test_a_prefill_is_known_by_the_layers_of_the_steps_behind_it() -> None:
    rows, _ = engine(ENTRY, PREFILL, CHOICE)
    found = passes(rows)
    prefill = found.pop("prefill")
    assert not found
    own = [*ENTRY[1:], *PREFILL]
    assert (prefill.kernels, prefill.wall_ns) == (len(own), wall_ns(own))
    assert prefill.busy_ns == sum(duration for _, duration in own)
    assert prefill.layers is not None
    assert (prefill.layers.count, prefill.method, prefill.unsure) == (16, "layers", False)


def test_chunks_of_a_prefill_are_counted() -> None:
    """A long prompt goes through the model in four chunks before the first token is chosen."""
    rows, _ = engine(*[ENTRY, PREFILL] * 4, CHOICE)
    prefill = passes(rows)["prefill"]
    assert (prefill.count, prefill.method) == (4, "layers")
    assert prefill.advice.startswith("The middle one of 4 passes of prefill takes")


def test_a_graph_of_the_prefill_lies_in_its_range() -> None:
    rows, _ = engine(ENTRY, PREFILL, CHOICE)
    prefill = passes(rows)["prefill"]
    graph = next(row for row in prefill.whatif if row.remedy == "graph")
    for residual_ns in (200, 800):
        assert graph.step_ns_low <= prefill.busy_ns + residual_ns * (prefill.kernels or 0) <= graph.step_ns_high
    assert graph.floor_ns is not None
    assert prefill.busy_ns <= graph.floor_ns <= graph.step_ns_low < graph.step_ns_high < prefill.wall_ns
    assert any("one length" in note for note in graph.assumptions)
    assert "A CUDA graph" in prefill.advice
    assert not any(row.remedy in ("workers", "overlap") for row in prefill.whatif)


def test_a_pass_of_lost_kernels_has_no_known_busy_time_and_no_remedy() -> None:
    rows, spans = engine(ENTRY, PREFILL, CHOICE)
    rows.ranges.append(RangeRow(*spans[1], "Prefill 512 tokens"))
    assert passes(rows)["prefill"].lost_kernels == 0
    own = [row for row in rows.activities if spans[1][0] <= row.start_ns < spans[1][1]]
    lost = own[10:60]
    rows.activities[:] = [row for row in rows.activities if row not in lost]
    prefill = passes(rows)["prefill"]
    assert (prefill.lost_kernels, prefill.whatif) == (50, [])
    assert "50 of the launches in it have no kernel" in prefill.advice
    assert "the GPU works" in prefill.advice.partition("how long ")[2]


def test_without_the_profiler_the_ranges_start_from_the_time_that_is_given() -> None:
    rows, _ = engine(ENTRY, PREFILL, CHOICE)
    traced = passes(rows)["prefill"]
    given = passes(rows, stage_ms={"prefill": 0.8 * traced.wall_ns / 1e6})["prefill"]
    untraced = next(row for row in given.whatif if row.remedy == "untraced")
    assert untraced.step_ns_low == untraced.step_ns_high == round(0.8 * traced.wall_ns)
    with pytest.raises(LaptimeError, match=r"the given time of prefill, .* is shorter than the"):
        passes(rows, stage_ms={"prefill": 0.5 * traced.busy_ns / 1e6})
    with pytest.raises(LaptimeError, match=r"the given time of prefill, .* is over 1\.5 times"):
        passes(rows, stage_ms={"prefill": 1.6 * traced.wall_ns / 1e6})
    unused = analyse(build(*rows.all), stage_ms={"vision": 4.0}).integrity.findings
    assert [finding.message for finding in unused if finding.code == "stage-unused"] == [
        "the given time of vision has no pass to be compared with"
    ]


def test_other_layers_before_the_prefill_are_an_encoders() -> None:
    rows, spans = engine(ENTRY, TOWER, PROJECTOR, MERGE, PREFILL, CHOICE)
    found = passes(rows)
    assert set(found) == {"encoder", "prefill"}
    own = [*TOWER, *PROJECTOR]
    assert (found["encoder"].kernels, found["encoder"].wall_ns) == (len(own), wall_ns(own))
    assert (found["prefill"].kernels, found["prefill"].wall_ns) == (len(PREFILL), wall_ns(PREFILL))
    rows.ranges.append(RangeRow(spans[1][0], spans[1][0] + EACH_NS, "aten::conv2d", "cpu_op"))
    assert set(passes(rows)) == {"vision", "prefill"}


def test_ranges_name_the_passes() -> None:
    rows, spans = engine(ENTRY, TOWER, MERGE, PREFILL, CHOICE)
    rows.ranges += [RangeRow(*spans[1], "vision tower"), RangeRow(*spans[3], "Prefill 512 tokens")]
    found = passes(rows)
    assert {stage: one.name for stage, one in found.items()} == {
        "vision": "vision tower",
        "prefill": "Prefill 512 tokens",
    }
    assert [found[stage].wall_ns for stage in ("vision", "prefill")] == [wall_ns(TOWER), wall_ns(PREFILL)]


@pytest.mark.parametrize("name", ["step[EXTEND bs=1 toks=512]", "execute_context_2(512)_generation_0(0)"])
def test_ranges_of_engines_name_the_passes(name: str) -> None:
    rows, spans = engine(ENTRY, PREFILL, CHOICE)
    rows.ranges.append(RangeRow(*spans[1], name))
    assert passes(rows)["prefill"].name == name


@pytest.mark.parametrize("name", ["prefill", "EXTEND", "vision", "encode_image"])
def test_a_range_of_a_pass_is_none_without_any_call(name: str) -> None:
    """Kernels alone: nothing tells which thread launched them."""
    rows, spans = engine(ENTRY, PREFILL, CHOICE)
    found = analyse(build(rows.activities, (), [RangeRow(*spans[1], name)]))
    assert not any(one.method == "range" for one in found.passes)
    assert found.devices[0].kernels


def test_of_several_prefills_the_middle_one_is_shown() -> None:
    longer = [*PREFILL[:-1], ("gemm_head", 400_000)]
    rows, spans = engine(PREFILL, longer, [*longer, ("gemm_more", 90_000)], steps=0)
    rows.ranges += [RangeRow(*span, f"prefill {number}") for number, span in enumerate(spans)]
    (prefill,) = passes(rows).values()
    assert (prefill.count, prefill.name, prefill.wall_ns) == (3, "prefill 1", wall_ns(longer))
    assert prefill.advice.startswith("The middle one of 3 passes of prefill takes")


def test_modules_name_the_passes() -> None:
    rows, spans = engine(ENTRY, TOWER, PROJECTOR, MERGE, PREFILL, CHOICE)
    modules = [
        RangeRow(spans[0][0], spans[4][1], "nn.Module: LlavaForConditionalGeneration_0", "python"),
        RangeRow(*spans[1], "nn.Module: CLIPVisionModel_0", "python"),
        RangeRow(spans[1][0] + 1, spans[1][1] - 1, "nn.Module: CLIPVisionTransformer_0", "python"),
        RangeRow(*spans[2], "nn.Module: LlavaMultiModalProjector_0", "python"),
    ]
    lasts, begin = sum(EACH_NS + duration for _, duration in STEP), spans[-1][1]
    for number in range(STEPS):
        span = (begin + number * lasts, begin + (number + 1) * lasts - EACH_NS - 4_000)
        modules.append(RangeRow(*span, "nn.Module: LlavaForConditionalGeneration_0", "python"))
    rows.ranges += modules
    found = passes(rows)
    assert {stage: one.method for stage, one in found.items()} == {"vision": "module", "prefill": "module"}
    assert found["vision"].wall_ns == wall_ns([*TOWER, *PROJECTOR])
    assert found["prefill"].wall_ns == wall_ns([*MERGE, *PREFILL])
    assert found["vision"].name == "CLIPVisionModel_0"


@pytest.mark.parametrize("sign", ["Optimizer.step#AdamW.step", "autograd::engine::evaluate_function: MmBackward0"])
def test_a_training_run_has_no_prefill(sign: str) -> None:
    rows, spans = engine(ENTRY, PREFILL, CHOICE)
    rows.ranges.append(RangeRow(spans[0][0], spans[0][1], sign))
    assert not passes(rows)


def test_a_pass_with_other_layers_than_the_steps_is_no_prefill() -> None:
    rows, _ = engine(ENTRY, [*decoder(12, LAYER), ("gemm_head", 50_000)], CHOICE)
    assert not passes(rows)


def test_a_first_call_inside_a_pass_promises_nothing() -> None:
    rows, spans = engine(ENTRY, PREFILL, CHOICE)
    begin = spans[1][0]
    for _, duration in PREFILL:
        rows.calls.append(CallRow(begin, begin + HOST_NS, "cuModuleLoadData", 0))
        begin += EACH_NS + duration
    advice = passes(rows)["prefill"].advice
    assert "first calls are made" in advice
    assert "graph" not in advice


@pytest.mark.parametrize(("file", "kernels"), [("decode-eager.json.gz", 471), ("decode-graph.json.gz", 507)])
def test_a_real_captures_prefill(file: str, kernels: int) -> None:
    (prefill,) = read_trace(DATA / file).passes
    assert (prefill.stage, prefill.kernels, prefill.unsure) == ("prefill", kernels, False)
    assert prefill.layers is not None
    assert prefill.layers.count == 8
    assert "A CUDA graph of all of it " in prefill.advice
    assert any("(--prefill, in Python stage_ms)" in note for row in prefill.whatif for note in row.assumptions)
