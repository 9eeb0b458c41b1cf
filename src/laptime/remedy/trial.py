"""What was measured of one remedy, and the row that it makes in the report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import perf_counter

import torch

from laptime.data.record import Sample
from laptime.data.stats import median_interval
from laptime.decoder.plan import DecodePlan
from laptime.remedy.remedies import Call, Remedy, Subject
from laptime.remedy.result import Promise, RemedyRow
from laptime.trace.result import TraceAnalysis

DRIFT = 0.1
"""A larger change of the baseline, between a call alone and the rounds, is said."""


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
    difference: Difference | None = None
    alone: Sample | None = None  # the last call of its preparation
    samples: dict[int, Sample] = field(default_factory=dict)  # by round


def middle(subject: Subject) -> int:
    """Positions that a step looks at, on average over the call."""
    return int(subject.inputs["input_ids"].shape[1]) + subject.most_tokens // 2


def floor_ms(plan: DecodePlan | None, subject: Subject, bandwidth: float | None) -> float | None:
    """The bytes of a step over the copy bandwidth; None where either is not known."""
    if plan is None or bandwidth is None:
        return None
    read = plan.weight_bytes(subject.batch) + plan.cache_bytes(middle(subject), subject.batch)
    return round(read / bandwidth / 1e6, 4)


def median_ms(trial: Trial) -> float:
    """Time per token over the rounds."""
    return median_interval([s.tpot_ms for s in trial.samples.values() if s.tpot_ms is not None]).value


def remedy_row(
    trial: Trial,
    base: Trial,
    promise: Promise | None,
    plan: DecodePlan | None,
    subject: Subject,
    bandwidth: float | None,
) -> RemedyRow:
    """The remedy's line: its figures, or why there are none."""
    remedy = trial.remedy
    taken = {n: s.tpot_ms for n, s in trial.samples.items() if s.tpot_ms is not None}
    if trial.failed is not None or not taken:
        reason = trial.failed or "no call was finished"
        return RemedyRow(name=remedy.name, title=remedy.title, parts=list(remedy.parts), promise=promise, failed=reason)
    tpot = median_interval(list(taken.values()))
    pairs = [b / taken[n] for n, s in base.samples.items() if n in taken and (b := s.tpot_ms) is not None]
    ours, theirs = trial.memory_bytes, base.memory_bytes
    read = None if plan is None else plan.weight_bytes(subject.batch) + plan.cache_bytes(middle(subject), subject.batch)
    rate = None if read is None else read / tpot.value / 1e6
    steps = None if trial.traced is None else trial.traced.steps
    gain_ms = median_ms(base) - tpot.value
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
        bandwidth_share=None if rate is None or bandwidth is None else rate / bandwidth,
        prepare_s=None if is_base else trial.prepare_s,
        pays_after_tokens=None
        if is_base or gain_ms <= 0 or trial.prepare_s is None
        else max(0, round(trial.prepare_s * 1e3 / gain_ms)),
        memory_bytes=None if ours is None or theirs is None else ours - theirs,
        tokens_same=None if is_base or difference is None else difference.position is None,
        first_difference=None if difference is None else difference.position,
        logit_gap=None if difference is None else difference.logit_gap,
        bf16_steps=None if difference is None else difference.bf16_steps,
    )


def notes_on(rows: list[RemedyRow], subject: Subject, base: Trial) -> list[str]:
    """What a reader must know before trusting the lines."""
    notes = []
    if not subject.on_gpu:
        notes.append("without a CUDA GPU: no trace of kernels, so no promises; graphs and kernels need one")
    alone, among = None if base.alone is None else base.alone.tpot_ms, median_ms(base)
    if alone is not None and abs(among / alone - 1) > DRIFT:
        notes.append(f"the baseline took {alone:.3g} ms a token alone and {among:.3g} between the others")
    if base.alone is not None and any(s.output_ids != base.alone.output_ids for s in base.samples.values()):
        notes.append("the baseline itself doesn't repeat its tokens from call to call")
    if any(row.tokens_same is False for row in rows):
        notes.append(
            "after the first different token two calls answer different prompts, so only that place says something: "
            "a gap of a few bfloat16 steps is rounding"
        )
    missed = [row.name for row in rows if row.kept is False]
    if missed:
        notes.append(f"outside what was promised: {', '.join(missed)}")
    return notes


GPU_BYTES, CPU_BYTES = 1 << 30, 1 << 27
REPEATS = 5


def copy_gb_per_s(device: torch.device) -> float | None:
    """Bytes read and written a second by a large copy, in GB/s: the best of a few. None when there is no room."""
    size = GPU_BYTES if device.type == "cuda" else CPU_BYTES
    try:
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
    except RuntimeError:  # out of memory, by whatever name
        return None
    best = 0.0
    for _ in range(REPEATS):
        seconds = _copy_seconds(source, target, device)
        best = max(best, 2 * size / seconds / 1e9)
    return round(best, 1)


def _copy_seconds(source: torch.Tensor, target: torch.Tensor, device: torch.device) -> float:
    if device.type != "cuda":
        began = perf_counter()
        target.copy_(source)
        return perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    target.copy_(source)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


BF16_FRACTION_BITS = 8


@dataclass(frozen=True)
class Difference:
    """position among the new tokens, None when all are the same. logit_gap: by the model's own logits at that place,
    the baseline's token minus the other's; bf16_steps: the gap in steps of bfloat16 at the size of the logit. The two
    are None where the model, asked again, doesn't come to the same place."""

    position: int | None = None
    logit_gap: float | None = None
    bf16_steps: float | None = None


@torch.no_grad()
def first_difference(subject: Subject, baseline: Sample, other: Sample) -> Difference:
    """Compare the ids of two samples of the same call; the model is asked once more where they differ."""
    places = [
        (i, row, a, b)
        for row, (ours, theirs) in enumerate(zip(baseline.output_ids or [], other.output_ids or [], strict=True))
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
        if a != b
    ]
    if not places:
        return Difference()
    position, row, own, chosen = min(places)
    made = subject.model.generate(
        **subject.inputs,
        max_new_tokens=position + 1,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    if made.sequences[row, -position - 1 : -1].tolist() != (baseline.output_ids or [])[row][:position]:
        return Difference(position)
    logits = made.logits[position][row].float()
    gap = float(logits[own] - logits[chosen])
    size = max(abs(float(logits[own])), 1e-30)
    step = 2.0 ** (math.floor(math.log2(size)) + 1 - BF16_FRACTION_BITS)
    return Difference(position, gap, gap / step)
