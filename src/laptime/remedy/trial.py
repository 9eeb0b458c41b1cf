"""One remedy applied to the model and measured: preparation, calls, trace, and the row that they make in the result.

Whatever goes wrong in a remedy becomes the reason in its row. The other remedies go on.
"""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch

from laptime.data.record import Sample
from laptime.data.stats import median_interval
from laptime.errors import LaptimeError
from laptime.remedy.floor import StepFloor
from laptime.remedy.pass_ranges import PassRanges
from laptime.remedy.remedies import Call, Remedy, Subject
from laptime.remedy.result import Promise, RemedyRow
from laptime.trace.analysis import read_trace
from laptime.trace.result import TraceAnalysis

STEADY = 1.25
"""Preparation is over when a call takes at most this many times the quickest so far."""
MOST_PREPARATIONS = 4
TRACED_TOKENS, REPLAYED_TOKENS = 12, 64
"""Tokens of a traced call. A fused step in a graph has few kernels, so it needs more steps: else the repeated blocks of
a long prompt would be taken for the steps."""


@dataclass
class Trial:
    """One remedy's measurements as they come in."""

    remedy: Remedy
    call: Call | None = None
    failed: str | None = None
    prepare_s: float | None = None
    memory_bytes: int | None = None
    allocations: float | None = None
    traced: TraceAnalysis | None = None
    difference: OutputDifference | None = None
    alone: Sample | None = None  # the last call of its preparation
    samples: dict[int, Sample] = field(default_factory=dict)  # by round

    @property
    def tpot_ms(self) -> float:
        """The median time per token over the rounds."""
        return median_interval([s.tpot_ms for s in self.samples.values() if s.tpot_ms is not None]).value

    def attempt(self, work: Callable[[], object]) -> None:
        """Do the work. What goes wrong becomes the reason in this remedy's row."""
        try:
            work()
            return
        except torch.OutOfMemoryError:
            self.failed = "out of memory"
        except LaptimeError as error:
            self.failed = str(error)
        except Exception as error:  # a compiler or a driver can raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.failed = f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
        self.call = None
        gc.collect()
        if torch.cuda.is_available():
            with suppress(RuntimeError):
                torch.cuda.empty_cache()

    def measure(self, number: int, new_tokens: int) -> None:
        """Make the call of one round. A remedy that has failed before is left alone."""
        if self.call is not None:
            self.samples[number] = self.call(new_tokens)


def prepare(trial: Trial, subject: Subject, stack: ExitStack, base: Trial | None) -> None:
    """Apply the remedy and call it until its times are steady; note its tokens and allocations.

    stack: undoes the remedy at its end. base: the baseline's trial, whose tokens are compared; None for the baseline.
    """
    if trial.remedy.needs_gpu and not subject.on_gpu:
        trial.failed = "needs a CUDA GPU"
        return

    def apply() -> None:
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
            if len(times) == 1 and subject.on_gpu:  # the first call allocates the most
                trial.memory_bytes = max(sample.memory_peak_bytes or 0, torch.cuda.max_memory_allocated()) - before
            if len(times) > 1 and times[-1] <= STEADY * min(times):
                break
        trial.prepare_s = opened + sum(times) - len(times) * min(times)
        trial.allocations = _allocations(trial.call, subject)
        trial.alone = sample
        if base is not None and base.alone is not None:
            trial.difference = first_difference(subject, base.alone, sample)

    trial.attempt(apply)


def trace_of(trial: Trial, subject: Subject, untraced_ms: float | None) -> TraceAnalysis | None:
    """The trace of a short call, read as `laptime trace` reads it. None if there is no GPU, or nothing can be read.

    untraced_ms: time per token without the profiler, for the baseline's what-if rows. With it vision and prefill are
    named in the trace, and its what-if rows of them start from the calls' median times.
    """
    call = trial.call
    if not subject.on_gpu or call is None:
        return None
    tokens = REPLAYED_TOKENS if {"fusion", "graph"} <= set(trial.remedy.parts) else TRACED_TOKENS
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with tempfile.TemporaryDirectory() as folder, suppress(LaptimeError, RuntimeError):
        named = nullcontext() if untraced_ms is None else PassRanges(subject.model)
        with torch.profiler.profile(activities=activities) as profiler, named:
            call(min(tokens, subject.most_tokens))
            torch.cuda.synchronize()
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        stages = {} if untraced_ms is None else stage_medians(trial)
        for tpot_ms, stage_ms in ((untraced_ms, stages), (untraced_ms, {}), (None, {})):
            # An untraced step or pass can be shorter than the GPU's work in the traced one.
            with suppress(LaptimeError):
                return read_trace(file, tpot_ms=tpot_ms, stage_ms=stage_ms)
    return None


def stage_medians(trial: Trial) -> dict[str, float]:
    """The median time of vision and of prefill over a trial's calls, in ms; a stage that no call had is left out."""
    taken = {
        stage: [ms for sample in trial.samples.values() if (ms := getattr(sample.stages, f"{stage}_ms"))]
        for stage in ("vision", "prefill")
    }
    return {stage: median_interval(values).value for stage, values in taken.items() if values}


def row_of(trial: Trial, base: Trial, promise: Promise | None, floor: StepFloor) -> RemedyRow:
    """The remedy's row: its figures, or the reason why there are none."""
    remedy = trial.remedy
    taken = {n: s.tpot_ms for n, s in trial.samples.items() if s.tpot_ms is not None}
    if trial.failed is not None or not taken:
        reason = trial.failed or "no call was finished"
        return RemedyRow(name=remedy.name, title=remedy.title, parts=list(remedy.parts), promise=promise, failed=reason)
    tpot = median_interval(list(taken.values()))
    pairs = [b / taken[n] for n, s in base.samples.items() if n in taken and (b := s.tpot_ms) is not None]
    memory, base_memory = trial.memory_bytes, base.memory_bytes
    rate = None if floor.read_bytes is None else floor.read_bytes / tpot.value / 1e6
    steps = None if trial.traced is None else trial.traced.steps
    gain_ms = base.tpot_ms - tpot.value
    difference = trial.difference
    is_base = trial is base
    return RemedyRow(
        name=remedy.name,
        title=remedy.title,
        parts=list(remedy.parts),
        promise=promise,
        tpot_ms=tpot,
        speedup=None if is_base else median_interval(pairs),
        call_ms=median_interval([s.stages.total_ms for s in trial.samples.values()]),
        kept=None if promise is None else promise.low_ms <= tpot.value <= promise.high_ms,
        kernels_per_step=None if steps is None else steps.kernels_per_step,
        launches_per_step=None if steps is None else steps.launches_per_step,
        gap_share=None if steps is None or steps.utilisation is None else 1 - steps.utilisation,
        allocations_per_step=trial.allocations,
        gb_per_s=rate,
        bandwidth_share=None if rate is None or floor.copy_gb_per_s is None else rate / floor.copy_gb_per_s,
        prepare_s=None if is_base else trial.prepare_s,
        pays_after_tokens=None
        if is_base or gain_ms <= 0 or trial.prepare_s is None
        else max(0, round(trial.prepare_s * 1e3 / gain_ms)),
        memory_bytes=None if memory is None or base_memory is None else memory - base_memory,
        tokens_same=None if is_base or difference is None else difference.position is None,
        first_difference=None if difference is None else difference.position,
        logit_gap=None if difference is None else difference.logit_gap,
        bf16_steps=None if difference is None else difference.bf16_steps,
    )


def _allocations(call: Call, subject: Subject) -> float | None:
    """Device allocations in a step, from the difference between a short and a long call."""
    if not subject.on_gpu:
        return None
    counts = []
    short = max(subject.most_tokens // 2, 2)
    for tokens in (short, subject.most_tokens):
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        call(tokens)
        counts.append(torch.cuda.memory_stats()["allocation.all.allocated"] - before)
    return float((counts[1] - counts[0]) / (subject.most_tokens - short))


BF16_FRACTION_BITS = 8


@dataclass(frozen=True)
class OutputDifference:
    """The first difference of two calls' tokens.

    position: among the new tokens; None when all are the same.
    logit_gap: by the model's logits at that position, the baseline's token minus the other's.
    bf16_steps: the gap in steps of bfloat16 at the size of the logit.
    The last two are None when the model, asked again, doesn't come to the same place.
    """

    position: int | None = None
    logit_gap: float | None = None
    bf16_steps: float | None = None


@torch.no_grad()
def first_difference(subject: Subject, baseline: Sample, other: Sample) -> OutputDifference:
    """Compare the ids of two samples of the same call. Where they differ the model computes its logits once more."""
    differences = [
        (i, row, a, b)
        for row, (own_ids, other_ids) in enumerate(zip(baseline.output_ids or [], other.output_ids or [], strict=True))
        for i, (a, b) in enumerate(zip(own_ids, other_ids, strict=True))
        if a != b
    ]
    if not differences:
        return OutputDifference()
    position, row, own, chosen = min(differences)
    again = subject.model.generate(
        **subject.inputs,
        max_new_tokens=position + 1,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    if again.sequences[row, -position - 1 : -1].tolist() != (baseline.output_ids or [])[row][:position]:
        return OutputDifference(position)
    logits = again.logits[position][row].float()
    gap = float(logits[own] - logits[chosen])
    size = max(abs(float(logits[own])), 1e-30)
    step = 2.0 ** (math.floor(math.log2(size)) + 1 - BF16_FRACTION_BITS)
    return OutputDifference(position, gap, gap / step)
