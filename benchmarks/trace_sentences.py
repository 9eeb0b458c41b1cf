"""What laptime says of public traces that nobody here wrote, as the table of docs/trace.md.

    LAPTIME_TRACES=FOLDER python benchmarks/trace_sentences.py

The sentences are the headline and the advice of `laptime trace FILE`, unchanged. A test compares them with the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from laptime.trace.analysis import read_trace
from laptime.trace.result import TraceAnalysis

PAGE = Path(__file__).resolve().parents[1] / "docs" / "trace.md"

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


def main() -> None:
    """Fill the marked table."""
    table = sentences(Path(os.environ["LAPTIME_TRACES"]))
    text = PAGE.read_text(encoding="utf-8")
    block = re.compile(r"(<!-- sentences:begin -->\n).*?(<!-- sentences:end -->)", re.DOTALL)
    PAGE.write_text(block.sub(lambda marked: marked[1] + table + marked[2], text), encoding="utf-8")


def sentences(folder: Path) -> str:
    """The table, with a line for each file that the folder has."""
    lines = ["| trace | laptime says |", "|---|---|"]
    for start, what in FILES.items():
        file = next((path for path in sorted(folder.iterdir()) if path.name.startswith(start)), None)
        if file is not None:
            lines.append(f"| {what} | {said(read_trace(file))} |")
    return "\n".join(lines) + "\n"


def said(analysis: TraceAnalysis) -> str:
    """Headline and advice as one cell."""
    text = f"{analysis.headline}. {analysis.advice}"
    return text.replace("|", r"\|").replace("<", r"\<")


if __name__ == "__main__":
    main()
