"""What laptime says of public traces that nobody here wrote, as the tables of docs/trace.md and docs/trace-ranks.md.

    LAPTIME_TRACES=FOLDER LAPTIME_CASES=FOLDER LAPTIME_MORE=FOLDER python benchmarks/trace_sentences.py

Small written cases and further public files stand in docs/appendix/trace-sentences.md; without LAPTIME_CASES and
LAPTIME_MORE these stay as they are.

The sentences are the headline and the advice of `laptime trace FILE`, unchanged. A test compares them with the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from laptime.trace.analysis import read_trace
from laptime.trace.ranks import read_ranks
from laptime.trace.result import TraceAnalysis

PAGE = Path(__file__).resolve().parents[1] / "docs" / "trace.md"
RANKS_PAGE = PAGE.with_name("trace-ranks.md")
APPENDIX = PAGE.with_name("appendix") / "trace-sentences.md"

FILES: dict[str, str] = {
    "qwen3_4b_hf_decode24": "eager decode of Qwen3-4B, 24 tokens",
    "TraceLens@171dd747__inference__vllm_decode_full": "vLLM, one decode step in one graph",
    "TraceLens@171dd747__traces__h100__Qwen": "one prefill, `active=1`",
    "TraceLens@2026__xdit_flux_aiter": "diffusion, FLUX, 4 steps",
    "TraceLens@2026__mi300__google_owlv2-large": "detection, images prepared on the CPU",
    "TraceLens@2026__mi300__resnet_act_checkpoint_ddp": "DDP training, one rank",
    "TraceLens@2026__ddp_resnet18": "DDP training, caching allocator off",
    "HTA@2026__trace_diff_test_6_profilersteps": "training, 6 ProfilerStep ranges",
    "HTA@2026__alexnet_first_call": "a first call, nothing warmed up",
    "nsys@2026__omp_report3_copies": "OpenMP, mostly copies",
}
"""What each file is, by the beginning of its name."""

MORE: dict[str, str] = {
    "dlrm_8_ranks": "8 ranks of one training step (a folder)",
    "nsys@2026__lighttransport_driver": "a driver too new for Nsight Systems",
    "nsys@2026__rchops_no_kernel_table": "launches, and no record of the GPU",
}
"""The same for docs/trace-ranks.md: several ranks, and traces that lack something."""

FURTHER: dict[str, str] = {
    "mstt@2026__ascend_trace_view": "an Ascend NPU",
    "TraceLens@2026__sglang_decode_capture_bs32": "SGLang while it captures a graph",
    "nsys-ai@387e5a5d__mfu_2gpu_before": "two processes on two GPUs",
    "flameox@f94c860f": "graphs recorded whole",
    "HolisticTraceAnalysis@f4d0062c__trace_diff__control": "training, one rank of a recommender",
    "HTA@2026__step_based": "small training steps, 26 kernels each",
    "HTA@2026__nccl_data": "DDP training, one rank of two",
    "param@2026__linear": "a stack of 20 linear layers, trained",
    "HolisticTraceAnalysis@f4d0062c__data__ns_resolution": "training a segmentation model",
    "kineto@be239c04": "training ResNet-50, a file of 2021",
    "GTLS@cfb514d3": "light curves of stars, kernels of its own",
    "HTA@2026__mtia_inference": "an MTIA accelerator",
    "GTLS@2c93a83f": "an OpenGL program",
    "nsys@2026__fire_first_launch": "a simulation and its first launch",
}
"""The same for the appendix."""

PUBLIC: dict[str, str] = {
    "deepseek_train": "expert-parallel training, one step of 64 ranks (deepseek-ai/profile-data, train.json)",
    "nvllm_flashinfer": "vLLM, piecewise graphs, a hybrid model (Navi-AI-Lab/nvllm, benchmarks/nvllm/traces)",
    "nvllm_B": "one kernel's test bench, in Nsight Systems (the same)",
    "nvllm_async": "vLLM's front end (the same)",
    "sam_amg": "masks of one image (pytorch-labs/segment-anything-fast, amg_example)",
    "luatil_04": "compiled training, 5 steps (luatil/torch-profile, trace_04.json)",
    "incredere_amp": "training in mixed precision (incredere/gpu-profiling-pytorch-lab, amp.pt.trace.json)",
    "kernelforge_transformer": "one transformer layer, 3 steps (marcalph/kernelforge, lambda-logs)",
    "andrewlala_gpu": "ResNet-50, one image (andrewlala/ResNet50, trace_gpu.json)",
    "sustain_street": "one batch behind its data loader (Yeok-c/sustainbench, trace_street.json)",
    "cs521_induction": "a first call of torch.compile (Aldo-Zhang/CS521-mp2-private, induction_trace.json)",
    "openacc15": "OpenACC, in Nsight Systems (PolPuigPuy/OpenACC_Project_PolPuig, report15.sqlite)",
    "gpquad": "the CPU alone (danbider/gp-quadrature, pytorch_profiler_trace.json)",
    "grof_gpu": "another profiler's file (siwaarbn/grof, gpu_trace.json)",
    "amach_resnet50": "ResNet-50, eight passes and their start-up (amacharla15/gpu-profiling-cuda-kernels)",
    "abenich_resnet": "ResNet-18, one pass (Abenich7/CPU-GPU-inference-2024---V2, resnet_inference.json)",
    "abenich_streamed": "one copy to one GPU, two kernels on another (the same, trace_streamed0_pinned0.json)",
    "wenlu": "a small network's training, bf16 (Wenlu057/ml-training-template, trace_optimized.json)",
    "hpdl_resnet50": "ResNet-50, one training step (haraldger/High-Performance-Deep-Learning)",
    "knn": "nearest neighbours in four ways (enleeyee/kNN-Benchmark, profile_report.sqlite)",
    "trisolve_la": "sparse triangular solves, one kernel 1,221 times (caoye310/Lower-Triangular-Solves, la.sqlite)",
    "gaussian2": "Gaussian elimination, two kernels in turns (kmcho2019/Rodinia_3.1_Gaussian, report2.sqlite)",
    "beast2": "OpenMP offloading (lockfuehrer/beast_ressoruces, report2.sqlite)",
    "csc746_5": "unified memory (igouProto/CSC746CUDALab, report5.sqlite)",
    "luminara": "a ray tracer (nPr0nn/Luminara-Raytracing, profile_report.sqlite)",
    "rocprof_hip": "rocprof's own file (ROCm/rocm-blogs, HIP_trace/results.json)",
    "sglang_decode32": "SGLang, one decode step of 32 requests (AMD-AGI/TraceLens, tests/traces/inference)",
    "vllm_captures": "vLLM while it captures its graph (the same)",
    "flux_captures": "FLUX, a first call that captures graphs (the same)",
    "sd35": "Stable Diffusion 3.5, compiled, 4 steps (the same)",
    "b200_eager": "vLLM, one eager prefill on a B200 (the same, b200/eager_trace)",
    "timesformer_mi300": "video classified, `active=1`, MI300 (the same, mi300)",
    "resnet_workers": "training whose loader falls behind (facebookresearch/param, resnet_kineto)",
    "minitoy_mi250": "a first training step, MI250 (facebookresearch/HolisticTraceAnalysis, amd_trace)",
    "df_index": "compiled training, one rank (the same, df_index_resolver)",
    "sampled_rank0": "two steps, of whose work a sample was kept (the same, timeline_analysis)",
    "negative_queue": "training a recommender, launches lost (the same, negative_queue_length)",
    "memfusion": "a TensorRT engine (LeiWang1999/memfusion_artifact, report1.sqlite)",
    "cuckoo": "a hash table (Ayanokoji-li/cuckoo_hash, report1.sqlite)",
    "sc23_6": "OpenMP with slow launches (RajaATAli/SC23_Programming-Your-GPU, report6.sqlite)",
    "fsdp_1s": "a second of FSDP with weights on the host (GindaChen/nsys-ai, h100_2gpu_1s.sqlite)",
}
"""Files of public repositories, looked at for the first time with the program as it was: `LAPTIME_MORE`."""

CASES: dict[str, str] = {
    "W1_": "200 ms of host work between one request's copies and the next one's",
    "W2_": "small kernels under a communication of 5 ms",
    "S1_": "26 kernels, exactly 12 times",
    "S3_": "two `ProfilerStep` ranges",
    "01_": "one duration runs over the next 100 kernels of its stream",
    "09_": "60 of 100 launches have no kernel",
    "10_": "two ranks merged under one process and device",
    "13b_": "times written as strings",
    "12_": "the old autograd profiler's export",
    "C1_": "nearly only copies",
    "N1_": "a range that ends inside a launch call",
    "n1_": "Nsight Systems noted that events may be missing",
    "n11_": "half of the time only communication runs",
    "n3_": "two processes on one GPU",
    "04e_": "one name with a raw quote and a newline",
}
"""Written cases, by the beginning of their names."""


def main() -> None:
    """Fill the marked tables."""
    traces, cases = Path(os.environ["LAPTIME_TRACES"]), os.environ.get("LAPTIME_CASES")
    tables = [(PAGE, "sentences", traces, FILES), (RANKS_PAGE, "sentences", traces, MORE)]
    tables.append((APPENDIX, "sentences", traces, FURTHER))
    if cases:
        tables.append((APPENDIX, "cases", Path(cases), CASES))
    if more := os.environ.get("LAPTIME_MORE"):
        tables.append((APPENDIX, "more", Path(more), PUBLIC))
    for page, mark, folder, files in tables:
        table = sentences(folder, files)
        text = page.read_text(encoding="utf-8")
        block = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
        page.write_text(block.sub(lambda marked, table=table: marked[1] + table + marked[2], text), encoding="utf-8")


def sentences(folder: Path, files: dict[str, str] = FILES) -> str:
    """The table, with a line for each file that the folder has."""
    lines = ["| trace | laptime says |", "|---|---|"]
    for start, what in files.items():
        file = next((path for path in sorted(folder.iterdir()) if path.name.startswith(start)), None)
        if file is not None:
            lines.append(f"| {what} | {cell(read_ranks(file).headline) if file.is_dir() else said(read_trace(file))} |")
    return "\n".join(lines) + "\n"


def said(analysis: TraceAnalysis) -> str:
    """Headline and advice as one cell."""
    if analysis.integrity.verdict == "unsupported":
        return cell(analysis.headline)
    return cell(f"{analysis.headline}. {analysis.advice}")


def cell(text: str) -> str:
    """A text inside a table of Markdown."""
    return text.replace("|", r"\|").replace("<", r"\<")


if __name__ == "__main__":
    main()
