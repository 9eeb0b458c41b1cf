"""Operations and bytes of operators: by hand, against torch's own counter, and unknown where shapes don't say."""

from __future__ import annotations

import json

import pytest

from laptime.trace.analysis import read_trace
from laptime.trace.cards import peaks_of
from laptime.trace.operator_work import operator_work
from laptime.trace.read.timeline import Card
from laptime.trace.recorded_shapes import shape_text

BF16, F32, INT = "c10::BFloat16", "float", "long int"


def shape(dims: list, types: list, values: list | None = None, strides: list | None = None) -> str:
    return json.dumps([dims, types, values, strides])


def figures(name: str, *arguments: object) -> tuple[str, int, int | None] | None:
    work = operator_work(name, shape(*arguments))  # type: ignore[arg-type]
    return None if work is None else (work.kind, work.flop, work.bytes)


def test_products() -> None:
    assert figures("aten::mm", [[4, 5], [5, 6]], [BF16, BF16]) == ("GEMM", 240, 2 * (20 + 30 + 24))
    assert figures("aten::addmm", [[6], [4, 5], [5, 6], [], []], [F32, F32, F32, "Scalar", "Scalar"]) == (
        *("GEMM", 240),
        4 * (6 + 20 + 30 + 24),
    )
    assert figures("aten::bmm", [[3, 4, 5], [3, 5, 6]], [BF16, BF16]) == ("GEMM", 720, 2 * 3 * (20 + 30 + 24))
    assert figures("aten::linear", [[2, 4, 5], [6, 5], [6]], [F32, F32, F32]) == ("GEMM", 480, 4 * (40 + 30 + 6 + 48))
    eight = "c10::Float8_e4m3fn"
    assert figures("aten::_scaled_mm", [[4, 5], [5, 6]], [eight, eight]) == ("GEMM", 240, None)


def test_attention_counts_the_pairs_that_attend() -> None:
    dims, types = [[2, 7, 3, 8], [2, 9, 3, 8], [2, 9, 3, 8]], [BF16] * 3
    moved = 2 * (2 * 7 * 3 * 8 * 2 + 2 * 9 * 3 * 8 * 2)
    values = ["", "", "", "", "", "7", "9", "0.", "False"]
    assert figures("aten::_flash_attention_forward", dims, types, values) == ("attention", 4 * 6 * 63 * 8, moved)
    causal = sum(9 - 7 + i + 1 for i in range(7))
    values[-1] = "True"
    assert figures("aten::_flash_attention_forward", dims, types, values) == ("attention", 4 * 6 * causal * 8, moved)
    assert figures("aten::_flash_attention_forward", dims, types) is None, "nothing says whether it is causal"
    packed = [[14, 3, 8], [18, 3, 8], [18, 3, 8]]
    assert figures("aten::_flash_attention_forward", packed, types, values) is None, "rows of unknown length"


def test_convolutions() -> None:
    values = ["", "", "", "[1, 1]", "[2, 2]", "[1, 1]", "1", "False", "False"]
    work = figures("aten::miopen_convolution", [[2, 3, 8, 8], [5, 3, 3, 3], [5]], [F32] * 3, values)
    assert work == ("convolution", 2 * 2 * 5 * 16 * 27, 4 * (2 * 3 * 64 + 5 * 27 + 2 * 5 * 16))
    back = ["", "", "", "", "[2, 2]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1", "[True, True, False]"]
    dims = [[2, 5, 4, 4], [2, 3, 8, 8], [5, 3, 3, 3]]
    gradient = figures("aten::convolution_backward", dims, [F32] * 3, back)
    assert gradient is not None
    assert gradient[1] == 2 * work[1]
    back[-1] = "[False, True, False]"
    alone = figures("aten::convolution_backward", dims, [F32] * 3, back)
    assert alone is not None
    assert alone[1] == work[1]


def test_what_moves_memory() -> None:
    assert figures("aten::add", [[4, 5], [5], []], [BF16, BF16, "Scalar"]) == ("elementwise", 20, 2 * (20 + 5 + 20))
    assert figures("aten::add_", [[4, 5], [4, 5], []], [BF16, BF16, "Scalar"]) == ("elementwise", 20, 2 * 60)
    assert figures("aten::mul", [[4, 5], []], [F32, "double"]) == ("elementwise", 20, 4 * 40)
    assert figures("aten::relu", [[4, 5], [4, 5]], [F32, F32]) == ("elementwise", 20, 4 * 40), "an out= tensor"
    assert figures("aten::gt", [[4, 5], [4, 5]], [F32, F32]) == ("elementwise", 20, 4 * 40 + 20)
    assert figures("aten::copy_", [[4, 5], [4, 5], []], [BF16, F32, "Scalar"]) == ("copy", 0, 40 + 80)
    expanded = figures("aten::copy_", [[4, 5], [4, 5], []], [BF16, BF16, "Scalar"], None, [[5, 1], [0, 1], []])
    assert expanded == ("copy", 0, 40 + 10), "an expanded input lies in memory once"
    layer = [[4, 5], [], [5], [5], []], [F32, "ScalarList", F32, F32, "Scalar"]
    assert figures("aten::native_layer_norm", *layer) == ("norm", 160, 4 * (20 + 10 + 20))
    assert figures("aten::_softmax", [[4, 5], [], []], [F32, "Scalar", "Scalar"]) == ("softmax", 100, 4 * 40)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("aten::mm", shape([[4, 5], [6, 7]], [F32, F32])),
        ("aten::mm", shape([[4, 5]], [F32])),
        ("aten::mm", shape([[4, "5"], [5, 6]], [F32, F32])),
        ("aten::mm", "null"),
        ("aten::mm", "[[],[],[]]"),
        ("aten::cat", shape([[[4, 5], [4, 5]], []], ["TensorList", "Scalar"])),
        ("my::op", shape([[4, 5]], [F32])),
        ("aten::add", shape([[4, 5], [3]], [F32, F32])),
        ("aten::mm", shape([[2**70, 5], [5, 6]], [F32, F32])),
    ],
)
def test_what_does_not_fit_is_unknown(name: str, text: str) -> None:
    assert operator_work(name, text) is None


def test_a_type_that_is_not_known_leaves_the_bytes_open() -> None:
    assert figures("aten::mm", [[4, 5], [5, 6]], ["c10::Float4", "c10::Float4"]) == ("GEMM", 240, None)


def test_torchs_own_counter_agrees() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    a, b, c = torch.rand(7, 11), torch.rand(11, 5), torch.rand(3, 7, 11)
    x, w = torch.rand(2, 6, 9, 9), torch.rand(8, 3, 3, 3)
    cases = [
        (lambda: a @ b, figures("aten::mm", [[7, 11], [11, 5]], [F32, F32])),
        (lambda: torch.bmm(c, c.mT), figures("aten::bmm", [[3, 7, 11], [3, 11, 7]], [F32, F32])),
        (
            lambda: torch.conv2d(x, w, stride=2, padding=1, groups=2),
            figures(
                "aten::cudnn_convolution",
                [[2, 6, 9, 9], [8, 3, 3, 3]],
                [F32, F32],
                ["", "", "[1, 1]", "[2, 2]", "[1, 1]", "2"],
            ),
        ),
    ]
    for run, expected in cases:
        with FlopCounterMode(display=False) as counter:
            run()
        assert expected is not None
        assert counter.get_total_flops() == expected[1]


def test_shapes_are_readable() -> None:
    assert shape_text(shape([[8944, 1024], [1024, 2816]], [BF16, BF16])) == "8944×1024, 1024×2816 (bf16)"
    assert shape_text(shape([[], []], ["Scalar", ""])) == ""
    assert shape_text("x") == ""


def test_cards_are_known_by_name() -> None:
    def tera(name: str) -> float | None:
        peaks = peaks_of(Card(0, name))
        return None if peaks is None else peaks.bytes_per_second / 1e12

    assert tera("NVIDIA H100 80GB HBM3") == 3.35
    assert tera("NVIDIA H100 PCIe") == 2.0
    assert tera("NVIDIA H200") == 4.8
    assert tera("AMD Instinct MI300X") == 5.3
    assert tera("NVIDIA A100-SXM4-80GB") == 2.039
    assert tera("Another Card") is None
    assert peaks_of(None) is None


def event(name: str, cat: str, at: float, long: float, **args: object) -> dict[str, object]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 100, "tid": 7, "ts": at, "dur": long, "args": args}


GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"


@pytest.mark.parametrize("behind", [False, True])
def test_a_file_with_shapes_says_how_near_the_peak_it_is(tmp_path, behind: bool) -> None:
    shapes = {"Input Dims": [[4096, 4096], [4096, 4096]], "Input type": [BF16, BF16]}
    events = []
    for i in range(20):
        at = i * 1_000.0
        events += [
            event("aten::mm", "cpu_op", at, 20, **shapes, **{"Input Strides": [[4096, 1], [1, 4096]]}),
            event("cudaLaunchKernel", "cuda_runtime", at + 5, 3, correlation=i + 1),
            event(GEMM, "kernel", at + 30, 200, correlation=i + 1, device=0, stream=7),
        ]
    head = {"deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85e9}]}
    parts = {"traceEvents": events, **head} if behind else {**head, "traceEvents": events}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(parts))
    analysis = read_trace(path)
    found = analysis.launched_by
    assert found is not None
    assert found.card is not None
    (row,) = found.work
    assert (row.operator, row.kind, row.calls, row.total_ns) == ("aten::mm", "GEMM", 20, 20 * 200_000)
    assert row.flop == 2 * 4096**3
    assert row.bytes == 3 * 2 * 4096**2
    assert row.bound == "compute"
    least_us = row.flop / 989.4e12 * 1e6
    assert row.of_peak == pytest.approx(least_us / 200, rel=1e-4)
    assert analysis.kernels[0].of_peak == row.of_peak
    assert analysis.kernels[0].flop_per_second == pytest.approx(row.flop / 200e-6)


def test_a_files_order_does_not_order_rows_of_equal_time(tmp_path) -> None:
    events = []
    for i, name in enumerate(("mul", "div", "add", "sub", "neg", "abs")):
        at = i * 1_000.0
        shapes = {"Input Dims": [[64, 64], [64, 64]], "Input type": [F32, F32]}
        events += [
            event(f"aten::{name}", "cpu_op", at, 20, **shapes),
            event("cudaLaunchKernel", "cuda_runtime", at + 5, 3, correlation=i + 1),
            event(f"{name}_kernel", "kernel", at + 30, 200, correlation=i + 1, device=0, stream=7),
        ]
    said = []
    for order, name in ((events, "a.json"), (events[::-1], "b.json")):
        (tmp_path / name).write_text(json.dumps({"traceEvents": order}))
        analysis = read_trace(tmp_path / name)
        assert analysis.launched_by is not None
        said.append((analysis.kernels, analysis.launched_by.work))
    assert said[0] == said[1]
    assert [kernel.name for kernel in said[0][0]][:2] == ["abs_kernel", "add_kernel"]
    assert [row.operator for row in said[0][1]][:2] == ["aten::abs", "aten::add"]


def test_a_copy_over_the_bus_is_not_measured_by_the_memory(tmp_path) -> None:
    events = [
        event("aten::copy_", "cpu_op", 0, 20, **{"Input Dims": [[1000], [1000]], "Input type": [F32, F32]}),
        event("cudaMemcpyAsync", "cuda_runtime", 5, 3, correlation=1),
        event("Memcpy HtoD (Pinned -> Device)", "gpu_memcpy", 30, 9, correlation=1, device=0, stream=7, bytes=4000),
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"deviceProperties": [{"id": 0, "name": "H100"}], "traceEvents": events}))
    found = read_trace(path).launched_by
    assert found is not None
    assert (found.work[0].bytes, found.work[0].of_peak, found.work[0].bound) == (8000, None, None)


@pytest.mark.parametrize("damaged", [3, "H100", [3], [{"id": "x", "name": 5}], [{"name": "H100"}]])
def test_a_damaged_list_of_devices_costs_nothing_else(tmp_path, damaged: object) -> None:
    path = tmp_path / "a.json"
    events = [event(GEMM, "kernel", 30, 200, correlation=1, device=0, stream=7)]
    path.write_text(json.dumps({"deviceProperties": damaged, "traceEvents": events}))
    assert read_trace(path).devices[0].busy_ns == 200_000


@pytest.mark.parametrize(("length", "said"), [(2048, "16 × 2048 tokens"), (None, "")])
def test_a_step_says_which_tokens_it_embeds(tmp_path, length: int | None, said: str) -> None:
    """One profiled prefill: the shapes of its embedding tell it from a decode step."""
    shapes = {"Input Dims": [[151936, 1024], [16, length]], "Input type": [BF16, "long int"]} if length else {}
    events = [event("ProfilerStep#3", "user_annotation", 0, 60_000)]
    for i, name in enumerate(["gather", *["gemm", "flash_fwd", "gemm", "rms_norm"] * 12, "argmax"]):
        at = 10 + i * 1_000.0
        operator = "aten::embedding" if name == "gather" else "aten::mm"
        given = shapes if name == "gather" else {}
        events += [
            event(operator, "cpu_op", at, 20, **given),
            event("cudaLaunchKernel", "cuda_runtime", at + 5, 3, correlation=i + 1),
            event(name, "kernel", at + 30, 800, correlation=i + 1, device=0, stream=7),
        ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"traceEvents": events}))
    analysis = read_trace(path)
    assert analysis.steps.tokens == ([16, length] if length else None)
    assert said in analysis.advice
    assert "12 layers" in analysis.advice
