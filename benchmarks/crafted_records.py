"""Faults of how measurements were recorded, as practitioners report them, put into simulated runs (crafted_faults)."""

from __future__ import annotations

import polars
from crafted_faults import CHANCE, NUMBER, PLACE, STAGES, Change, Fault, slower, times
from polars import col, lit, when

BEGIN = 1.8e12
GAPS = ("itl_ms", "tpot_ms", "ttft_ms", "decode_per_token_ms")


def bare(frame: polars.DataFrame) -> polars.DataFrame:
    """Without gaps between tokens, and without a count of forwards: as most tables are."""
    return frame.drop(*GAPS, "decode_forwards")


def stamped(frame: polars.DataFrame) -> polars.DataFrame:
    """Start times as they are when calls take as long as they say, one after the other."""
    total = col("total_ms")
    return frame.with_columns(started_unix_ms=BEGIN + total.cum_sum() - total)


def _both(*changes: Change) -> Change:
    def change(frame: polars.DataFrame) -> polars.DataFrame:
        for one in changes:
            frame = one(frame)
        return frame

    return change


def _set(**columns: polars.Expr) -> Change:
    return lambda frame: frame.with_columns(**columns)


def device_clock(factor: float) -> Change:
    """Stages by a device's clock that runs at another rate than the host's, which gives the total."""
    stages = ("vision_ms", "prefill_ms", "decode_ms", "decode_per_token_ms", "ttft_ms", "tpot_ms")
    return times(factor, stages)


def encoder_cache(frame: polars.DataFrame) -> polars.DataFrame:
    """Embeddings of images are kept: when an image comes again its tower doesn't run."""
    place = col("started_unix_ms").rank("ordinal").over("config_id", "sample_id")
    saved = when(place > 1).then(0.97 * col("vision_ms")).otherwise(0.0)
    less = {name: col(name) - saved for name in ("vision_ms", "total_ms", "ttft_ms")}
    return frame.with_columns(**less)


def appended(frame: polars.DataFrame) -> polars.DataFrame:
    """The same profile twice in one table, the second time with other ids and start times a day later."""
    again = frame.with_columns(sample_id="b" + col("sample_id"), started_unix_ms=col("started_unix_ms") + 86.4e6)
    return polars.concat([frame, again])


def appended_rounded(frame: polars.DataFrame) -> polars.DataFrame:
    """The same, of which one copy went through a CSV with one digit."""
    frame = bare(frame)
    again = frame.with_columns(
        (col(name).round(1) for name in (*STAGES, "total_ms")),
        sample_id="b" + col("sample_id"), started_unix_ms=col("started_unix_ms") + 86.4e6,
    )  # fmt: skip
    return polars.concat([frame, again])


def other_tokenizer(frame: polars.DataFrame) -> polars.DataFrame:
    """Tokens counted again by another tokenizer, a fifth more of them."""
    return frame.with_columns(output_tokens=(col("output_tokens") * 1.2).ceil().cast(int), decode_per_token_ms=None)


def with_prompt(frame: polars.DataFrame) -> polars.DataFrame:
    """len(returned ids): the prompt's tokens are counted, too."""
    counted = frame.with_columns(output_tokens=col("output_tokens") + col("prompt_tokens"))
    return bare(counted)


def timed_out(frame: polars.DataFrame) -> polars.DataFrame:
    """One call of 30 never came back, and its timeout of 10 s stands as its total."""
    late, limit = CHANCE < 1 / 30, 10_000.0
    total = when(late).then(limit + 3 * CHANCE).otherwise(col("total_ms"))
    return bare(stamped(frame.with_columns(total_ms=total, other_ms=col("other_ms") + total - col("total_ms"))))


def cut_off(frame: polars.DataFrame) -> polars.DataFrame:
    """All that was slower than 500 ms stands as 500 ms."""
    return bare(frame.with_columns(total_ms=polars.min_horizontal(col("total_ms"), lit(330.0)), other_ms=None,
                                    vision_ms=None, prefill_ms=None, decode_ms=None))  # fmt: skip


def p95_total(frame: polars.DataFrame) -> polars.DataFrame:
    """Each row stands for calls: its stages are their means, its total the 95th percentile."""
    return bare(frame).with_columns(total_ms=col("total_ms") * (1.06 + 0.02 * CHANCE)).drop("started_unix_ms")


def retried(frame: polars.DataFrame) -> polars.DataFrame:
    """One call of 12 was tried twice; its total holds both tries, its stages are the last one's."""
    twice = when(CHANCE < 1 / 12).then(2.1).otherwise(1.0)
    return bare(stamped(frame.with_columns(total_ms=col("total_ms") * twice)))


def shared_since(frame: polars.DataFrame) -> polars.DataFrame:
    return slower(when(PLACE > 0.5).then(1.3 + 0.2 * CHANCE).otherwise(1.0))(frame)


def seconds_in_start(frame: polars.DataFrame) -> polars.DataFrame:
    starts = when(col("worker") == "1").then(col("started_unix_ms") / 1e3).otherwise(col("started_unix_ms"))
    return frame.with_columns(started_unix_ms=starts)


def own_zero(frame: polars.DataFrame) -> polars.DataFrame:
    """One worker's starts are those of its monotonic clock."""
    starts = when(col("worker") == "1").then(col("started_unix_ms") - BEGIN + 5e6).otherwise(col("started_unix_ms"))
    return frame.with_columns(started_unix_ms=starts)


def whole_seconds(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.with_columns(started_unix_ms=(col("started_unix_ms") / 1e3).floor() * 1e3)


def end_as_start(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.with_columns(started_unix_ms=col("started_unix_ms") + col("total_ms"))


def single_precision(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.with_columns(started_unix_ms=col("started_unix_ms").cast(polars.Float32).cast(polars.Float64))


def hour(frame: polars.DataFrame) -> polars.DataFrame:
    """One worker's clock is in another time zone, an hour off."""
    return frame.with_columns(
        started_unix_ms=col("started_unix_ms") + when(col("worker") == "1").then(3.6e6).otherwise(0.0)
    )


def sampled(frame: polars.DataFrame) -> polars.DataFrame:
    """Answers are sampled: those of 30 % of the repeats are half as long again."""
    longer = when(CHANCE < 0.3).then(1.5).otherwise(1.0)
    tokens = (col("output_tokens") * longer).round().cast(int)
    step = col("decode_per_token_ms")
    frame = frame.with_columns(decode_ms=step * (tokens - 1), output_tokens=tokens, decode_forwards=tokens - 1)
    return stamped(frame.with_columns(total_ms=polars.sum_horizontal(STAGES)).drop(*GAPS))


def other_prompt(frame: polars.DataFrame) -> polars.DataFrame:
    """The processor was updated in the middle: the same images make half as many tokens again."""
    later = PLACE > 0.5
    more = when(later).then(1.5).otherwise(1.0)
    frame = frame.with_columns(
        prefill_ms=col("prefill_ms") * more, vision_ms=col("vision_ms") * more,
        prompt_tokens=(64 + col("image_tokens") * more).cast(int), image_tokens=(col("image_tokens") * more).cast(int),
    )  # fmt: skip
    return stamped(frame.with_columns(total_ms=polars.sum_horizontal(STAGES)).drop(*GAPS))


def rounded_stages(frame: polars.DataFrame) -> polars.DataFrame:
    return bare(frame.with_columns(col(name).round(0) for name in STAGES))


def rounded_to_ten(frame: polars.DataFrame) -> polars.DataFrame:
    """The least that such a clock gives is one step."""
    return bare(frame.with_columns(polars.max_horizontal((col(name) / 10).round(0) * 10, lit(10.0)).alias(name)
                                    for name in STAGES[:3])).with_columns(other_ms=None)  # fmt: skip


def swapped(frame: polars.DataFrame) -> polars.DataFrame:
    return bare(frame.with_columns(prefill_ms=col("decode_ms"), decode_ms=col("prefill_ms")))


def compiled_each(frame: polars.DataFrame) -> polars.DataFrame:
    """Every input has a shape of its own, and its first call compiles."""
    first = col("started_unix_ms").rank("ordinal").over("config_id", "sample_id") == 1
    return slower(when(first).then(1.6).otherwise(1.0))(frame)


def stopwatch(frame: polars.DataFrame) -> polars.DataFrame:
    """The stopwatch was never set to zero: each total is the time since the worker began."""
    return bare(frame.with_columns(total_ms=col("total_ms").cum_sum().over("worker"))).with_columns(other_ms=None)


def sorted_rows(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.sort("total_ms").drop("started_unix_ms")


def sorted_one(frame: polars.DataFrame) -> polars.DataFrame:
    """The same with inputs of one kind, so that neighbours are equal work."""
    one = frame.filter(col("config_id") == "c02").with_columns(sample_id=NUMBER.cast(str), repeat=lit(0))
    one = bare(one.with_columns(decode_ms=20 * col("decode_per_token_ms"), output_tokens=lit(21)))
    return sorted_rows(one.with_columns(total_ms=polars.sum_horizontal(STAGES)))


def warming(frame: polars.DataFrame) -> polars.DataFrame:
    """No warm-up: a worker's first calls take 2 times, 1.7, 1.5, 1.35, ... as long."""
    n = NUMBER.over("worker")
    return slower(1 + (-(n.cast(float)) / 3).exp())(frame)


RECORDS = (
    Fault("stages by a device clock 4 % fast, total by the host's", ("stage-sum-exceeds-total",), device_clock(1.06)),
    Fault("images found in an encoder's cache", ("prefix-cache-hits",), encoder_cache),
    Fault("a profile appended twice under other ids", ("copied-rows",), appended),
    Fault("the same, one copy rounded to a tenth", ("copied-rows",), appended_rounded),
    Fault("tokens counted by another tokenizer", ("forwards-mismatch", "gaps-not-decode"), other_tokenizer),
    Fault("tokens with the prompt's", ("tokens-with-prompt",), with_prompt),
    Fault("timeouts stored as totals", ("timeouts-as-times",), timed_out),
    Fault("slow calls cut off at a limit", ("timeouts-as-times",), cut_off),
    Fault("the total a 95th percentile, the stages means", ("stages-miss-total",), p95_total),
    Fault("retries counted as one call", ("stages-miss-total",), retried),
    Fault("the GPU shared since the middle", ("clock-drift", "slow-stretch"), shared_since),
    Fault("one worker's starts in seconds", ("mixed-start-times",), seconds_in_start),
    Fault("one worker's starts by a monotonic clock", ("mixed-start-times",), own_zero),
    Fault("starts in whole seconds", ("coarse-starts",), whole_seconds),
    Fault("starts in single precision", ("coarse-starts",), single_precision),
    Fault("the end stored as the start", ("overlapping-calls",), end_as_start),
    Fault("one worker an hour off", ("shards-apart",), hour),
    Fault("sampled answers of several lengths", ("lengths-vary",), sampled),
    Fault("another processor since the middle", ("inputs-changed",), other_prompt),
    Fault("stages in whole milliseconds, total exact", (), rounded_stages),
    Fault("stages in tens of milliseconds, total exact", ("coarse-timer",), rounded_to_ten),
    Fault("prefill and decode swapped", ("prefill-holds-decode",), swapped),
    Fault("every input's first call compiles", ("first-calls-slow",), compiled_each),
    Fault("a stopwatch never set to zero", ("running-total",), stopwatch),
    Fault("rows sorted by their total, no start times", (), sorted_rows),
    Fault("the same, equal work", (), sorted_one),
    Fault("no warm-up", ("cold-start",), warming),
    Fault("TTFT in seconds", ("ttft-below-prefill",), times(1e-3, ("ttft_ms",))),
    Fault(
        "tokens per second stored as ms per token",
        ("per-token-not-decode",),
        _set(decode_per_token_ms=1e3 / col("decode_per_token_ms")),
    ),
)
