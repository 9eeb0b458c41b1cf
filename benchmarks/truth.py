"""Are the stages true? laptime measures a call while torch.profiler traces it, and their spans are compared.

    python benchmarks/truth.py preset:qwen3-4b preset:molmoe-1b preset:qwen2.5-vl-3b

The trace knows every kernel with its launch, and the host calls that recorded the events, but not the events' times.
The stream reaches an event when the last kernel launched before the record has ended, and not before the record
itself. The later of the two is the instant of the mark on the trace's clock.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laptime import StageTimer
from laptime.data.record import Mark, Sample
from laptime.measure.assisted import round_times
from laptime.measure.environment import describe
from laptime.measure.timeline import partition
from laptime.models.loading import load_model
from laptime.trace.read.launch_links import launches
from laptime.trace.read.reading import read_timeline
from laptime.trace.read.timeline import GpuTimeline
from laptime.workload.inputs import make_inputs
from recorded import record

MISS_NS = 100_000
"""Host clock of the marks against the trace's: the calls are some microseconds long, the clocks drift by less."""

STAGES = ("vision", "audio", "encode", "prefill", "decode", "total")


def main() -> None:
    """Compare on each model, some calls each, and write benchmarks/results/truth.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    device = torch.device("cuda", 0)
    for name in arguments.models:
        for cache in (None, "static") if name == arguments.models[0] else (None,):
            rows += compare(name, cache, arguments.calls, arguments.tokens)
    worst = print_rows(rows)
    print(record("truth", {"calls": rows, "largest_relative_difference": worst}, describe(device)))


def print_rows(rows: list[dict[str, Any]]) -> float:
    """Each call's differences, and the largest of them."""
    for row in rows:
        differences = "  ".join(f"{stage} {100 * d:+.4f} %" for stage, d in row["relative_difference"].items())
        print(f"{row['model']:24} {row['cache']:8} {differences}")
    worst = max(abs(d) for row in rows for d in row["relative_difference"].values())
    print(f"largest difference: {100 * worst:.4f} %")
    return worst


def compare(name: str, cache: str | None, calls: int, tokens: int) -> list[dict[str, Any]]:
    """Rows of one model: laptime's spans, the trace's, the relative difference."""
    loaded = load_model(name)
    loaded.model.generation_config.eos_token_id = None
    inputs = make_inputs(loaded, prompt_tokens=256, image_size=(672, 672) if loaded.is_vlm else None, new_tokens=tokens)
    call = {**inputs.kwargs, "max_new_tokens": tokens, "do_sample": False}
    if cache:
        call["cache_implementation"] = cache
    rows = compare_calls(name, loaded.model, call, calls)
    del loaded, inputs, call
    torch.cuda.empty_cache()
    return rows


def compare_calls(name: str, model: Any, call: dict[str, Any], calls: int) -> list[dict[str, Any]]:
    """Rows of `calls` warm calls: laptime's stages, the trace's, the relative difference."""
    for _ in range(4):
        model.generate(**call)
    timed_and_traced(model, call)
    rows = []
    for _ in range(calls):
        sample, timeline = timed_and_traced(model, call)
        marks = traced_marks(timeline, sample)
        traced = partition(marks).stages
        pairs = {stage: (sample.stages.stage(stage), traced.stage(stage)) for stage in STAGES}
        if sample.draft_ms is not None:
            (draft, verify), (draft_traced, verify_traced) = round_times(sample.marks), round_times(marks)
            pairs |= {"draft": (draft, draft_traced), "verify": (verify, verify_traced)}
        rows.append(
            {
                "model": name,
                "cache": call.get("cache_implementation", "dynamic"),
                "laptime": sample.stages,
                "trace": traced,
                "relative_difference": {what: own / right - 1 for what, (own, right) in pairs.items() if right},
            }
        )
    return rows


def timed_and_traced(model: Any, call: dict[str, Any]) -> tuple[Sample, GpuTimeline]:
    """One call under both."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with StageTimer(model, assisted=True) as timer:
        with torch.profiler.profile(activities=activities) as profiler:
            model.generate(**call)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(file))
            return timer.last, read_timeline(file)


def traced_marks(timeline: GpuTimeline, sample: Sample) -> list[Mark]:
    """The sample's marks at the trace's instants."""
    calls = timeline.calls
    names = np.array([timeline.strings[i] for i in calls.name])
    records = records_of_marks(np.flatnonzero(np.char.startswith(names, "cudaEventRecord")), calls.end_ns, sample)
    launch = launches(timeline)
    known = launch >= 0
    launched_ns = calls.start_ns[launch[known]]
    ended_ns = timeline.activities.end_ns[known]
    instants = []
    for index in records:
        before = ended_ns[launched_ns < calls.start_ns[index]]
        instants.append(max(int(before.max()) if len(before) else 0, int(calls.end_ns[index])))
    return [
        Mark(mark.kind, instant - instants[0], instant - instants[0])
        for mark, instant in zip(sample.marks, instants, strict=True)
    ]


def records_of_marks(records: np.ndarray, end_ns: np.ndarray, sample: Sample) -> np.ndarray:
    """Which event records are the sample's marks: those whose host times fit (CUDA graphs record events of their own).

    Each record is tried as the first mark; the others' are the nearest to the marks' host times. The try with the
    smallest miss is taken, and a miss of more than MISS_NS ends the benchmark.
    """
    ends = end_ns[records]
    after_start = np.array([mark.host_ns for mark in sample.marks])
    best, miss = records[:0], MISS_NS + 1
    for first in range(len(records)):
        wanted = ends[first] + after_start
        nearest = np.abs(ends[None, :] - wanted[:, None]).argmin(axis=1)
        worst = int(np.abs(ends[nearest] - wanted).max())
        if worst < miss and len(set(nearest)) == len(nearest):
            best, miss = records[nearest], worst
    if miss > MISS_NS:
        sys.exit(f"the {len(sample.marks)} marks are not among the {len(records)} event records (flags {sample.flags})")
    return best


if __name__ == "__main__":
    main()
