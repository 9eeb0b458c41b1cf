"""Marks to stages: the partition of a call is made here and nowhere else.

The marks of one call, in the order in which the program passed them:

    start                        generate() entered
    vision-begin  vision-end     the vision tower's entry, the projector's exit (any number of times)
    prefill-begin                the language model's entry in the first forward
    first-logits                 the first token's logits are there: prefill ends
    first-token                  the first token is chosen and generate() goes on
    decode-begin                 the first decode forward's entry
    logits                       a decode step's logits (the last one only, or every one)
    end                          generate() returned

Every stage is a union of intervals between marks of this one timeline, the stages do not overlap, and `other`
is what they leave: it can't be negative and the sum closes by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from laptime.errors import LaptimeError
from laptime.record import Mark, StageTimes


class Partition(msgspec.Struct, frozen=True):
    """One call's times, on the device's timeline and on the host's."""

    stages: StageTimes
    host_stages: StageTimes
    ttft_ms: float


def partition(marks: Sequence[Mark]) -> Partition:
    """The stages of one call. Raises LaptimeError when a mark that must be there is missing."""
    device = [(mark.kind, mark.device_ns) for mark in marks]
    host = [(mark.kind, mark.host_ns) for mark in marks]
    first_token = next((ns for kind, ns in device if kind == "first-token"), device[-1][1])
    return Partition(
        stages=_stages(device),
        host_stages=_stages(host),
        ttft_ms=(first_token - device[0][1]) / 1e6,
    )


def inter_token(marks: Sequence[Mark]) -> list[float]:
    """ITL in ms where every step was marked: the gaps between the logits of N tokens, N - 1 of them."""
    logits = [mark.device_ns for mark in marks if mark.kind in ("first-logits", "logits")]
    return [(later - earlier) / 1e6 for earlier, later in pairwise(logits)]


def _stages(instants: Sequence[tuple[str, int]]) -> StageTimes:
    at: dict[str, int] = {}
    for kind, ns in instants:
        if kind != "logits":
            at.setdefault(kind, ns)  # the first of a kind: a chunked prefill enters the language model often
        else:
            at[kind] = ns  # the last decode step's
    if "prefill-begin" not in at:
        raise LaptimeError(
            "the language model's entry was never seen: it is compiled into the whole model, or another module is "
            "the language model; name it with --language-module (language=... in Python)"
        )
    if "first-logits" not in at or "end" not in at:
        raise LaptimeError("generate() returned without logits: nothing was generated, so nothing can be timed")
    vision = _vision_spans(instants)
    prefill = (at["prefill-begin"], at["first-logits"])
    decode = at["logits"] - at["decode-begin"] if "logits" in at else None
    return StageTimes.from_ns(
        vision=sum(end - begin for begin, end in vision),
        # A vision tower that runs inside the language model (Molmo) is vision, not prefill.
        prefill=prefill[1] - prefill[0] - sum(_overlap(span, prefill) for span in vision),
        decode=decode,
        total=at["end"] - at["start"],
    )


def _vision_spans(instants: Sequence[tuple[str, int]]) -> list[tuple[int, int]]:
    """Tower's entry to projector's exit, disjoint. A projector that runs again lengthens the span it belongs to."""
    spans: list[tuple[int, int]] = []
    begin: int | None = None
    for kind, ns in instants:
        if kind == "vision-begin" and begin is None:
            begin = ns
        elif kind == "vision-end":
            if begin is not None:
                spans.append((begin, ns))
                begin = None
            elif spans:
                spans[-1] = (spans[-1][0], ns)
    if begin is not None:
        raise LaptimeError(
            "the vision tower was entered but the projector's exit was never seen; name it with --projector-module "
            "(projector=... in Python)"
        )
    return spans


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))
