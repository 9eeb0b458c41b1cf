"""What a change of knobs does to a compiled decode: laptime's clean slate against caches left alone. Needs a GPU.

python benchmarks/knob_changes.py

The peer is the same model, settings and calls with dynamo's caches and transformers' compiled call left as they are.
Sixteen settings are visited twice, as a sweep would: three warm-up calls each, then the decode time per token. Dynamo
keeps eight graphs of one function (torch._dynamo.config.recompile_limit) and runs what comes later eagerly.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import Any
from unittest.mock import patch

import torch

from laptime.measure.environment import describe
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs
from recorded import record

PRESET = "preset:tiny-vlm"
SETTINGS = [ModelKnobs(blocks=blocks, top_k=top_k) for blocks in (2, 4, 6, 8) for top_k in (1, 2, 4, 8)]
NEW = 32
CALLS, WARM = 8, 3


def main() -> None:
    """Both ways over the same settings; prints one line a setting."""
    clean = visits(contextlib.nullcontext())
    left = visits(patch("laptime.models.knobs.without_compiled_calls", lambda model: contextlib.nullcontext()))
    print("blocks top-k   clean slate   caches left alone   ratio (ms a token, second visit)")
    rows = []
    for knobs, fresh, dirty in zip(SETTINGS, clean, left, strict=True):
        print(
            f"{knobs.blocks:6} {knobs.top_k:5} {fresh['ms']:13.3f} {dirty['ms']:19.3f} {dirty['ms'] / fresh['ms']:7.2f}"
        )
        rows.append({"blocks": knobs.blocks, "top_k": knobs.top_k, "clean": fresh, "left_alone": dirty})
    slower = sum(row["left_alone"]["ms"] > 1.5 * row["clean"]["ms"] for row in rows)
    print(f"{slower} of {len(rows)} settings decode more than 1.5 times as slowly with the caches left alone")
    print(f"seconds for a visit, median: {seconds(clean):.1f} against {seconds(left):.1f}")
    figures = {"preset": PRESET, "settings": rows, "slower": slower}
    print(f"wrote {record('knob_changes-h200', figures, describe(torch.device('cuda')))}")


def seconds(visits: list[dict[str, float]]) -> float:
    """The median length of a visit."""
    return statistics.median(visit["seconds"] for visit in visits)


def visits(way: contextlib.AbstractContextManager[Any]) -> list[dict[str, float]]:
    """Every setting twice over one model, the figures of the second time."""
    torch.compiler.reset()
    loaded = load_model(PRESET, device="cuda")
    with way:
        for _ in range(2):
            measured = [visit(loaded, knobs) for knobs in SETTINGS]
    return measured


def visit(loaded: Any, knobs: ModelKnobs) -> dict[str, float]:
    """Decode milliseconds a token (the difference of a long and a one-token call, medians), and the visit's seconds."""
    entered = time.perf_counter()
    inputs = make_inputs(loaded, prompt_tokens=32, image_size=(336, 336), new_tokens=NEW)
    took: dict[int, list[float]] = {NEW: [], 1: []}
    with applied(loaded.model, knobs):
        for _ in range(CALLS):
            for new, measured in took.items():
                torch.cuda.synchronize()
                began = time.perf_counter()
                loaded.model.generate(**inputs.kwargs, max_new_tokens=new, cache_implementation="static")
                torch.cuda.synchronize()
                measured.append((time.perf_counter() - began) * 1e3)
    long, short = (statistics.median(measured[WARM:]) for measured in took.values())
    return {"ms": (long - short) / (NEW - 1), "seconds": time.perf_counter() - entered}


if __name__ == "__main__":
    main()
