"""Capture the small real traces that the tests ship (tests/trace/data). Needs a GPU.

    python benchmarks/capture_traces.py

One generate() of the small Qwen3 preset each: with the dynamic cache (every kernel launched by the host) and with
the static one (the decode step compiled and replayed as a CUDA graph). Only what a reader needs is kept.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs

TOKENS = 13  # 12 decode steps of 8 layers
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds", "traceEvents")


def main() -> None:
    """Write two traces to $OUT or tests/trace/data."""
    folder = Path(os.environ.get("OUT") or Path(__file__).parents[1] / "tests" / "trace" / "data")
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_model("preset:tiny-llm", device="cuda")
    inputs = make_inputs(loaded, prompt_tokens=64)
    for name, cache in (("decode-eager", None), ("decode-graph", "static")):
        call: dict[str, Any] = {**inputs.kwargs, "max_new_tokens": TOKENS, "do_sample": False}
        if cache:
            call["cache_implementation"] = cache
        for _ in range(4):
            loaded.model.generate(**call)
        torch.cuda.synchronize()
        target = folder / f"{name}.json.gz"
        target.write_bytes(gzip.compress(json.dumps(captured(loaded.model, call)).encode(), 9, mtime=0))
        print(target, target.stat().st_size)


def captured(model: Any, call: dict[str, Any]) -> dict[str, Any]:
    """One profiled call, without paths and other particulars of the machine."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        model.generate(**call)
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "trace.json"
        profiler.export_chrome_trace(str(file))
        whole = json.loads(file.read_text())
    return {key: whole[key] for key in KEPT if key in whole}


if __name__ == "__main__":
    main()
