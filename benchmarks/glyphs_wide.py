"""What each knob of the wide glyphs model takes by operations and bytes, beside what it took on FastModel.

    python benchmarks/glyphs_wide.py

Runs no model: times are those of `benchmarks/control_fast.py --name control-fast-wide`, rates those that
benchmarks/fast.py measured on the same kind of GPU (results/fast-molmoe-1b.json). A stage's floor is the larger of its
operations over the dense rate and its bytes over the copy bandwidth. Writes benchmarks/results/glyphs_wide.json and the
table in docs/glyphs.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch
from into_docs import machine, result
from transformers import LlavaNextForConditionalGeneration

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.glyphs.batches import Knobs  # noqa: E402
from examples.glyphs.model import LONGEST_ANSWER, PATCH, TILE, TILINGS, make_config  # noqa: E402
from examples.glyphs.widen import wide_config  # noqa: E402

from laptime.estimate.roofline.roofline import CallSizes, ModelShape, Rates, floor_ms, shape_of, work  # noqa: E402
from laptime.measure.environment import describe  # noqa: E402

QUESTION = 12
"""Tokens of a question beside the image."""
SETTINGS = (
    ("high, top-4, 8 blocks", Knobs("high", 4, 8)),
    ("medium", Knobs("medium", 4, 8)),
    ("low", Knobs("low", 4, 8)),
    ("top-1", Knobs("high", 1, 8)),
    ("4 blocks", Knobs("high", 4, 4)),
    ("2 blocks", Knobs("high", 4, 2)),
    ("low, top-1, 2 blocks", Knobs("low", 1, 2)),
)
"""The dearest setting; then what each row changes of it."""
STAGES = ("vision", "prefill", "step")
"""The run's step_ms is decode over the tokens after the first: of most answers one, so that it is all of decode."""
STEPS = 2
"""Steps that such an answer runs: its own, and the one that runs while the host looks whether the answer has ended."""


def main() -> None:
    """Compute, record, and fill the page's table."""
    measured = result("fast-molmoe-1b")["figures"]
    rates = Rates(bandwidth_gb_s=measured["copy_gb_per_s"], tflop_s=measured["dense_tflop_per_s"], launch_us=0.0)
    config = wide_config(make_config("full"))
    shape = shape_of(config.to_dict())
    run = result("control-fast-wide")
    choices = run["figures"]["choices"]
    rows = []
    for what, knobs in SETTINGS:
        taken = choices[f"{knobs.tier}, top-{knobs.top_k}, {knobs.blocks} blocks"]
        floor = floors(shape, knobs, rates)
        rows.append({"what": what, **floor, "taken": {stage: taken[f"{stage}_ms"] for stage in STAGES}})
    for row in rows:
        row["left"] = {
            stage: [round(row[kind][stage] / rows[0][kind][stage], 3) for kind in ("floor_ms", "taken")]
            for stage in STAGES
        }
    with torch.device("meta"):
        model = LlavaNextForConditionalGeneration(config)
    small = floors(shape_of(make_config("full").to_dict()), SETTINGS[0][1], rates)["floor_ms"]
    figures = {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "copy_gb_per_s": rates.bandwidth_gb_s,
        "dense_tflop_per_s": rates.tflop_s,
        "rows": rows,
        "small_floor_ms": small,
    }
    record("glyphs_wide", figures, describe(torch.device("cpu")))
    block = table(figures, machine(run))
    page = ROOT / "docs" / "glyphs.md"
    marked = r"(<!-- glyphs-wide:begin -->\n).*?(<!-- glyphs-wide:end -->)"
    content = page.read_text(encoding="utf-8")
    page.write_text(re.sub(marked, lambda m: m[1] + block + m[2], content, flags=re.DOTALL), encoding="utf-8")
    print(block)


def floors(shape: ModelShape, knobs: Knobs, rates: Rates) -> dict[str, Any]:
    """The floor of vision, prefill and all steps of decode, in ms."""
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
    floor = {}
    for stage, name in zip(STAGES, ("vision", "prefill", "decode"), strict=True):
        gflop, gb = (float(done[f"{name}_{unit}"]) for unit in ("gflop", "gb"))
        steps = STEPS if name == "decode" else 1
        floor[stage] = round(steps * float(floor_ms(gflop, gb, 0.0, rates)), 4)
    return {"prompt_tokens": call.prompt, "floor_ms": floor}


def table(figures: dict[str, Any], where: str) -> str:
    """The page's table, with the sentence under it."""
    lines = ["| setting | prompt | vision | prefill | decode |", "|---|---|---|---|---|"]
    for row in figures["rows"]:
        cells = [
            f"{row['taken'][stage]:.2f} ms (floor {row['floor_ms'][stage]:.2f})"
            + ("" if row is figures["rows"][0] else f", {share(row, stage, 1)} left (floor {share(row, stage, 0)})")
            for stage in STAGES
        ]
        lines.append(f"| {row['what']} | {row['prompt_tokens']} | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        "\n\nEach row changes what it names. "
        f"{figures['weights'] / 1e9:.2f} billion weights, bfloat16, batch 1; {where}. "
        f"Decode: {STEPS} steps, of an answer of two tokens. "
        f"Floors: {figures['dense_tflop_per_s']:.0f} TFLOP/s and {figures['copy_gb_per_s']:.0f} GB/s. Written by "
        "`python benchmarks/glyphs_wide.py`.\n"
    )


def share(row: dict[str, Any], stage: str, which: int) -> str:
    """What is left of the dearest setting's time or floor."""
    return f"{100 * row['left'][stage][which]:.0f} %"


if __name__ == "__main__":
    main()
