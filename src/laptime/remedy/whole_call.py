"""The whole call of each remedy: its stages, and the time of answers of several lengths, promised and measured.

The measured calls have one length. Another length's time is the call's without its decode, plus its own steps at the
measured time per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from laptime.data.record import Sample
from laptime.data.stats import median_interval
from laptime.remedy.call_promise import AROUND_MS
from laptime.remedy.result import AnswerTime, Promise, StageFigures

STAGES = ("vision", "prefill", "decode")
LENGTHS = (2, 8, 32, 256)
"""Answer lengths that are spoken of, beside the user's own."""


def stage_figures(
    samples: Sequence[Sample], promises: dict[str, Promise], floors: dict[str, float | None]
) -> list[StageFigures]:
    """Measured, promised and least time of vision, prefill and decode; a stage that no call had is left out."""
    figures = []
    for stage in STAGES:
        taken = [value for sample in samples if (value := getattr(sample.stages, f"{stage}_ms")) is not None]
        if not taken or not any(taken):
            continue
        measured, promise = median_interval(taken), promises.get(stage)
        figures.append(
            StageFigures(
                stage=stage,
                measured=measured,
                promise=promise,
                floor_ms=floors.get(stage),
                kept=None if promise is None else promise.low_ms <= measured.value <= promise.high_ms,
            )
        )
    return figures


def decode_promise(step: Promise, tokens: int) -> Promise:
    """The promise of a token as that of a whole decode stage."""
    steps = tokens - 1
    low, high = round(steps * step.low_ms, 4), round(steps * step.high_ms, 4)
    return Promise(low_ms=low, high_ms=high, source=step.source, assumptions=step.assumptions)


def promised_call(promises: Sequence[Promise | None], tokens: int, step: Promise | None) -> tuple[float, float] | None:
    """The range of an answer of this many tokens: its parts' promises, its steps, and what lies around them."""
    if step is None or any(promise is None for promise in promises):
        return None
    known = [promise for promise in promises if promise is not None]
    low = sum(promise.low_ms for promise in known) + (tokens - 1) * step.low_ms + AROUND_MS[0]
    high = sum(promise.high_ms for promise in known) + (tokens - 1) * step.high_ms + AROUND_MS[1]
    return round(low, 3), round(high, 3)


def answer_time(
    remedy: str,
    tokens: int,
    samples: Sequence[Sample],
    base: Sequence[Sample],
    *,
    prepare_s: float | None,
    promised: tuple[float, float] | None = None,
) -> AnswerTime:
    """The time of an answer of this many tokens by a remedy, and after how many answers its preparation has paid.

    samples, base: calls of the remedy and of the baseline, all of one length, a pair for each round. As for a token, it
    pays only where the median over the rounds' pairs is a saving too.
    """
    ms, own = answer_ms(samples, tokens), answer_ms(base, tokens)
    measured = all(sample.output_tokens == tokens for sample in samples)
    pairs = [answer_ms([b], tokens) / answer_ms([one], tokens) for one, b in zip(samples, base, strict=True)]
    saves = own > ms and median_interval(pairs).value > 1
    pays = None if prepare_s is None or not saves else max(1, ceil(prepare_s * 1e3 / (own - ms)))
    return AnswerTime(
        tokens=tokens,
        remedy=remedy,
        ms=round(ms, 3),
        measured=measured,
        promised_low_ms=None if promised is None else promised[0],
        promised_high_ms=None if promised is None else promised[1],
        kept=None if promised is None or not measured else promised[0] <= ms <= promised[1],
        baseline_ms=round(own, 3),
        pays_after_answers=pays,
    )


def answer_ms(samples: Sequence[Sample], tokens: int) -> float:
    """The median time of an answer of this many tokens, from calls of another length."""
    times = []
    for sample in samples:
        steps = (sample.output_tokens or 1) - 1
        decode = sample.stages.decode_ms or 0.0
        each = decode / steps if steps else 0.0
        times.append(sample.stages.total_ms - decode + (tokens - 1) * each)
    return median_interval(times).value
