"""From marks to stages: how a call is divided is decided here and nowhere else.

The marks of one call, in the order in which the program passed them:

    start                        generate() entered
    vision-begin  vision-end     the vision tower's entry, the projector's exit (any number of times)
    audio-begin  audio-end       likewise, of the audio encoder
    encode-begin  encode-end     the encoder of an encoder-decoder
    unassigned-begin:PATH  unassigned-end:PATH   a module that looks like an encoder and belongs to no stage
    loop-begin                   the decode loop begins, and a forward ran before it (Whisper: which language is it?)
    prefill-begin                the language model's entry in the first forward of the loop
    first-logits                 the first token's logits are there: prefill ends
    first-token                  the first token is chosen and generate() goes on
    decode-begin                 the first decode forward's entry
    verify-begin  chosen         of assisted decoding (laptime.measure.assisted), inside decode
    logits                       a decode step's logits (the last one only, or every one)
    end                          generate() returned

They divide the call into spans that follow each other without gap or overlap; `other` is what no stage covers. A
stage's time is the sum of its spans. So no stage is negative, and the stages always add up to the total.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from laptime.data.record import Mark, StageTimes
from laptime.errors import LaptimeError


class Span(NamedTuple):
    """One uninterrupted part of a stage, in nanoseconds after the call's start."""

    stage: str
    begin_ns: int
    end_ns: int


class Partition(msgspec.Struct, frozen=True):
    """One call's times, on the device's timeline and on the host's."""

    stages: StageTimes
    host_stages: StageTimes
    ttft_ms: float
    gap_known: bool  # tokens came at more than one instant
    last_token_ms: float  # the instant that the last token counts from; the TTFT where there is one token

    def tpot_ms(self, tokens: int) -> float | None:
        """(last token - TTFT) / (N - 1), the mean of the gaps between N tokens; None where there is no gap.

        An assisted call's first forward can give all tokens at once.
        """
        return (self.last_token_ms - self.ttft_ms) / (tokens - 1) if tokens > 1 and self.gap_known else None


def partition(marks: Sequence[Mark]) -> Partition:
    """The stages of one call. Raises LaptimeError when a mark that must be there is missing."""
    tokens = _tokens(marks)
    stages = _stage_times(spans(marks))
    one_timeline = all(mark.device_ns == mark.host_ns for mark in marks)  # a CPU's
    return Partition(
        stages=stages,
        host_stages=stages if one_timeline else _stage_times(spans(marks, host=True)),
        ttft_ms=(tokens[0].device_ns - marks[0].device_ns) / 1e6,
        gap_known=len(tokens) > 1,
        last_token_ms=(tokens[-1].device_ns - marks[0].device_ns) / 1e6,
    )


def spans(marks: Sequence[Mark], *, host: bool = False) -> list[Span]:
    """The spans of a call from start to end, in order, on the device's timeline or the host's.

    Raises LaptimeError when a mark that must be there is missing.
    """
    instants = [(mark.kind, mark.host_ns if host else mark.device_ns) for mark in marks]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for kind, ns in instants:
        if kind == "loop-begin":
            first.pop("prefill-begin", None)
        first.setdefault(kind, ns)  # a chunked prefill enters the language model several times
        last[kind] = ns
    _check(first)
    parts = [
        part for stage in ("vision", "audio") if f"{stage}-begin" in first for part in _encoder_spans(instants, stage)
    ]
    parts.sort(key=lambda part: part[1:])
    # An encoder that runs inside another one, or inside the language model (Molmo), is that stage and no other.
    for whole in _encoder_spans(instants, "encode") if "encode-begin" in first else ():
        parts += [part for part in _without(whole, parts) if part.begin_ns < part.end_ns]
    parts.sort(key=lambda part: part[1:])
    beside = sorted([*parts, *_unassigned(instants)], key=lambda part: part[1:])
    parts += _without(Span("prefill", first["prefill-begin"], first["first-logits"]), beside)
    if "logits" in last:
        parts.append(Span("decode", first["decode-begin"], last["logits"]))
    return _with_other(sorted(parts, key=lambda part: part[1:]), first["start"], last["end"])


def inter_token(marks: Sequence[Mark]) -> list[float]:
    """ITL in ms where every step was marked: the gaps between N tokens, N - 1 of them.

    The first begins where the TTFT ends, so TTFT + the sum of the gaps is the instant of the last token.
    """
    return [(later.device_ns - earlier.device_ns) / 1e6 for earlier, later in pairwise(_tokens(marks))]


def _tokens(marks: Sequence[Mark]) -> list[Mark]:
    """The instants of the tokens: the first when it is chosen, a later one when its logits are there.

    A single token is chosen by the end of the call.
    """
    tokens = [mark for mark in marks if mark.kind in ("first-token", "logits")]
    return tokens if tokens and tokens[0].kind == "first-token" else [marks[-1]]


def _stage_times(parts: Sequence[Span]) -> StageTimes:
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.stage] = sums.get(part.stage, 0) + part.end_ns - part.begin_ns
    return StageTimes.from_ns(
        vision=sums.get("vision", 0),
        audio=sums.get("audio"),
        encode=sums.get("encode"),
        prefill=sums["prefill"],
        decode=sums.get("decode"),
        total=parts[-1].end_ns - parts[0].begin_ns,
    )


def _check(first: dict[str, int]) -> None:
    if "prefill-begin" not in first:
        raise LaptimeError(
            "the language model's entry was never seen: it is compiled into the whole model, or another module is "
            "the language model; name it with `language_module` (`language` of a StageTimer)"
        )
    if "first-logits" not in first or "end" not in first:
        raise LaptimeError(
            "generate() returned without logits: nothing was generated, or by a loop that isn't transformers' own"
        )
    if "logits" in first and "decode-begin" not in first:
        raise LaptimeError("the first decode forward's entry was never seen, so decode can't be told from prefill")


def _encoder_spans(instants: Sequence[tuple[str, int]], stage: str) -> list[Span]:
    """From the tower's entry to the projector's exit. A projector that runs again lengthens the span before it."""
    found: list[Span] = []
    begin: int | None = None
    for kind, ns in instants:
        if kind == f"{stage}-begin" and begin is None:
            begin = ns
        elif kind == f"{stage}-end":
            if begin is not None:
                found.append(Span(stage, begin, ns))
                begin = None
            elif found:
                found[-1] = Span(stage, found[-1].begin_ns, ns)
    if begin is not None:
        raise LaptimeError(
            f"the {stage} encoder was entered but its projector's exit was never seen; name it with "
            "`projector_module` (`projector` of a StageTimer)"
        )
    return found


def unassigned_ms(marks: Sequence[Mark]) -> dict[str, float]:
    """How long each module ran that looks like an encoder and belongs to no stage. Its time is in other."""
    times: dict[str, int] = {}
    for span in _unassigned([(mark.kind, mark.device_ns) for mark in marks]):
        times[span.stage] = times.get(span.stage, 0) + span.end_ns - span.begin_ns
    return {path: ns / 1e6 for path, ns in times.items()}


def _unassigned(instants: Sequence[tuple[str, int]]) -> list[Span]:
    """Their spans, each under the module's path."""
    found: list[Span] = []
    begun: dict[str, int] = {}
    for kind, ns in instants:
        what, _, path = kind.partition(":")
        if what == "unassigned-begin":
            begun[path] = ns
        elif what == "unassigned-end" and path in begun:
            found.append(Span(path, begun.pop(path), ns))
    return found


def _without(whole: Span, parts: Sequence[Span]) -> list[Span]:
    """What is left of the whole without the parts: at least one span, which can be empty."""
    left: list[Span] = []
    at = whole.begin_ns
    for part in parts:
        if part.end_ns <= at or part.begin_ns >= whole.end_ns:
            continue
        if part.begin_ns > at:
            left.append(Span(whole.stage, at, part.begin_ns))
        at = part.end_ns
    if at < whole.end_ns or not left:
        left.append(Span(whole.stage, at, max(at, whole.end_ns)))
    return left


def _with_other(parts: Sequence[Span], start: int, end: int) -> list[Span]:
    filled: list[Span] = []
    at = start
    for part in parts:
        if part.begin_ns > at:
            filled.append(Span("other", at, part.begin_ns))
        filled.append(part)
        at = part.end_ns
    if at < end:
        filled.append(Span("other", at, end))
    return filled
