"""What each knob buys on FastModel, beside what operations and bytes say: crops, experts, blocks of molmoe-1b's shapes.

    python benchmarks/fast_knobs.py

Each row changes one knob of the dearest setting (12 crops, top-k 8, 16 blocks). A stage's work says what share of the
dearest setting's floor it has left; measured is what share of its time. benchmarks/results/fast-knobs.json.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from laptime.decoder import FastModel
from laptime.decoder.fast_model import Setting
from laptime.decoder.timed import CallTimer
from laptime.measure.environment import describe
from laptime.models.loading import load_model
from laptime.remedy.call_floor import call_floor, dense_tflop_per_s
from laptime.remedy.floor import copy_gb_per_s
from laptime.workload.inputs import make_inputs
from recorded import record

TOKENS, CALLS = 6, 12
DEVICE = "cuda"
ROWS = [
    ("12 crops, top-k 8, 16 blocks", 12, 8, 16),
    ("1 crop", 1, 8, 16),
    ("6 crops", 6, 8, 16),
    ("top-k 2", 12, 2, 16),
    ("8 blocks", 12, 8, 8),
    ("1 crop, top-k 2, 8 blocks", 1, 2, 8),
]
STAGES = ("vision", "prefill", "decode")


def main() -> None:
    """Measure the rows and print them."""
    loaded = load_model("preset:molmoe-1b", device=DEVICE)
    model, device = loaded.model, torch.device(DEVICE)
    model.generation_config.eos_token_id = None
    bandwidth, rate = copy_gb_per_s(device), dense_tflop_per_s(device, loaded.dtype)
    rows: list[dict[str, Any]] = []
    with FastModel(model) as fast:
        timer = CallTimer(model)
        for title, crops, top_k, blocks in ROWS:
            given = make_inputs(
                loaded, prompt_tokens=32, image_size=(1024, 768), crops=(crops, crops), new_tokens=TOKENS
            )
            inputs = dict(given.kwargs)
            ids = inputs.pop("input_ids")
            setting = Setting(None if blocks == 16 else tuple(range(blocks)), top_k)

            def run(mark: Any, _: Any, ids: Any = ids, inputs: Any = inputs, setting: Any = setting) -> Any:
                call = {**inputs, "max_new_tokens": TOKENS, "do_sample": False}
                return fast.run(ids, call, mark=mark, setting=setting)

            samples = [timer(run, ids, probed=False) for _ in range(CALLS + 3)][3:]
            with fast.plan.with_top_k(top_k):
                plan = fast.plan.with_blocks(setting.active)
                floor = call_floor(model, plan, {"input_ids": ids, **inputs}, bandwidth, rate)
                step = (plan.weight_bytes() + plan.cache_bytes(ids.shape[1])) / bandwidth / 1e6
            assert floor.vision is not None
            floors = {"vision": floor.vision.ms, "prefill": floor.prefill.ms, "decode": (TOKENS - 1) * step}
            times = {stage: median(getattr(sample.stages, f"{stage}_ms") for sample in samples) for stage in STAGES}
            total = median(sample.stages.total_ms for sample in samples)
            rows.append({"what": title, "total_ms": round(total, 3), "floors": floors, "times": times})
    base = rows[0]
    for row in rows:
        row["left"] = {
            stage: [round(row[kind][stage] / base[kind][stage], 3) for kind in ("times", "floors")] for stage in STAGES
        }
        parts = [f"{s} {row['times'][s]:.2f} ms ({row['left'][s][0]:.2f}, {row['left'][s][1]:.2f})" for s in STAGES]
        print(f"{row['what']:30}", f"{row['total_ms']:.2f} ms", "; ".join(parts))
    print("written to", record("fast-knobs", {"tokens": TOKENS, "rows": rows}, describe(device)))


if __name__ == "__main__":
    main()
