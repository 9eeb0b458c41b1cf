"""Kernel names that a person can read, families, and the ranking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.analysis import analyse
from laptime.trace.kernel_names import FAMILIES, family, short_name
from tests.trace import engines
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow

AT = "at::native::"


@pytest.mark.parametrize(
    ("name", "short", "kind"),
    [
        ("rms_norm", "rms_norm", "norm"),
        ("_Z7add_onePKfPfi", "add_one", "elementwise"),
        ("nvjet_sm90_tst_64x8_64x16_4x1_v_bz_splitK_TNT", "nvjet 64x8 64x16 splitK", "GEMM"),
        (
            f"void {AT}vectorized_elementwise_kernel<4, {AT}BinaryFunctor<float, float, float, "
            f"{AT}binary_internal::MulFunctor<float> >, std::array<char*, 3ul> >(int, std::array<char*, 3ul>)",
            "elementwise mul",
            "elementwise",
        ),
        (
            f"void {AT}vectorized_elementwise_kernel<8, {AT}CUDAFunctor_add<c10::Half>, std::array<char*, 3ul> >(int)",
            "elementwise add",
            "elementwise",
        ),
        (
            f"void {AT}unrolled_elementwise_kernel<{AT}direct_copy_kernel_cuda(at::TensorIteratorBase&)::{{lambda()#3}}"
            "::operator()() const::{lambda(float)#1}, std::array<char*, 2ul>, 4>(int)",
            "copy",
            "copy",
        ),
        (
            f"void {AT}reduce_kernel<512, 1, {AT}ReduceOp<float, {AT}ArgMaxOps<float>, unsigned int, long, 4, 4> >()",
            "reduce arg_max",
            "reduce",
        ),
        (
            f"void {AT}(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 2>(float*)",
            "CatArrayBatchedCopy",
            "copy",
        ),
        (
            "void cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_tn_align1>(cutlass_80::Params)",
            "cutlass sgemm 128x32 8x5",
            "GEMM",
        ),
        (
            "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float, cublasGemvParams<float> >(float)",
            "gemvx",
            "GEMV",
        ),
        (
            "_ZN5flash16flash_fwd_kernelI23Flash_fwd_kernel_traitsILi128ELi64EN7cutlass10bfloat16_tEEEvNS_16Flash_fwd_paramsE",
            "flash_fwd",
            "attention",
        ),
        (
            "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT32x32x256_MI16x16x1_SN",
            "Tensile GEMM MT32x32x256",
            "GEMM",
        ),
        (
            "_ZN2at6native18elementwise_kernelILi128ELi2EZNS0_22gpu_kernel_impl_nocastIZZZNS0_23direct_copy_kernel_cuda"
            "ERNS_18TensorIteratorBaseEENKUlvE1_clEvENKUlvE5_clEvEUlfE_EEvS4_RKT_EUliE_EEviT1_" + "_padding" * 12,
            "copy",
            "copy",
        ),
        ("triton_poi_fused_add_mul_3", "triton_poi_fused_add_mul_3", "elementwise"),
        (
            "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
            "ncclDev_AllReduce_Sum_bf16_RING_LL",
            "collective",
        ),
        ("void vllm::moe::topkGating<8, 64, 4>(float const*)", "topkGating", "moe"),
        ("fused_gqa_attention", "fused_gqa_attention", "attention"),
        ("softmax_warp_forward", "softmax_warp_forward", "softmax"),
        ("void cub::DeviceRadixSortOnesweepKernel<Policy>(int)", "DeviceRadixSortOnesweep", "sort"),
        ("wholly_unknown", "wholly_unknown", "other"),
    ],
)
def test_names_are_folded(name: str, short: str, kind: str) -> None:
    assert (short_name(name), family(name)) == (short, kind)


@given(st.text(max_size=300))
def test_any_name_gives_a_short_one(name: str) -> None:
    assert 0 < len(short_name(name)) <= 64
    assert family(name) in FAMILIES
    mangled = "_Z" + name
    assert 0 < len(short_name(mangled)) <= 64


@pytest.mark.parametrize(
    "name", ["<" * 100_000, "a<b(" * 20_000, "_ZN" + "9" * 50_000, "_Z" + "3abc" * 20_000, " ", ""]
)
def test_hostile_names_cost_little(name: str) -> None:
    assert 0 < len(short_name(name)) <= 64


def test_ranking_counts_time_share_and_step() -> None:
    rows = engines.host_bound([engines.published_step()] * 5, between_ns=30_000)
    analysis = analyse(build(*rows.all))
    assert [k.total_ns for k in analysis.kernels] == sorted((k.total_ns for k in analysis.kernels), reverse=True)
    assert sum(k.total_ns for k in analysis.kernels) == analysis.devices[0].kernel_sum_ns
    assert sum(k.count for k in analysis.kernels) == analysis.devices[0].kernels
    assert sum(k.per_step or 0 for k in analysis.kernels) == analysis.steps.kernels_per_step
    assert sum(k.share for k in analysis.kernels) == pytest.approx(1.0, abs=1e-5)
    norm = next(k for k in analysis.kernels if k.name == "rms_norm")
    assert (norm.count, norm.per_step, norm.mean_ns) == (365, 73, norm.total_ns // 365)


def test_each_device_has_its_own_rows() -> None:
    rows = [ActivityRow(0, 10, "k", device=0), ActivityRow(20, 40, "k", device=0), ActivityRow(0, 5, "k", device=1)]
    assert [(k.device, k.count, k.total_ns) for k in analyse(build(rows)).kernels] == [(0, 2, 30), (1, 1, 5)]
