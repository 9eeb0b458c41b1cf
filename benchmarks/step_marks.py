"""What the plug-in's marks cost a step, by the number of requests in it: with a runner that does nothing else.

    python -m benchmarks.step_marks [FILE]

The runner looks like vLLM's; its step is empty but for the marks, so the difference of a hooked and a bare step, in
turns, is what the marks cost the host. On a GPU a mark is an event on the current stream. Making the rows and reading
the events is done by another thread of the engine's process, and is given apart. Writes
benchmarks/results/step_marks-cpu.json, or FILE.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from laptime.engines.vllm.step_clock import StepClock
from laptime.engines.vllm.worker_marks import StepRecorder, hook_runner
from laptime.measure.host import describe_host
from tests.engines.vllm.runner_shaped import NewRequest, Runner, Scheduled

ROUNDS = 400


class Empty(Runner):
    """A runner whose parts take no time."""

    def work(self) -> None:
        return None


def batch(requests: int) -> Scheduled:
    names = [f"chatcmpl-{place:032x}-{place:08x}" for place in range(requests)]
    return Scheduled(dict.fromkeys(names, 1), [], dict.fromkeys(names, 500), {names[0]: [0]})


def cost(device: str, requests: int) -> dict:
    bare, runner = Empty(device), Empty(device)
    recorder = StepRecorder(StepClock(runner.device), rank=0)
    hook_runner(runner, recorder)
    first = batch(requests)
    new = [NewRequest(name, 400) for name in first.num_scheduled_tokens]
    runner.execute_model(Scheduled(dict.fromkeys(first.num_scheduled_tokens, 1), new))
    runner.sample_tokens(None)
    differences, later = [], []
    for turn in range(ROUNDS):
        scheduled = batch(requests)
        times = {}
        for one in (bare, runner) if turn % 2 else (runner, bare):
            began = time.perf_counter_ns()
            one.execute_model(scheduled)
            one.sample_tokens(None)
            times[one is runner] = time.perf_counter_ns() - began
        differences.append((times[True] - times[False]) / 1e3)
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter_ns()
        lines = [msgspec.json.encode(sample) for sample in recorder.samples([])]
        later.append((time.perf_counter_ns() - began) / 1e3)
        assert lines
    return {
        "requests": requests,
        "in_the_step_us": {"median": float(np.median(differences)), "p99": float(np.quantile(differences, 0.99))},
        "by_another_thread_us": {"median": float(np.median(later)), "p99": float(np.quantile(later, 0.99))},
    }


def placed(device: str) -> dict:
    """How far the device's steps, placed on the host's clock, are from a clock around a step and a synchronize."""
    runner = Runner(device, size=1024, turns=60)
    recorder = StepRecorder(StepClock(runner.device), rank=0)
    hook_runner(runner, recorder)
    ends, lengths = [], []
    for turn in range(60):
        if device != "cpu":
            torch.cuda.synchronize()
        began = time.perf_counter_ns()
        runner.execute_model(Scheduled({"a": 4}, [NewRequest("a", 8)]))
        runner.sample_tokens(None)
        if device != "cpu":
            torch.cuda.synchronize()
        ended = time.perf_counter_ns()
        (one,) = recorder.samples([])
        if turn >= 10:
            ends.append((ended - one.end) / 1e6)
            lengths.append((one.end - one.begin) / (ended - began))
    return {
        "outside_end_less_ours_ms": {"median": float(np.median(ends)), "largest": float(np.max(np.abs(ends)))},
        "ours_over_outside_length": {"median": float(np.median(lengths)), "least": float(np.min(lengths))},
    }


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = {
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "marks": [cost(device, requests) for requests in (1, 8, 64, 256)],
        "placed": placed(device),
        "environment": msgspec.to_builtins(describe_host()),
    }
    default = Path(__file__).parent / "results" / f"step_marks-{device}.json"
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
