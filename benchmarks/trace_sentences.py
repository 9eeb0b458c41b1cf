"""What laptime says of public traces that nobody here wrote, as the tables of docs/trace.md and docs/trace-ranks.md.

    LAPTIME_TRACES=FOLDER python benchmarks/trace_sentences.py

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

FILES: dict[str, str] = {
    "qwen3_4b_hf_decode24": "eager decode of Qwen3-4B, 24 tokens",
    "TraceLens@171dd747__inference__vllm_decode_full": "vLLM, one decode step in one graph",
    "TraceLens@171dd747__traces__h100__Qwen": "one prefill, `active=1`",
    "TraceLens@2026__xdit_flux_aiter": "diffusion, FLUX, 4 steps",
    "TraceLens@2026__mi300__google_owlv2-large": "detection, images prepared on the CPU",
    "TraceLens@2026__mi300__resnet_act_checkpoint_ddp": "DDP training, one rank",
    "TraceLens@2026__ddp_resnet18": "DDP training, caching allocator off",
    "HTA@2026__step_based": "small training steps, 26 kernels each",
    "HTA@2026__trace_diff_test_6_profilersteps": "training, 6 ProfilerStep ranges",
    "HTA@2026__alexnet_first_call": "a first call, nothing warmed up",
    "nsys@2026__fire_first_launch": "a simulation and its first launch",
    "nsys@2026__omp_report3_copies": "OpenMP, mostly copies",
}
"""What each file is, by the beginning of its name."""

MORE: dict[str, str] = {
    "dlrm_8_ranks": "8 ranks of one training step (a folder)",
    "HTA@2026__nccl_data": "DDP training, one rank of two",
    "HolisticTraceAnalysis@f4d0062c__trace_diff__control": "training, one rank of a recommender",
    "nsys-ai@387e5a5d__mfu_2gpu_before": "two processes on two GPUs",
    "TraceLens@2026__sglang_decode_capture_bs32": "SGLang while it captures a graph",
    "flameox@f94c860f": "graphs recorded whole",
    "nsys@2026__lighttransport_driver": "a driver too new for Nsight Systems",
    "nsys@2026__rchops_no_kernel_table": "launches, and no record of the GPU",
    "GTLS@2c93a83f": "an OpenGL program",
    "mstt@2026__ascend_trace_view": "an Ascend NPU",
    "HTA@2026__mtia_inference": "an MTIA accelerator",
}
"""The same for docs/trace-ranks.md: several ranks, and traces that lack something."""


def main() -> None:
    """Fill the marked tables."""
    for page, files in ((PAGE, FILES), (RANKS_PAGE, MORE)):
        table = sentences(Path(os.environ["LAPTIME_TRACES"]), files)
        text = page.read_text(encoding="utf-8")
        block = re.compile(r"(<!-- sentences:begin -->\n).*?(<!-- sentences:end -->)", re.DOTALL)
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
