"""Where the greedy tokens of two calls first differ, and whether rounding can explain it.

At the first difference the model is asked for its logits. A gap of a few bfloat16 steps between the two tokens is a tie
that rounding decides; a large gap is an error. After that place the two calls answer different texts, so nothing later
is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from laptime.data.record import Sample
from laptime.remedy.remedies import Subject

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
