"""Promise and delivery: every remedy predicted from the baseline's trace, applied, and measured beside the baseline.

Rounds visit all remedies in turn, so that each call has a baseline call of the same minute. Traces are taken after
them: once the profiler has run, every launch of the process costs more. A promise sees the baseline's trace and its
time per token, and nothing of the remedy. A remedy that fails leaves a row with the reason; the others go on.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from laptime.data.record import Scalar
from laptime.decoder.plan import DecodePlan, merge, read_plan, separate
from laptime.decoder.triton_step import kernels_of
from laptime.errors import LaptimeError
from laptime.measure.environment import describe
from laptime.remedy.promise import promises
from laptime.remedy.remedies import BASELINE, REMEDIES, Call, Subject
from laptime.remedy.result import Promise, RemedyReport, headline, recommend
from laptime.remedy.trial import (
    Trial,
    copy_gb_per_s,
    first_difference,
    floor_ms,
    median_ms,
    middle,
    notes_on,
    remedy_row,
)
from laptime.trace.analysis import read_trace
from laptime.trace.result import TraceAnalysis

STEADY = 1.25
"""Preparation is over when a call takes at most so many times the quickest so far."""
MOST_PREPARATIONS = 4
TRACED_TOKENS, REPLAYED_TOKENS = 12, 64
"""Tokens of a traced call. A fused step in a graph has few kernels: more of them, so that they outweigh the prefill's,
or a long prompt's blocks are taken for the steps."""

Progress = Callable[[str], None]


def prove(
    model: Any,
    inputs: dict[str, Any],
    *,
    name: str,
    new_tokens: int,
    rounds: int = 6,
    config: dict[str, Scalar] | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda what: None,
) -> RemedyReport:
    """Measure every remedy (or those in `only`, and the baseline) on this model and these inputs.

    The model is as before afterwards; its EOS is ignored meanwhile, so that every call makes `new_tokens` tokens.

    Raises LaptimeError when the baseline itself can't run, or there are fewer than 8 tokens to time.
    """
    if new_tokens < 8:
        raise LaptimeError(f"--new-tokens {new_tokens}: time per token needs at least 8")
    if rounds < 1:
        raise LaptimeError(f"--rounds {rounds}: at least 1")
    subject = Subject(model, inputs, new_tokens)
    device = next(model.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(_fixed_length(model))
        plan, refused = _plan(model, stack)
        bandwidth = copy_gb_per_s(device)
        trials = [Trial(r) for r in REMEDIES if not only or r.name in only or r.name == BASELINE]
        base = trials[0]
        progress("baseline")
        _prepare(base, subject, stack, None)
        if base.failed is not None:
            raise LaptimeError(f"{name}: the baseline can't run: {base.failed}")
        for trial in sorted(trials[1:], key=lambda t: t.remedy.name == "kernels"):  # last: fast pays for its kernels
            progress(f"preparing {trial.remedy.name}")
            if refused is not None and trial.remedy.name in ("fast", "kernels"):
                trial.failed = refused
                continue
            _prepare(trial, subject, stack, base)
        _share_compiling({trial.remedy.name: trial for trial in trials})
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}")
            for trial in [*trials[number % len(trials) :], *trials[: number % len(trials)]]:
                _guarded(trial, partial(_measure, trial, number, new_tokens))
        if base.failed is not None:
            raise LaptimeError(f"{name}: the baseline can't run: {base.failed}")
        base_ms = median_ms(base)
        for trial in trials if subject.on_gpu else []:
            if trial.failed is None:
                progress(f"trace of {trial.remedy.name}")
                trial.traced = _traced(trial, subject, base_ms if trial is base else None)
        predicted = {} if base.traced is None else _promises(base.traced, base_ms, plan, subject, bandwidth)
        rows = [remedy_row(trial, base, predicted.get(trial.remedy.name), plan, subject, bandwidth) for trial in trials]
        environment = describe(device)
    weight_bytes = None if plan is None else plan.weight_bytes(subject.batch)
    cache_bytes = None if plan is None else plan.cache_bytes(middle(subject), subject.batch)
    return RemedyReport(
        model=name,
        headline=headline(rows),
        config={**(config or {}), "new_tokens": new_tokens, "batch": subject.batch},
        environment=environment,
        copy_gb_per_s=bandwidth,
        weight_bytes=weight_bytes,
        cache_bytes=cache_bytes,
        floor_ms=floor_ms(plan, subject, bandwidth),
        rounds=rounds,
        rows=rows,
        recommendations=recommend(rows, new_tokens),
        notes=notes_on(rows, subject, base),
    )


@contextmanager
def _fixed_length(model: Any) -> Any:
    """EOS ends no call meanwhile."""
    settings = model.generation_config
    eos, settings.eos_token_id = settings.eos_token_id, None
    if settings.pad_token_id is None and eos is not None:
        settings.pad_token_id, unset = (eos[0] if isinstance(eos, list) else eos), True
    else:
        unset = False
    try:
        yield
    finally:
        settings.eos_token_id = eos
        if unset:
            settings.pad_token_id = None


def _plan(model: Any, stack: ExitStack) -> tuple[DecodePlan | None, str | None]:
    """The model's step with its weights merged for the whole proof, or why there is none.

    Merged before anything is compiled or captured: captured steps hold addresses.
    """
    moved = merge(model)
    stack.callback(separate, moved)
    try:
        return read_plan(model), None
    except LaptimeError as error:
        return None, str(error)


def _promises(
    traced: TraceAnalysis, base_ms: float, plan: DecodePlan | None, subject: Subject, bandwidth: float | None
) -> dict[str, Promise]:
    kernels = None if plan is None else kernels_of(plan, subject.batch)
    return promises(
        traced, base_ms, floor_ms=floor_ms(plan, subject, bandwidth), our_kernels=kernels, batch=subject.batch
    )


def _prepare(trial: Trial, subject: Subject, stack: ExitStack, base: Trial | None) -> None:
    """Apply the remedy, call it until it is steady, look at its tokens, allocations and trace."""
    if trial.remedy.needs_gpu and not subject.on_gpu:
        trial.failed = "needs a CUDA GPU"
        return

    def first() -> None:
        before = torch.cuda.memory_allocated() if subject.on_gpu else 0
        if subject.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        began = perf_counter()
        trial.call = stack.enter_context(trial.remedy.open(subject))
        opened = perf_counter() - began
        times: list[float] = []
        for _ in range(MOST_PREPARATIONS):
            began = perf_counter()
            sample = trial.call(subject.most_tokens)
            times.append(perf_counter() - began)
            if len(times) == 1 and subject.on_gpu:  # watch resets the peak at each call: the first holds what was made
                trial.memory_bytes = max(sample.memory_peak_bytes or 0, torch.cuda.max_memory_allocated()) - before
            if len(times) > 1 and times[-1] <= STEADY * min(times):
                break
        trial.prepare_s = opened + sum(times) - len(times) * min(times)
        trial.allocations = _allocations(trial.call, subject)
        trial.alone = sample
        if base is not None and base.alone is not None:
            trial.difference = first_difference(subject, base.alone, sample)

    _guarded(trial, first)


def _share_compiling(trials: dict[str, Trial]) -> None:
    """Kernels launched one by one are compiled for `fast` already here; who uses them alone pays for that too."""
    fast, kernels = trials.get("fast"), trials.get("kernels")
    if fast is not None and kernels is not None and fast.prepare_s is not None and kernels.prepare_s is not None:
        kernels.prepare_s = max(kernels.prepare_s, fast.prepare_s)


def _measure(trial: Trial, number: int, new_tokens: int) -> None:
    """One call of one round; nothing for a remedy that has failed before."""
    if trial.call is not None:
        trial.samples[number] = trial.call(new_tokens)


def _guarded(trial: Trial, work: Callable[[], object]) -> None:
    """Do it; what goes wrong is the row's reason, not the end of the proof."""
    try:
        work()
        return
    except torch.OutOfMemoryError:
        trial.failed = "out of memory"
    except LaptimeError as error:
        trial.failed = str(error)
    except Exception as error:  # whatever a compiler or driver throws
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        trial.failed = f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
    trial.call = None
    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


def _allocations(call: Call, subject: Subject) -> float | None:
    """Device allocations a step: what more tokens allocate more."""
    if not subject.on_gpu:
        return None
    counts = []
    short = max(subject.most_tokens // 2, 2)
    for tokens in (short, subject.most_tokens):
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        call(tokens)
        counts.append(torch.cuda.memory_stats()["allocation.all.allocated"] - before)
    return float((counts[1] - counts[0]) / (subject.most_tokens - short))


def _traced(trial: Trial, subject: Subject, untraced_ms: float | None) -> TraceAnalysis | None:
    """The trace of a short call, read as `laptime trace` reads it; None without a GPU or where it says nothing."""
    call = trial.call
    if not subject.on_gpu or call is None:
        return None
    tokens = REPLAYED_TOKENS if {"fusion", "graph"} <= set(trial.remedy.parts) else TRACED_TOKENS
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with tempfile.TemporaryDirectory() as folder, suppress(LaptimeError, RuntimeError):
        with torch.profiler.profile(activities=activities) as profiler:
            call(min(tokens, subject.most_tokens))
            torch.cuda.synchronize()
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        try:
            return read_trace(file, tpot_ms=untraced_ms)
        except LaptimeError:  # a step that was quicker than what the GPU works in a traced one
            return read_trace(file)
    return None
