"""A session: warm up until the times are steady, measure every input, repeat until more repeats add nothing.

The sink gets every sample as soon as it is finished, also those of the warm-up (flagged `cold`). So a run that is
stopped at any instant keeps what it measured.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import msgspec
import torch

from laptime.data.record import Sample, SessionEnd, StopReason
from laptime.data.stats import median_interval, noise_is_stable, relative_half_width
from laptime.data.usable import usable
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.measure.watch import foreign_cpu_s

KNOWN_AFTER_S = 0.1
"""Linux counts the time of other processes in hundredths of a second."""

STEADY_WINDOW = 3
"""The warm-up ends when this many calls in a row agree within STEADY_SPREAD and compiled nothing."""
STEADY_SPREAD = 0.10


class MeasuringPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure. Repeats count passes over all inputs."""

    max_warmups: int = 10
    min_repeats: int = 1
    max_repeats: int = 5
    precision: float = 0.01  # relative half-width of the median total's 95 % interval
    time_limit_s: float = 600.0
    cache_policy: Literal["keep", "empty"] = "keep"  # "empty": the allocator's cache, before every sample
    autocast: str | None = None  # "bfloat16" | "float16"


class Input(msgspec.Struct, frozen=True):
    """One input: its id, the same whoever measures it, the arguments of generate(), and how long making them took."""

    sample_id: str
    kwargs: Mapping[str, Any]
    preprocess_ms: float | None = None


Sink = Callable[[Sample], None]
Progress = Callable[[str, int, int], None]
"""(phase, done, of): called after each finished call. Phases: "warm-up", "measure"."""


def measure(
    timer: StageTimer,
    inputs: Sequence[Input],
    plan: MeasuringPlan,
    sink: Sink,
    progress: Progress = lambda phase, done, of: None,
    beside: Callable[[Input, Sample], None] | None = None,
) -> SessionEnd:
    """Measure `inputs` on an entered StageTimer, sample by sample.

    sink: gets each finished sample. progress: called after each finished call.
    beside: called after each measured sample with its input, to measure the same input by a second method.
    Raises LaptimeError without inputs, and when the device runs out of memory.
    """
    if not inputs:
        raise LaptimeError("no inputs to measure")
    with quiet_collector():
        return _measure(timer, inputs, plan, sink, progress, beside)


def _measure(
    timer: StageTimer,
    inputs: Sequence[Input],
    plan: MeasuringPlan,
    sink: Sink,
    progress: Progress,
    beside: Callable[[Input, Sample], None] | None,
) -> SessionEnd:
    samples: list[Sample] = []
    foreign_s = foreign_cpu_s() if timer.device.type == "cpu" else None
    started = time.monotonic()
    warm: list[Sample] = []
    for sample in warm_up(timer, inputs[0], plan):
        warm.append(sample)
        sink(sample)
        progress("warm-up", len(warm), plan.max_warmups)
    steady = is_steady(warm, plan)
    stopped: StopReason = "max-repeats"
    repeats, judged_at = 0, plan.min_repeats
    for repeat in range(plan.max_repeats):
        for number, item in enumerate(inputs):
            if samples and time.monotonic() - started > plan.time_limit_s:
                stopped = "time-limit"
                break
            timer.label(item.sample_id, repeat, () if steady else ("cold",))
            sample = call(timer, item, plan)
            samples.append(sample)
            sink(sample)
            if beside is not None:
                beside(item, sample)
            progress("measure", repeat * len(inputs) + number + 1, plan.max_repeats * len(inputs))
        else:
            repeats = repeat + 1
            if repeats >= judged_at:
                judged_at = next_judged(repeats)
                if verdict := _enough(samples, plan):
                    stopped = verdict
                    break
            continue
        break
    totals = [s.stages.total_ms for s in usable(samples)[0]]
    return SessionEnd(
        warmups=len(warm),
        steady=steady,
        repeats=repeats,
        stopped=stopped,
        half_width=relative_half_width(median_interval(totals)),
        inputs=len(inputs),
        foreign_cores=_foreign_cores(foreign_s, time.monotonic() - started),
    )


def _foreign_cores(before_s: float | None, elapsed_s: float) -> float | None:
    """How many cores other processes used since then, on average; None where it isn't known or too short to know."""
    after_s = None if before_s is None else foreign_cpu_s()
    if before_s is None or after_s is None or elapsed_s < KNOWN_AFTER_S:
        return None
    return max(0.0, after_s - before_s) / elapsed_s


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Run the garbage collector now and freeze what lives, so that it has little to do during the calls."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def warm_up(timer: StageTimer, item: Input, plan: MeasuringPlan, first: int = -1, step: int = 1) -> Iterator[Sample]:
    """Measure calls flagged `cold` until the last ones agree; at most `max_warmups` of them.

    Repeats are numbered `first`, `first - step`, ...: negative, so that no measured sample has one of them.
    """
    warm: list[Sample] = []
    for repeat in range(first, first - step * plan.max_warmups, -step):
        timer.label(item.sample_id, repeat, ("cold",))
        warm.append(call(timer, item, plan))
        yield warm[-1]
        if _agree(warm):
            return


def is_steady(warm: Sequence[Sample], plan: MeasuringPlan) -> bool:
    """Whether the warm-up is over after these calls: the last ones agree, or there is noise but no trend."""
    return plan.max_warmups == 0 or _agree(warm) or _no_trend(warm)


def _agree(warm: Sequence[Sample]) -> bool:
    """The last STEADY_WINDOW calls lie within STEADY_SPREAD and compiled nothing."""
    newest = warm[-STEADY_WINDOW:]
    if len(newest) < STEADY_WINDOW or any("recompiled" in s.flags for s in newest):
        return False
    totals = [s.stages.total_ms for s in newest]
    return max(totals) - min(totals) <= STEADY_SPREAD * min(totals)


def _no_trend(warm: Sequence[Sample]) -> bool:
    """Noise without warming up: the second half of the calls is not faster than the first and compiled nothing."""
    half = len(warm) // 2
    if half < STEADY_WINDOW:
        return False
    early, late = warm[:half], warm[half:]
    if any("recompiled" in s.flags for s in late):
        return False
    floor = min(s.stages.total_ms for s in late)
    return min(s.stages.total_ms for s in early) <= floor * (1 + STEADY_SPREAD)


def call(timer: StageTimer, item: Input, plan: MeasuringPlan) -> Sample:
    """One timed generate() of this input.

    Raises LaptimeError when the device runs out of memory, for what generate() refuses, and when the model fails.
    """
    if plan.cache_policy == "empty":
        gc.collect()
        if timer.device.type == "cuda":
            torch.cuda.empty_cache()
    autocast = (
        torch.autocast(timer.device.type, dtype=getattr(torch, plan.autocast)) if plan.autocast else nullcontext()
    )
    timer.warn_no_more()  # `last` raises what a warning would say
    timer.preprocessed(item.preprocess_ms)
    try:
        with autocast:
            timer.model.generate(**item.kwargs)
    except Exception as error:
        if isinstance(error, LaptimeError) or _in_laptime(error):
            raise
        raise LaptimeError(_what_failed(error, timer.device, item.sample_id)) from error
    return timer.last


def _what_failed(error: Exception, device: torch.device, sample_id: str) -> str:
    """An error of the model or of transformers in one line."""
    # On a CPU torch has no class for memory that is used up, only words.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        return f"out of memory on {device} at sample {sample_id}: use a smaller batch, image or prompt"
    kind = type(error).__name__
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, ValueError | TypeError | ImportError | NotImplementedError):
        return f"generate() refused sample {sample_id}: {first or kind}"
    return f"the model failed at sample {sample_id}: {kind}{f': {first}' if first else ''}"


def _in_laptime(error: BaseException) -> bool:
    """Whether the error was raised by laptime's own code: then it is ours, and its traceback is kept."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("laptime.")


def next_judged(repeats: int) -> int:
    """After how many repeats it is judged next whether they are enough: the next one, or 2 % more of many.

    Judging looks at all samples, so judging after each of 10,000 repeats would take longer than the calls.
    """
    return repeats + max(1, repeats // 50)


def _enough(samples: Sequence[Sample], plan: MeasuringPlan) -> StopReason | None:
    totals = [s.stages.total_ms for s in usable(samples)[0]]
    width = relative_half_width(median_interval(totals))
    if width is not None and width <= plan.precision:
        return "precise"
    return "noise-stable" if noise_is_stable(totals) else None
