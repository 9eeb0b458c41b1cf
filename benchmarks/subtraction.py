"""How wrong is subtraction? Each input is timed directly and by subtraction, side by side.

    python benchmarks/subtraction.py --samples 200

The model has MolmoE-1B's shapes. Its weights are float32 with generate() under bf16 autocast, then bfloat16 throughout.
Answers are short, as in visual question answering. laptime.measure.subtraction says what "by subtraction" means.
"""

from __future__ import annotations

import argparse
import random
from contextlib import nullcontext
from typing import Any

import torch

from laptime import StageTimer
from laptime.data.record import Subtraction
from laptime.data.subtraction import summarise_subtraction
from laptime.measure.environment import describe
from laptime.measure.session import Input
from laptime.measure.subtraction import subtract
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs
from recorded import record

SIZES = ((336, 336), (672, 672), (1008, 672), (1008, 1008), (1344, 1008))
ANSWERS = (1, 2, 3, 4, 6, 10)


def main() -> None:
    """Measure and write benchmarks/results/subtraction.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="preset:molmoe-1b")
    parser.add_argument("--samples", type=int, default=200)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"model": arguments.model}
    for case, dtype, autocast in (("mixed precision", "float32", "bfloat16"), ("same precision", "bfloat16", None)):
        rows, device = measure(arguments.model, arguments.samples, dtype, autocast)
        with_decode = [row for row in rows if row.direct is not None and row.direct.decode_ms is not None]
        summary = summarise_subtraction(with_decode)
        assert summary is not None
        figures[case] = {"dtype": dtype, "autocast": autocast, "summary": summary, "rows": rows}
        print(
            f"{case:15} {len(rows)} samples, {summary.samples} of them with decode steps: {summary.clamped} clamped "
            f"({100 * summary.clamped / summary.samples:.1f} %), residual {summary.residual_low_ms:.1f} to "
            f"{summary.residual_high_ms:.1f} ms, mean error {summary.error_mean_ms:+.1f} ms, "
            f"mean |error| {100 * (summary.error_relative_mean or 0):.0f} % of the direct decode"
        )
    print(record("subtraction", figures, describe(device)))


def measure(name: str, samples: int, dtype: str, autocast: str | None) -> tuple[list[Subtraction], torch.device]:
    """`samples` inputs of different crops and answer lengths, each measured both ways."""
    loaded = load_model(name, dtype=dtype)
    loaded.model.generation_config.eos_token_id = None
    shuffle = random.Random(0)
    timer = StageTimer(loaded.model)
    rows: list[Subtraction] = []
    for number in range(-5, samples):
        inputs = make_inputs(loaded, prompt_tokens=32, image_size=shuffle.choice(SIZES), seed=number + 5)
        call = {**inputs.kwargs, "max_new_tokens": shuffle.choice(ANSWERS), "do_sample": False}
        precision = torch.autocast(loaded.device.type, torch.bfloat16) if autocast else nullcontext()
        with timer, precision:
            loaded.model.generate(**call)
        row = subtract(
            loaded.model,
            timer.anatomy,
            Input(f"{number:04d}", call),
            repeat=0,
            autocast=autocast,
            direct=timer.last,
        )
        if number >= 0:
            rows.append(row)
    return rows, loaded.device


if __name__ == "__main__":
    main()
