"""What each knob of the large glyphs model should buy, by operations and bytes alone. Runs no model and needs no GPU.

    python benchmarks/glyphs_large.py

Rates are those that benchmarks/fast.py measured on an H200 (results/fast-molmoe-1b.json). A stage's floor is the larger
of its operations over the dense rate and its bytes over the copy bandwidth; launches count nothing, as on FastModel.
Writes benchmarks/results/glyphs_large.json and the table in docs/glyphs.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch
from into_docs import result
from transformers import LlavaNextForConditionalGeneration

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.glyphs.batches import Knobs  # noqa: E402
from examples.glyphs.model import LONGEST_ANSWER, PATCH, TILE, TILINGS, make_config  # noqa: E402

from laptime.estimate.roofline.roofline import CallSizes, ModelShape, Rates, floor_ms, shape_of, work  # noqa: E402
from laptime.measure.environment import describe  # noqa: E402

QUESTION = 12
"""Tokens of a question beside the image."""
FULL = Knobs("high", 8, 8)
SETTINGS = (
    ("9 crops, top-8, 8 blocks", FULL),
    ("4 crops", Knobs("medium", 8, 8)),
    ("1 crop", Knobs("low", 8, 8)),
    ("top-4", Knobs("high", 4, 8)),
    ("top-2", Knobs("high", 2, 8)),
    ("4 blocks", Knobs("high", 8, 4)),
    ("1 crop, top-2, 4 blocks", Knobs("low", 2, 4)),
)
STAGES = ("vision", "prefill", "decode")


def main() -> None:
    """Compute, record, and fill the page's table."""
    measured = result("fast-molmoe-1b")["figures"]
    rates = Rates(bandwidth_gb_s=measured["copy_gb_per_s"], tflop_s=measured["dense_tflop_per_s"], launch_us=0.0)
    shape = shape_of(make_config("large").to_dict())
    rows = [{"what": what, **floors(shape, knobs, rates)} for what, knobs in SETTINGS]
    for row in rows:
        row["left"] = round(row["total_ms"] / rows[0]["total_ms"], 3)
    small = floors(shape_of(make_config("full").to_dict()), Knobs("high", 4, 8), rates)
    with torch.device("meta"):
        model = LlavaNextForConditionalGeneration(make_config("large"))
    figures = {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "copy_gb_per_s": rates.bandwidth_gb_s,
        "dense_tflop_per_s": rates.tflop_s,
        "answer_tokens": LONGEST_ANSWER,
        "rows": rows,
        "small": small,
    }
    record("glyphs_large", figures, describe(torch.device("cpu")))
    block = table(figures)
    page = ROOT / "docs" / "glyphs.md"
    marked = r"(<!-- glyphs-large:begin -->\n).*?(<!-- glyphs-large:end -->)"
    content = page.read_text(encoding="utf-8")
    page.write_text(re.sub(marked, lambda m: m[1] + block + m[2], content, flags=re.DOTALL), encoding="utf-8")
    print(block)


def floors(shape: ModelShape, knobs: Knobs, rates: Rates) -> dict[str, Any]:
    """Work and floor of each stage of one call. Decode: all steps of the longest answer."""
    side, cut = TILE // PATCH, TILINGS[knobs.tier]
    image = side**2 + side * cut * (side * cut + 1)  # the overview, and each row of the page with its newline
    call = CallSizes(
        prompt=image + QUESTION,
        output=LONGEST_ANSWER,
        batch=1,
        tiles=cut**2 + 1,
        blocks=knobs.blocks,
        top_k=knobs.top_k,
    )
    done = work(shape, call)
    row: dict[str, Any] = {"prompt_tokens": call.prompt}
    for stage in STAGES:
        times = LONGEST_ANSWER - 1 if stage == "decode" else 1
        gflop, gb = (float(done[f"{stage}_{unit}"]) * times for unit in ("gflop", "gb"))
        ms = floor_ms(gflop, gb, 0.0, rates)
        row[stage] = {"gflop": round(gflop, 2), "gb": round(gb, 4), "ms": round(float(ms), 4)}
    row["total_ms"] = round(sum(row[stage]["ms"] for stage in STAGES), 4)
    return row


def table(figures: dict[str, Any]) -> str:
    """The page's table, with the sentence under it."""
    lines = ["| setting | vision | prefill | decode | sum | left |", "|---|---|---|---|---|---|"]
    for row in figures["rows"]:
        cells = [cell(row[stage]) for stage in STAGES]
        lines.append(f"| {row['what']} | {' | '.join(cells)} | {row['total_ms']:.2f} ms | {100 * row['left']:.0f} % |")
    return "\n".join(lines) + (
        "\n\nEach row changes what it names. Cells: GFLOP, GB, floor in ms. "
        f"{figures['weights'] / 1e6:.0f} M weights in bfloat16, batch 1, answers of {figures['answer_tokens']} tokens. "
        f"Rates of an H200: {figures['dense_tflop_per_s']:.0f} TFLOP/s and {figures['copy_gb_per_s']:.0f} GB/s. The "
        f"committed model's dearest setting has a floor of {figures['small']['total_ms']:.3f} ms. Written by "
        "`python benchmarks/glyphs_large.py`.\n"
    )


def cell(stage: dict[str, float]) -> str:
    """One stage in one cell."""
    return f"{stage['gflop']:.0f}, {stage['gb']:.2f}, {stage['ms']:.3f}"


if __name__ == "__main__":
    main()
