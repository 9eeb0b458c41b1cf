"""Sweeps written by hand, the same on every machine: tiers x top-k x blocks x prompts, with scores, failures, drift."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from laptime.data.record import Environment, Failure, GpuState, Sample, Scalar, StageTimes, WorkerStart, config_id
from laptime.data.run_folder import Run, RunFolder
from tests.report.sample_runs import STARTED, environment, run_of

GRID: dict[str, list[Scalar]] = {
    "tier": ["low", "medium", "high"],
    "top_k": [2, 4, 8],
    "blocks": [8, 12, 16],
    "prompt_tokens": [128, 1024],
}
HELD: dict[str, Scalar] = {
    "model": "preset:molmoe-1b",
    "dtype": "bfloat16",
    "batch": 1,
    "new_tokens": 32,
    "attention": "sdpa",
    "cache": "dynamic",
}
CROPS: dict[Scalar, tuple[int, int]] = {"low": (1, 3), "medium": (4, 8), "high": (9, 15)}
OUT_OF_MEMORY = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.25 GiB. GPU 0 has 139.80 GiB in total"


def grid(knobs: Mapping[str, Sequence[Scalar]]) -> list[dict[str, Scalar]]:
    """Every combination of the knobs' values, with what is held."""
    return [HELD | dict(zip(knobs, values, strict=True)) for values in product(*knobs.values())]


def call(config: Mapping[str, Scalar], item: int, order: int, of: int, *, scored: bool = True, seed: int = 5) -> Sample:
    """One sample: what the knobs make of it, its own size, noise, and a run that warms up by 1.5 per cent."""
    random_ = random.Random(f"{seed} {sorted(config.items(), key=str)} {item}")
    size = random.Random(f"item {item}")
    low, high = CROPS.get(config.get("tier"), (4, 8))
    crops = low + round(size.random() * (high - low))
    knob = {"top_k": 8, "blocks": 16, "prompt_tokens": 128} | dict(config)
    top_k, blocks, prompt = (float(str(knob[name])) for name in ("top_k", "blocks", "prompt_tokens"))
    tokens = 24 + round(size.random() * 8)
    tokens_in = prompt + 144 * (crops + 1)
    drift = 1 + 0.015 * (1 - math.exp(-4 * order / max(1, of)))

    def ns(ms: float) -> int:
        return round(ms * drift * math.exp(random_.gauss(0, 0.012)) * 1e6)

    vision = ns(3.2 + 5.1 * (crops + 1))
    prefill = ns(6 + blocks * tokens_in * (0.0006 + 0.00016 * top_k))
    decode = ns((tokens - 1) * (0.8 + blocks * (0.28 + 0.02 * top_k)))
    stages = StageTimes.from_ns(
        vision=vision, prefill=prefill, decode=decode, total=vision + prefill + decode + ns(2.6)
    )
    skill = 1.15 * math.log(crops + 1) + 1.6 * math.log(blocks / 4) + 0.9 * math.log(top_k) - 4.0
    right = size.random() < 1 / (1 + math.exp(-skill))
    warmth = 1 - math.exp(-6 * order / max(1, of))
    return Sample(
        config_id=config_id(config),
        sample_id=f"val-{item:05d}",
        repeat=0,
        worker="0",
        config=dict(config),
        stages=stages,
        host_stages=stages,
        ttft_ms=stages.vision_ms + stages.prefill_ms + 1.2,
        tpot_ms=(stages.total_ms - stages.vision_ms - stages.prefill_ms - 1.2) / (tokens - 1),
        itl_ms=None,
        output_tokens=tokens,
        decode_forwards=tokens - 1,
        prompt_tokens=round(tokens_in),
        image_tokens=144 * (crops + 1),
        crops=crops,
        generated_tokens=tokens,
        started_unix_ms=STARTED + 400.0 * order,
        memory_peak_bytes=round((13.6 + 0.0004 * tokens_in) * 2**30),
        energy_j=round(stages.total_ms * 0.31, 3),
        gpu=GpuState(
            sm_mhz=round(1980 - 45 * warmth), temperature_c=round(41 + 21 * warmth), power_w=round(290 + 75 * warmth, 1)
        ),
        score=float(right) if scored else None,
    )


def sweep_samples(
    knobs: Mapping[str, Sequence[Scalar]] = GRID, items: int = 8, *, scored: bool = True
) -> tuple[list[Sample], list[Failure]]:
    """A whole sweep in a shuffled order. The high tier with the long prompt and all experts runs out of memory."""
    keys = [(config, item) for item in range(items) for config in grid(knobs)]
    order = list(range(len(keys)))
    random.Random(11).shuffle(order)
    samples: list[Sample] = []
    failures: list[Failure] = []
    for (config, item), at in zip(keys, order, strict=True):
        if runs_out(config):
            failures.append(failure(config, item, at))
        elif config.get("blocks") == 12 and config.get("top_k") == 2 and config.get("tier") == "low" and item == 3:
            failures.append(failure(config, item, at, "RuntimeError: the image of this sample could not be read"))
        else:
            samples.append(call(config, item, at, len(keys), scored=scored))
    return samples, failures


def runs_out(config: Mapping[str, Scalar]) -> bool:
    """Whether a configuration of GRID does not fit into memory."""
    return config.get("tier") == "high" and config.get("prompt_tokens") == 1024 and config.get("top_k") == 8


def failure(config: Mapping[str, Scalar], item: int, at: int, error: str = OUT_OF_MEMORY) -> Failure:
    return Failure(
        config_id=config_id(config),
        sample_id=f"val-{item:05d}",
        repeat=0,
        worker="0",
        config=dict(config),
        error=error,
        started_unix_ms=STARTED + 400.0 * at,
    )


def sweep_run(samples: Iterable[Sample], failures: Iterable[Failure] = (), **changes: Any) -> Run:
    """A run that holds this sweep."""
    fields: dict[str, Any] = {
        "failures": list(failures),
        "argv": ["laptime", "sweep", "examples/sweep.yaml", "--out", "runs/sweep"],
        "sessions": [],
        "config": {"model": HELD["model"]},
        "workers": [start("0", environment())],
        "path": "runs/sweep",
    }
    return run_of(list(samples), **(fields | changes))


def start(worker: str, environment_: Environment) -> WorkerStart:
    return WorkerStart(worker=worker, started_unix_ms=STARTED, host="node-1", environment=environment_)


def write_run(folder: Path, run: Run) -> Path:
    """The run as a folder on the disk."""
    with RunFolder(folder, run.info) as out:
        out.begin()
        for line in (*run.workers, *run.samples, *run.failures):
            out.append(line)
    return folder
