"""Which attention a step runs, and how often: layers of two kinds are told apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from laptime.trace.kernel_names import family, short_name
from laptime.trace.read.timeline import Int32
from laptime.trace.result import AttentionKind

_LINEAR = re.compile(r"delta_?rule|selective_(?:scan|state)|chunk_(?:scan|state|gla)|wkv|linear_?attn", re.IGNORECASE)
_BACKWARD = re.compile(r"bwd|backward", re.IGNORECASE)

FEW = 0.1
"""A kernel that runs less often than this share of the most frequent one is no kind of layer."""


def is_linear(name: str) -> bool:
    """Whether a kernel mixes tokens without attention's square: linear attention, or the scan of a state space."""
    return _LINEAR.search(name) is not None


def attention_kinds(names: Int32, strings: Sequence[str]) -> list[AttentionKind]:
    """The attention kernels of a step, most frequent first.

    One layer's attention can be several kernels: of those that run equally often the first stands for all. Those of a
    backward pass count where there are no others.
    """
    used, counts = np.unique(names, return_counts=True)
    found: Counter[str] = Counter()
    for i, count in zip(used.tolist(), counts.tolist(), strict=True):
        if family(strings[i]) == "attention":
            found[strings[i]] += count
    forward = {name: count for name, count in found.items() if not _BACKWARD.search(name)} or dict(found)
    kinds: list[AttentionKind] = []
    for name, count in sorted(forward.items(), key=lambda row: (-row[1], row[0])):
        linear = is_linear(name)
        known = any(kind.kernels == count and kind.linear == linear for kind in kinds)
        if not known and (not kinds or (count > 1 and count >= FEW * kinds[0].kernels)):
            kinds.append(AttentionKind(name=short_name(name), kernels=count, linear=linear))
    return kinds


def attention_words(kinds: Sequence[AttentionKind]) -> str | None:
    """`57 of them the same attention`, or `48 of them the same linear attention, 16 another`; None: nothing to say."""
    if not kinds or kinds[0].kernels < 2:
        return None
    first = kinds[0]
    words = f"{first.kernels} of them the same {'linear ' if first.linear else ''}attention"
    others = [kind.kernels for kind in kinds[1:3]]
    return words + "".join(f", {count} another" for count in others)
