"""Kernel names that a person can read, families, and the ranking."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.trace.analysis import analyse
from laptime.trace.kernel_names import COLLECTIVE, FAMILIES, communicates, family, short_name
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
        ("sage_fwd", "sage_fwd", "attention"),
        ("bmm_Bfloat16_MxE2m1MxE4m3_Fp32_t128x16x256u2", "bmm_Bfloat16_MxE2m1MxE4m3_Fp32_t128x16x256u2", "GEMM"),
        (f"void {AT}(anonymous namespace)::RowwiseMomentsCUDAKernel<float>(long)", "RowwiseMomentsCUDA", "norm"),
        ("void flip_filter<float, float>(float*, float const*, int)", "flip_filter", "convolution"),
        ("void fbgemm_gpu::_FP8rowwise_to_float_cuda_kernel<float>(int)", "FP8rowwise_to_float_cuda", "elementwise"),
        (f"void {AT}triu_tril_kernel<float, int, false, 2, false>(int)", "triu_tril", "elementwise"),
        ("loop_convert_fusion", "loop_convert_fusion", "elementwise"),
        ("void ck_tile::kentry<2, ck_tile::MoeSortingKernel<ck_tile::Problem<int> >, Kargs>(int)", "MoeSorting", "moe"),
        ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_4PipeEEEJEEvv", "Rmsnorm2dFwd", "norm"),
        (
            "void rocprim::detail::trampoline_kernel<rocprim::default_config, rocprim::scan_impl<1> >(int)",
            "rocprim scan",
            "reduce",
        ),
        ("wrapped_slice", "wrapped_slice", "copy"),
        ("__myl_Fc_0x12", "myl_Fc_0x12", "GEMM"),
        ("_fwd_grouped_kernel_stage1", "fwd_grouped_stage1", "attention"),
        ("wholly_unknown", "wholly_unknown", "other"),
    ],
)
def test_names_are_folded(name: str, short: str, kind: str) -> None:
    assert (short_name(name), family(name)) == (short, kind)


@given(st.text(max_size=300))
def test_any_name_gives_a_short_one(name: str) -> None:
    assert 0 < len(short_name(name)) <= 64
    assert family(name) in FAMILIES
    assert communicates(name) == (family(name) == COLLECTIVE)
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


COMMONEST = Path(__file__).parent / "data" / "kernel_families.tsv"
"""The 400 commonest kernel names of 33 traces (some cut): families by the rules, then looked through by eye."""


def test_the_commonest_kernels_have_their_family() -> None:
    rows = [line.split("\t", 1) for line in COMMONEST.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 400
    wrong = {name: (family(name), expected) for expected, name in rows if family(name) != expected}
    assert wrong == {}
    assert [name for _, name in rows if communicates(name)] == [name for kind, name in rows if kind == COLLECTIVE]


def test_what_a_kernel_is_called_with_makes_it_no_collective() -> None:
    for name in ("triton_poi_fused_all_reduce_0", "cutlass::device_kernel<fmha<AllReduce>>", "copy_kernel<nccl::Op>"):
        assert not communicates(name) and family(name) != COLLECTIVE
    assert communicates("run_kernel<ncclDevKernel_AllReduce>")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void qk_int_sv_f8_attn_kernel<128u, 64u, 32u, 64u, 128u, (DataType)0>(signed char*)", "attention"),
        ("void cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*, RankSignals, Signal*)", "collective"),
        ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<8>(int)", "collective"),
        ("void flashinfer::norm::FusedAddRMSNormKernel<8u, __nv_bfloat16>(__nv_bfloat16*)", "norm"),
        ("void flashinfer::activation::act_and_mul_kernel<__nv_bfloat16, silu>(int)", "elementwise"),
        ("void flashinfer::sampling::TopKTopPSamplingFromProbKernel<1024u>(float*)", "sort"),
        ("void flashinfer::BatchQKApplyRotaryPosIdsCosSinCacheEnhancedKernel<true, 128u>()", "rope"),
        ("void flashinfer::AppendPagedKVCacheKernel<128u, 4u>()", "copy"),
        ("void flashinfer::BatchPrefillWithRaggedKVCacheKernel<Params>()", "attention"),
        ("void flashinfer::PrefillWithKVCacheKernel<Traits>()", "attention"),
        ("void flashinfer::SingleDecodeWithKVCacheKernel<Params>()", "attention"),
        ("void flashinfer::PersistentVariableLengthMergeStatesKernel<8u>()", "attention"),
        ("sm90_fp8_mqa_logits", "attention"),
        ("void mul_mat_vec_q<(ggml_type)12, 1>(void const*)", "GEMV"),
        ("void mul_mat_q<(ggml_type)12, 64, 8, false>(char const*)", "GEMM"),
        ("void rope_norm<true, float>(float const*)", "rope"),
        ("void k_get_rows_float<float, float>(float const*)", "gather"),
        ("_lora_expand_kernel", "GEMM"),
        ("liger_cross_entropy_kernel", "reduce"),
        ("void tensorrt_llm::kernels::twoShotAllReduceKernel<float, 8>(AllReduceParams)", "collective"),
        ("multimem_all_reduce_kernel<c10::BFloat16, 16>(float*)", "collective"),
        ("void small_reduce_kernel<float>(float*)", "reduce"),
        ("mscclKernel_Sum_half_LL(ncclDevComm*, mscclAlgo*, mscclWork*)", "collective"),
        ("void tensorrt_llm::kernels::mnnvl::twoshotAllreduceKernel<float>(float*)", "collective"),
        ("userbuffers_fp16_sum_inplace_gpu_rr_rs_oop<16>(int)", "collective"),
        ("void c10d::symmetric_memory::put_signal_kernel(unsigned int**)", "collective"),
        ("wait_signal_kernel(unsigned int*, unsigned int**, int)", "collective"),
        ("void rocshmem::rocshmem_putmem(void*)", "collective"),
        ("void regular_fft<256u, 4u, 16u, (padding_t)1>(kernel_arguments_t)", "fft"),
        ("void at::native::avg_pool2d_out_cuda_frame<float, float>(int)", "pooling"),
        ("triton_poi_fused__to_copy_cat_clone_3", "copy"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_5", "norm"),
        ("triton_per_fused__softmax_2", "softmax"),
        ("triton_poi_fused_addmm_fmha_fwd_gelu_7", "elementwise"),
        ("triton_tem_fused_mm_12", "GEMM"),
        ("triton_tem_fused_flex_attention_0", "attention"),
        ("void causal_conv1d_fwd_kernel<Causal_conv1d_fwd_kernel_traits<128, 4>>(ConvParamsBase)", "convolution"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>(long const*)", "copy"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_32x6_tn_align8>(Params)", "GEMM"),
        ("void cutlass::device_kernel<flash::FlashAttnBwd<flash::MainloopBwd<2, bf16>>>(Params)", "attention"),
        ("_ZN7cutlass13device_kernelIN5flash12FlashAttnFwdINS1_10CollectiveEEEEEvNT_6ParamsE", "attention"),
        ("void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)", "collective"),
        ("void other::ep::internode::combine<false, 8, __nv_bfloat16>(int4*)", "collective"),
        ("void deep_ep::layout::get_dispatch_layout<256, 32, 8>(long const*, int*)", "other"),
        ("void deep_ep::internode::get_dispatch_layout<256, 4, 8>(long const*, int*)", "other"),
        ("void mori::moe::EpDispatchIntraNodeKernel<hip_bfloat16>(EpDispatchCombineArgs)", "collective"),
        ("void step::internal_combine<float>(float*)", "other"),
        ("fused_recurrent_gated_delta_rule_packed_decode_kernel", "attention"),
        ("void selective_scan_fwd_kernel<Selective_Scan_fwd_kernel_traits<128, 16>>(SSMParamsBase)", "attention"),
        ("void vllm::cvt_fp16_to_fp4<__nv_bfloat16, false>(int, int)", "elementwise"),
        ("void MatrixMulCUDA<32>(float*, float*, float*, int, int)", "GEMM"),
        ("naive_matrix_multiply(float*, float*, float*, int)", "GEMM"),
        ("multiplyMatrices(float*, float*)", "GEMM"),
        ("matrixVectorMul(float*, float*)", "GEMV"),
        ("tensor_multiply_3d(float*, float*, float*, int, int, int)", "other"),  # of matrices, as it happens
        ("cupy_multiply__float_float32_float32", "elementwise"),
        ("vecMul(float*, float*)", "elementwise"),
        ("vectorAdd(float const*, float const*, float*, int)", "elementwise"),
        ("simulateStep(Particle*, int)", "other"),
        ("accumulateForces(float3*, int)", "other"),
        ("loadData(float*, int)", "other"),
    ],
)
def test_families_beyond_the_commonest(name: str, expected: str) -> None:
    assert family(name) == expected
