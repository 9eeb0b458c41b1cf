"""The marks of an engine's steps by device events, on code shaped like vLLM's runner: vLLM itself is not needed."""

from __future__ import annotations

import itertools
import time

import torch

from laptime.engines.vllm.step_clock import StepClock
from laptime.engines.vllm.worker_marks import StepRecorder, hook_runner
from tests.engines.vllm.runner_shaped import NewRequest, Runner, Scheduled


def hooked(turns: int) -> tuple[Runner, StepRecorder]:
    runner = Runner("cuda", size=2048, turns=turns)
    recorder = StepRecorder(StepClock(runner.device), rank=0)
    hook_runner(runner, recorder)
    for _ in range(3):
        step(runner)
    torch.cuda.synchronize()
    recorder.samples([])
    return runner, recorder


def step(runner: Runner) -> None:
    runner.execute_model(Scheduled({"a": 4}, [NewRequest("a", 8)], scheduled_encoder_inputs={"a": [0]}))
    runner.sample_tokens(None)


def test_a_step_is_as_long_on_the_device_as_an_outside_clock_says():
    runner, recorder = hooked(turns=400)
    torch.cuda.synchronize()
    began = time.perf_counter_ns()
    step(runner)
    torch.cuda.synchronize()
    outside = time.perf_counter_ns() - began
    (one,) = recorder.samples([])
    assert abs((one.end - one.begin) - outside) < max(0.02 * outside, 200_000)
    assert one.begin >= began and one.end <= began + outside + 100_000
    assert one.host_end - one.host_begin < 1.2 * outside
    parts = [one.encoder, one.forward, one.sample]
    assert all(a[1] <= b[0] + 1000 for a, b in itertools.pairwise(parts))
    longest = max(end - begin for begin, end in parts)
    assert longest < 1.3 * min(end - begin for begin, end in parts)  # the three do the same work


def test_no_step_waits_for_the_device_and_none_overlaps():
    runner, recorder = hooked(turns=200)
    began = time.perf_counter_ns()
    for _ in range(10):
        step(runner)
    given_out = time.perf_counter_ns() - began
    early = recorder.samples([])
    torch.cuda.synchronize()
    whole = time.perf_counter_ns() - began
    steps = early + recorder.samples([])
    assert len(steps) == 10
    assert len(early) < 10 or given_out > 0.9 * whole  # the device was still at work when the host had given all out
    assert all(a.end <= b.begin + 1000 for a, b in itertools.pairwise(steps))
    busy = sum(one.end - one.begin for one in steps)
    assert 0.9 * whole < busy < 1.02 * whole
    assert abs(steps[-1].end - (began + whole)) < 0.05 * whole
