"""Runs subtracted by hand, the same on every machine: what a profile of a small vision-language model looks like."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from laptime.data.record import Environment, Flag, GpuState, Mark, Sample, SessionEnd, Subtraction, config_id
from laptime.data.run_folder import Run, RunInfo
from laptime.measure.timeline import partition

CONFIG: dict[str, Any] = {
    "model": "preset:molmoe-1b",
    "dtype": "bfloat16",
    "batch": 1,
    "prompt_tokens": 64,
    "new_tokens": 64,
    "image_size": "672x672",
    "attention": "sdpa",
    "cache": "dynamic",
}
STARTED = 1_788_000_000_000.0


def environment(**changes: Any) -> Environment:
    facts: dict[str, Any] = {
        "laptime": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux-6.8-x86_64",
        "cpu": "Intel Xeon Platinum 8480C",
        "cpu_count": 16,
        "memory_bytes": 128 * 2**30,
        "torch": "2.13.0",
        "torch_threads": 16,
        "transformers": "5.17.0",
        "device": "cuda:0",
        "gpu": "NVIDIA H200",
        "gpu_count": 1,
        "gpu_memory_bytes": 140 * 2**30,
        "gpu_power_limit_w": 700.0,
        "gpu_max_sm_mhz": 1980,
        "compute_capability": "9.0",
        "cuda": "13.0",
        "driver": "580.65.06",
        "tf32_matmul": False,
        "matmul_precision": "highest",
        "variables": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
        "git_commit": "0123456789ab",
        "git_dirty": False,
    }
    return Environment(**(facts | changes))


def marks_of_a_call(random_: random.Random, *, tokens: int = 64, vision: bool = True, slow: float = 1.0) -> list[Mark]:
    """The marks of one call: a host that runs ahead in prefill, and steps that grow with the position."""
    marks: list[Mark] = []
    device = host = 0

    def go(kind: str, device_ms: float, host_ms: float) -> None:
        nonlocal device, host
        device += round(device_ms * 1e6 * slow * math.exp(random_.gauss(0, 0.012)))
        host += round(host_ms * 1e6 * slow * math.exp(random_.gauss(0, 0.02)))
        marks.append(Mark(kind, device, host))

    go("start", 0, 0)
    if vision:
        go("vision-begin", 2.4, 2.3)
        go("vision-end", 41.0, 16.0)
    go("prefill-begin", 3.1, 1.8)
    go("first-logits", 62.0, 24.0)
    go("first-token", 0.9, 66.0 if vision else 38.0)
    for step in range(tokens - 1):
        go("decode-begin", 0.25, 0.25)
        go("logits", 4.4 + 0.006 * step, 4.4 + 0.006 * step)
    go("end", 1.8, 1.8)
    return marks


def sample(i: int, seed: int = 7, *, flags: Sequence[Flag] = (), per_token: bool = True, **options: Any) -> Sample:
    """The i-th sample of a run: warmer and a little slower than the one before."""
    random_ = random.Random(seed * 100_003 + i)
    marks = marks_of_a_call(random_, slow=options.pop("slow", 1 + 0.0012 * min(i, 60)), **options)
    parts = partition(marks)
    tokens = 1 + sum(mark.kind == "logits" for mark in marks)
    logits = [mark.device_ns for mark in marks if mark.kind in ("first-logits", "logits")]
    gaps = [(later - earlier) / 1e6 for earlier, later in pairwise(logits)]
    warmth = 1 - math.exp(-i / 9)
    return Sample(
        config_id=config_id(CONFIG),
        sample_id=f"synthetic-{i:04d}",
        repeat=0,
        worker="0",
        config=CONFIG,
        stages=parts.stages,
        host_stages=parts.host_stages,
        ttft_ms=parts.ttft_ms,
        tpot_ms=(parts.stages.total_ms - parts.ttft_ms) / (tokens - 1) if tokens > 1 else None,
        itl_ms=gaps if per_token and tokens > 1 else None,
        output_tokens=tokens,
        decode_forwards=tokens - 1,
        prompt_tokens=640,
        image_tokens=576 if parts.stages.vision_ms else 0,
        generated_tokens=tokens,
        started_unix_ms=STARTED + 700 * i,
        memory_peak_bytes=15_032_385_536 + 4096 * i,
        energy_j=round(parts.stages.total_ms * 0.31, 3),
        gpu=GpuState(
            sm_mhz=round((1980 - 45 * warmth + random_.gauss(0, 5)) / 15) * 15,
            temperature_c=round(41 + 21 * warmth + random_.gauss(0, 0.4)),
            power_w=round(290 + 75 * warmth + random_.gauss(0, 8), 1),
            throttle=["power"] if "throttled" in flags else [],
        ),
        flags=list(flags),
        marks=marks,
        output_ids=[[1, 2, 3]],
        text=f"A photo of number {i}: a grey street with two bicycles and a dog.",
    )


def samples(count: int = 20, **options: Any) -> list[Sample]:
    """A run's samples: the first cold, a few others flagged."""
    flags: dict[int, list[Flag]] = {0: ["cold"], 7: ["gc-pause"], 13: ["throttled"]}
    slow = {0: 1.55, 7: 1.11, 13: 1.22}
    return [
        sample(i, flags=flags.get(i, ()), **({"slow": slow[i]} if i in slow else {}), **options) for i in range(count)
    ]


def run_of(samples_: Sequence[Sample], **changes: Any) -> Run:
    """A run that holds these samples."""
    info = RunInfo(
        schema_version=1,
        created_unix_ms=STARTED,
        laptime="0.1.0",
        argv=changes.pop("argv", ["laptime", "profile", "preset:molmoe-1b", "--samples", "20", "--per-token"]),
        config=changes.pop("config", CONFIG),
        environment=changes.pop("environment", None) or environment(),
        session={"method": "direct", "per_token": True, "precision": 0.01, "max_repeats": 5},
    )
    fields: dict[str, Any] = {
        "path": "runs/demo",
        "info": info,
        "samples": list(samples_),
        "failures": [],
        "subtractions": [],
        "sessions": [SessionEnd(warmups=4, steady=True, repeats=1, stopped="max-repeats", half_width=0.0042)],
        "workers": [],
        "dropped_tails": [],
    }
    return Run(**(fields | changes))


def subtractions(samples_: Sequence[Sample], seed: int = 3) -> list[Subtraction]:
    """The same inputs measured by subtraction, with the noise of three separate calls."""
    random_ = random.Random(seed)
    subtracted = []
    for one in samples_:
        vision = one.stages.vision_ms * random_.uniform(1.2, 5.5)
        prefill = one.stages.prefill_ms * random_.uniform(1.0, 4.8)
        residual = one.stages.total_ms - vision - prefill
        subtracted.append(
            Subtraction(
                sample_id=one.sample_id,
                repeat=one.repeat,
                vision_ms=vision,
                prefill_ms=prefill,
                total_ms=one.stages.total_ms,
                residual_ms=residual,
                decode_ms=max(0.0, residual),
                direct=one.stages,
            )
        )
    return subtracted
