"""What does measuring cost? Measured generate() against bare generate(), in turns, on a GPU.

    python benchmarks/observer_effect.py preset:qwen3-4b --tokens 8 --pairs 200 --peers
    python benchmarks/observer_effect.py preset:qwen3-4b --cache static --tokens 32 --pairs 200 --peers

A pair is a bare call and a measured call on the same input, one after the other, in random order. The ways of
measuring take turns, pair by pair. A call's time is the host's wall clock from an idle device to an idle device. The
result is the median of the pairs' ratios with a bootstrap interval. Short calls show best what a way costs once per
call; longer calls show what it costs in use. Entering and leaving a way (a timer, a tracker's session) is not part of
the time. A timer builds a call's sample after the call, when somebody looks, or before the next call: the way "in a
loop" has the building of the sample before it in its time. For laptime there is a second ratio, with laptime's own
total in place of the wall clock: what measuring does to the span that it reports, without what it does before and
after.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from laptime import StageTimer
from laptime.data.stats import median_interval, ratio_of_medians
from laptime.measure import call_sample, records, stage_timer, watch
from laptime.measure.environment import describe
from laptime.measure.probes import Probes
from laptime.measure.session import quiet_collector
from laptime.measure.watch import Watch
from laptime.models.loading import load_model
from laptime.workload.inputs import make_inputs
from recorded import record

PEER_PAIRS = 40
PROFILER_PAIRS = 10  # one profiled call takes seconds to collect


def main() -> None:
    """Measure one model and write benchmarks/results/observer_effect-NAME.json."""
    arguments = parse()
    loaded = load_model(arguments.model)
    model, device = loaded.model, loaded.device
    model.generation_config.eos_token_id = None
    inputs = make_inputs(
        loaded,
        prompt_tokens=arguments.prompt,
        image_size=(arguments.image, arguments.image) if loaded.is_vlm else None,
        new_tokens=arguments.tokens,
    )
    call = {**inputs.kwargs, "max_new_tokens": arguments.tokens, "do_sample": False}
    if arguments.cache:
        call["cache_implementation"] = arguments.cache
    total, every = StageTimer(model), StageTimer(model, per_token=True)
    joules = StageTimer(model, energy=True)
    said = set(model.generate(**call)[0].tolist())
    never = next(token for token in range(3, 10**6) if token not in said)
    with_eos = {**call, "eos_token_id": never}  # checked for at every step, never said
    bare = Way(lambda: wall_ms(model, call, device), None, 0)
    bare_eos = Way(lambda: wall_ms(model, with_eos, device), None, 0)
    n = arguments.pairs
    ways = {
        "laptime total": Way(lambda: wall_ms(model, call, device, total), bare, n, total),
        "laptime per token": Way(lambda: wall_ms(model, call, device, every), bare, n, every),
        "laptime total, EOS possible": Way(lambda: wall_ms(model, with_eos, device, total), bare_eos, n // 2, total),
    }
    in_a_loop = Way(lambda: wall_ms(model, call, device, total, before=1), bare, n, total)
    if arguments.total_only:
        ways = {"laptime total": ways["laptime total"]}
    ways["laptime total, in a loop"] = in_a_loop
    if arguments.peers:
        waits = {**call, "logits_processor": [Synchronizes(device)]}
        ways["laptime total, with energy"] = Way(lambda: wall_ms(model, call, device, joules), bare, PEER_PAIRS, joules)
        ways["synchronize every step"] = Way(lambda: wall_ms(model, waits, device), bare, PEER_PAIRS)
        tracker = optimum_tracker()
        if tracker is not None:
            tracks = {**call, "logits_processor": [tracker]}
            ways["optimum-benchmark per token"] = Way(
                lambda: wall_ms(model, tracks, device, tracked(tracker)), bare, PEER_PAIRS
            )
        ways["torch.profiler"] = Way(lambda: profiled_ms(model, call, device), bare, PROFILER_PAIRS)
    for _ in range(arguments.warmup):
        for way in (bare, bare_eos, *ways.values()):
            if way.pairs != PROFILER_PAIRS:
                way.call()
    for timer in (total, every, joules):
        timer.samples.clear()
    with quiet_collector():
        pairs = take_pairs(ways, arguments.seconds)
    parts_us = fixed_costs_us(total, lambda: wall_ms(model, call, device, total)) if arguments.total_only else {}
    samples = [*total.samples, *every.samples, *joules.samples]
    rows = {}
    for name, taken in pairs.items():
        looked, plain = [pair[0] for pair in taken], [pair[1] for pair in taken]
        ratio = ratio_of_medians(looked, plain, paired=True)
        rows[name] = {"median_ms": median_interval(looked), "bare_ms": median_interval(plain), "ratio": ratio}
        inside = ""
        if len(taken[0]) == 3:
            own = ratio_of_medians([pair[2] for pair in taken], plain, paired=True)
            rows[name]["ratio_of_the_call_itself"] = own
            inside = f"  the call itself x{own.value:.4f} [{own.low:.4f}, {own.high:.4f}]"
        bounds = f"[{ratio.low:.4f}, {ratio.high:.4f}]"
        bare_ms = median_interval(plain).value
        print(f"{name:28} {bare_ms:9.2f} ms bare  x{ratio.value:.4f} {bounds}  n={len(taken)}{inside}")
    closing = sum(s.stages.closes() for s in samples)
    print(f"closure: {closing} of {len(samples)} samples close to the nanosecond")
    compiled = sum("recompiled" in s.flags for s in samples)
    last = samples[-1]
    figures = {
        "model": arguments.model,
        "cache": arguments.cache or "dynamic",
        "prompt_tokens": inputs.prompt_tokens,
        "image_tokens": inputs.image_tokens,
        "new_tokens": arguments.tokens,
        "ways": rows,
        "fixed_costs_us": parts_us,
        "samples": len(samples),
        "samples_that_close": closing,
        "samples_that_compiled": compiled,
        "flags": {flag: sum(flag in s.flags for s in samples) for s in samples for flag in s.flags},
        "a_sample": {"stages": last.stages, "ttft_ms": last.ttft_ms, "tpot_ms": last.tpot_ms, "gpu": last.gpu},
    }
    parts = [arguments.model.removeprefix("preset:"), arguments.cache, arguments.label]
    print(record("-".join(["observer_effect", *filter(None, parts)]), figures, describe(device)))


class Way(NamedTuple):
    """A way of calling generate(), the bare call that it is paired with, and how many pairs to take."""

    call: Callable[[], float]
    bare: Any  # Way | None
    pairs: int
    timer: StageTimer | None = None  # whose own total of the call is kept too


def take_pairs(ways: dict[str, Way], seconds: float) -> dict[str, list[tuple[float, ...]]]:
    """(instrumented, bare) wall times in ms, and laptime's own total where it looked: a pair of each way in turn.

    After `seconds` no further round of pairs begins.
    """
    begin = time.monotonic()
    taken: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    shuffle = random.Random(0)
    for number in range(max(way.pairs for way in ways.values())):
        if number and time.monotonic() - begin > seconds:
            break
        names = [name for name, way in ways.items() if number < way.pairs]
        shuffle.shuffle(names)
        for name in names:
            way = ways[name]
            if shuffle.random() < 0.5:
                looked = way.call()
                plain = way.bare.call()
            else:
                plain = way.bare.call()
                looked = way.call()
            own = (way.timer.last.host_stages.total_ms,) if way.timer else ()
            taken[name].append((looked, plain, *own))
    return taken


def fixed_costs_us(timer: StageTimer, call: Callable[[], float], calls: int = 30) -> dict[str, float]:
    """Medians, in µs, of what the timer does once per call, before the first mark and after the last one."""
    taken: dict[str, list[float]] = {}

    def clocked(holder: Any, name: str) -> Callable[[], None]:
        original = getattr(holder, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                taken.setdefault(f"{getattr(holder, '__name__', type(holder).__name__)}.{name}", []).append(
                    (time.perf_counter_ns() - begin) / 1e3
                )

        own = name in vars(holder)
        setattr(holder, name, run)
        return lambda: setattr(holder, name, original) if own else delattr(holder, name)

    undo = [
        clocked(holder, name)
        for holder, name in (
            (stage_timer, "prepare_call"),
            (stage_timer, "returned_call"),
            (records, "sample_of"),
            (Watch, "__enter__"),
            (Watch, "__exit__"),
            (Probes, "__enter__"),
            (Probes, "__exit__"),
            (timer._timed_model.monitor, "throttle"),
            (timer._timed_model.monitor, "state"),
            (call_sample, "partition"),
            (call_sample, "generated_rows"),
            (watch, "_retries"),
        )
        if holder is not None
    ]
    for _ in range(calls):
        call()
    for one in undo:
        one()
    return {name: round(statistics.median(times), 1) for name, times in taken.items()}


def wall_ms(model: Any, call: dict[str, Any], device: torch.device, around: Any = None, *, before: int = 0) -> float:
    """Wall time of one generate(), from idle to idle. `around` is entered before the clock starts.

    before: so many calls run first, inside `around` and outside of the time.
    """
    with around if around is not None else nullcontext():
        for _ in range(before):
            model.generate(**call)
        wait(device)
        begin = time.perf_counter_ns()
        model.generate(**call)
        wait(device)
        return (time.perf_counter_ns() - begin) / 1e6


def profiled_ms(model: Any, call: dict[str, Any], device: torch.device) -> float:
    """The same inside torch.profiler, whose own start and end are not counted."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities):
        return wall_ms(model, call, device)


class Synchronizes:
    """Waits for the device at every step's logits, and reads the clock: the usual way of timing steps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[int] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wait(self.device)
        self.times.append(time.perf_counter_ns())
        return scores


def optimum_tracker() -> Any:
    """optimum-benchmark's per-token tracker, read from its own file; None where it isn't installed."""
    package = importlib.util.find_spec("optimum_benchmark")
    if package is None or package.origin is None:
        print("optimum-benchmark is not installed: left out", file=sys.stderr)
        return None
    file = Path(package.origin).parent / "trackers" / "latency.py"
    spec = importlib.util.spec_from_file_location("optimum_benchmark_latency", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PerTokenLatencySessionTrackerLogitsProcessor(device="cuda", backend="pytorch")


@contextmanager
def tracked(tracker: Any) -> Any:
    """One session of one call, as its own inference scenario does it."""
    with tracker.session(), tracker.track():
        yield


def wait(device: torch.device) -> None:
    """Until the device is idle."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cache")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--image", type=int, default=672)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="take pairs for so long at most")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--total-only", action="store_true", help="only laptime's total mode, and what its parts cost")
    parser.add_argument("--label", help="goes into the result's file name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
