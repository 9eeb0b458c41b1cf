"""Where two greedy calls first chose different tokens, and how near the choice was."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from laptime.data.record import Sample
from laptime.remedy.remedies import Subject

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
