"""Faults of measurements, one at a time, put into simulated runs that are sound otherwise (audit_false_alarms.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars
from audit_false_alarms import Shape, lognormal, sound
from polars import col, lit, when

SHAPE = Shape(6, 20, repeats=3, workers=3, tokens=(2, 40))
STAGES = ("vision_ms", "prefill_ms", "decode_ms", "other_ms")
ALL = (*STAGES, "total_ms", "decode_per_token_ms", "ttft_ms", "tpot_ms")
Change = Callable[[polars.DataFrame], polars.DataFrame]
NUMBER = polars.int_range(polars.len())
PLACE = NUMBER / polars.len()
CHANCE = (NUMBER * 7919 % 1009) / 1009
SLOW = col("total_ms") / col("total_ms").median().over("config_id", "sample_id")


class Fault(NamedTuple):
    """One thing that is wrong, the rules that name it, and what makes a sound run so."""

    name: str
    codes: tuple[str, ...]
    change: Change


def run_of(seed: int) -> polars.DataFrame:
    """A sound run with every figure that a call has."""
    frame = sound(seed, SHAPE, lognormal(0.02)).with_columns(col("output_tokens").alias("N"))
    gaps = [
        list(np.full(max(n - 1, 0), decode / max(n - 1, 1)))
        for n, decode in frame.select("output_tokens", "decode_ms").iter_rows()
    ]
    return frame.with_columns(
        ttft_ms=col("vision_ms") + col("prefill_ms") + 0.5,
        tpot_ms=col("decode_per_token_ms"),
        itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)),
    ).drop("N")


def times(factor: polars.Expr | float, names: tuple[str, ...] = ALL) -> Change:
    """Some columns times a factor; the gaps between tokens follow the time per token."""

    def change(frame: polars.DataFrame) -> polars.DataFrame:
        changed = frame.with_columns(col(name) * factor for name in names)
        return _gaps(changed) if "tpot_ms" in names else changed

    return change


def slower(factor: polars.Expr | float) -> Change:
    """Calls that really take longer, so that the next ones begin later."""

    def change(frame: polars.DataFrame) -> polars.DataFrame:
        total = col("total_ms")
        return times(factor)(frame).with_columns(started_unix_ms=1.8e12 + total.cum_sum() - total)

    return change


def _gaps(frame: polars.DataFrame) -> polars.DataFrame:
    gaps = [[tpot] * max(n - 1, 0) for tpot, n in frame.select("tpot_ms", "output_tokens").iter_rows()]
    return frame.with_columns(itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)))


def _totals(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.with_columns(total_ms=polars.sum_horizontal(STAGES))


def _no_gaps(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.drop("itl_ms", "tpot_ms", "ttft_ms", "decode_per_token_ms")


def _set(**columns: polars.Expr) -> Change:
    return lambda frame: frame.with_columns(**columns)


def clamped(frame: polars.DataFrame) -> polars.DataFrame:
    """Decode is what is left of the total; a fifth of the vision and prefill of another run is too long."""
    vision = col("vision_ms") * when(CHANCE < 0.2).then(30.0).otherwise(1.0)
    frame = frame.with_columns(vision_ms=vision, other_ms=lit(0.0))
    left = col("total_ms") - col("vision_ms") - col("prefill_ms")
    return _no_gaps(frame.with_columns(decode_ms=when(left > 0).then(left).otherwise(0.0)))


def left_over(frame: polars.DataFrame) -> polars.DataFrame:
    left = col("total_ms") - col("vision_ms") - col("prefill_ms")
    return _no_gaps(frame.with_columns(decode_ms=left, other_ms=lit(0.0)))


def launches(frame: polars.DataFrame) -> polars.DataFrame:
    """Marks on the host without waiting: vision and prefill are their launches, the rest comes where the host waits."""
    vision, prefill = 0.6 + 0.0 * col("vision_ms"), 2.0 + 0.02 * (CHANCE - 0.5)
    rest = col("vision_ms") - vision + col("prefill_ms") - prefill
    return frame.with_columns(
        vision_ms=vision, prefill_ms=prefill, other_ms=col("other_ms") + rest, ttft_ms=prefill + vision + 0.5
    )


def launches_then_decode(frame: polars.DataFrame) -> polars.DataFrame:
    """The same, and the host waits for the first time in the first decode step."""
    vision, prefill = 0.6 + 0.0 * col("vision_ms"), 2.0 + 0.02 * (CHANCE - 0.5)
    rest = col("vision_ms") - vision + col("prefill_ms") - prefill
    return _no_gaps(frame.with_columns(vision_ms=vision, prefill_ms=prefill, decode_ms=col("decode_ms") + rest))


def everything_launched(frame: polars.DataFrame) -> polars.DataFrame:
    """Nothing waits for the device: all times are those of launches, also the total."""
    frame = frame.with_columns(
        vision_ms=0.5 + 0.01 * CHANCE, prefill_ms=1.5 + 0.03 * CHANCE, decode_ms=(col("output_tokens") - 1) * 0.02,
        other_ms=lit(0.3),
    )  # fmt: skip
    return _no_gaps(_totals(frame))


def burst(frame: polars.DataFrame) -> polars.DataFrame:
    return slower(when((PLACE > 0.45) & (PLACE < 0.55)).then(1.3).otherwise(1.0))(frame)


def mild_burst(frame: polars.DataFrame) -> polars.DataFrame:
    return slower(when((PLACE > 0.4) & (PLACE < 0.6)).then(1.12).otherwise(1.0))(frame)


def two_gpus(frame: polars.DataFrame) -> polars.DataFrame:
    """Every call on one of two cards, of which one takes 25 % longer; nothing says which."""
    return slower(when(CHANCE < 0.4).then(1.25).otherwise(1.0))(frame).drop("worker", "gpu_sm_mhz")


def two_gpus_in_blocks(frame: polars.DataFrame) -> polars.DataFrame:
    """The first half on one card, the second half on another one."""
    return slower(when(PLACE < 0.5).then(1.25).otherwise(1.0))(frame).drop("worker", "gpu_sm_mhz")


def two_gpus_by_clock(frame: polars.DataFrame) -> polars.DataFrame:
    slow = CHANCE < 0.4
    changed = slower(when(slow).then(1.25).otherwise(1.0))(frame).drop("worker")
    return changed.with_columns(gpu_sm_mhz=when(slow).then(1410).otherwise(1980))


def prefix_cache(frame: polars.DataFrame) -> polars.DataFrame:
    place = col("started_unix_ms").rank("ordinal").over("config_id", "sample_id")
    saved = when(place > 1).then(0.8 * col("prefill_ms")).otherwise(0.0)
    return frame.with_columns(
        prefill_ms=col("prefill_ms") - saved, total_ms=col("total_ms") - saved, ttft_ms=col("ttft_ms") - saved
    )


def copied(frame: polars.DataFrame) -> polars.DataFrame:
    source = col("repeat") == 1
    changed = frame.with_columns(
        when(col("repeat") == 2)
        .then(col(name).filter(source).first().over("config_id", "sample_id"))
        .otherwise(col(name))
        .alias(name)
        for name in ALL
    )
    return _gaps(changed)


def coarse(step_ms: float) -> Change:
    def change(frame: polars.DataFrame) -> polars.DataFrame:
        frame = frame.with_columns((col(name) / step_ms).round(0) * step_ms for name in (*STAGES, "total_ms"))
        left = col("total_ms") - col("vision_ms") - col("prefill_ms")
        starts = (col("started_unix_ms") / step_ms).floor() * step_ms
        return _no_gaps(frame.with_columns(decode_ms=left, other_ms=lit(0.0), started_unix_ms=starts))

    return change


def short_answers(frame: polars.DataFrame) -> polars.DataFrame:
    tokens = when(CHANCE < 0.2).then((col("output_tokens") * 0.6).ceil().cast(int)).otherwise(40)
    frame = frame.with_columns(lit(40).alias("config.new_tokens"), output_tokens=tokens, decode_forwards=None)
    frame = _totals(frame.with_columns(decode_ms=12.0 * (col("output_tokens") - 1)))
    return _no_gaps(slower(1.0)(frame))


def overlapping(frame: polars.DataFrame) -> polars.DataFrame:
    """Each worker keeps two calls in flight."""
    return frame.with_columns(started_unix_ms=1.8e12 + (col("started_unix_ms") - 1.8e12) / 2, worker=lit("0"))


def backwards(frame: polars.DataFrame) -> polars.DataFrame:
    """The clock is set back by ten seconds in the middle."""
    back = when(PLACE > 0.5).then(10_000.0).otherwise(0.0)
    return frame.with_columns(started_unix_ms=col("started_unix_ms") - back)


def chunks(frame: polars.DataFrame) -> polars.DataFrame:
    """A gap for each chunk of about two tokens; N counts tokens."""
    gaps = [
        [decode / max(1, (n - 1) // 2)] * max(1, (n - 1) // 2) if n > 1 else []
        for n, decode in frame.select("output_tokens", "decode_ms").iter_rows()
    ]
    return frame.with_columns(itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64))).drop("tpot_ms")


def no_last_gap(frame: polars.DataFrame) -> polars.DataFrame:
    """A third of the time between tokens is in no gap."""
    return frame.with_columns(itl_ms=col("itl_ms").list.eval(polars.element() * 0.7)).drop("tpot_ms")


def gaps_of_another(frame: polars.DataFrame) -> polars.DataFrame:
    """The gaps were kept in a list that the next call went on with."""
    before = col("itl_ms").shift(1).fill_null([]).over("worker")
    return frame.with_columns(itl_ms=col("itl_ms").list.concat(before)).drop("tpot_ms")


def config_times(config: str, factor: float) -> Change:
    return times(when(col("config_id") == config).then(factor).otherwise(1.0))


FAULTS = (
    Fault("decode by subtraction, clamped at 0", ("zero-decode",), clamped),
    Fault("decode by subtraction, never below 0", ("subtracted-decode",), left_over),
    Fault("stages of a slower run beside the total", ("stage-sum-exceeds-total",), times(1.06, STAGES)),
    Fault("vision in prefill too", ("stage-sum-exceeds-total",), _set(prefill_ms=col("prefill_ms") + col("vision_ms"))),
    Fault("the total without decode", ("stage-sum-exceeds-total",), _set(total_ms=col("total_ms") - col("decode_ms"))),
    Fault(
        "other below 0 in a tenth",
        ("negative-stage",),
        _set(other_ms=when(CHANCE < 0.1).then(-1.5).otherwise(col("other_ms"))),
    ),
    Fault(
        "prefill without its first chunks",
        ("residual-too-large",),
        lambda f: (
            times(0.02, ("prefill_ms",))(f)
            .with_columns(other_ms=None, decode_ms=col("decode_ms") * 0.55)
            .drop("itl_ms", "tpot_ms", "decode_per_token_ms")
        ),
    ),
    Fault(
        "per token is decode / N",
        ("decode-per-token-by-N",),
        _set(decode_per_token_ms=col("decode_ms") / col("output_tokens")),
    ),
    Fault(
        "per token is decode / N, decode not kept",
        ("decode-per-token-by-N",),
        lambda f: f.with_columns(decode_per_token_ms=col("decode_ms") / col("output_tokens"), decode_ms=None).drop(
            "itl_ms", "tpot_ms"
        ),
    ),
    Fault(
        "a chunk of three tokens taken for one",
        ("per-token-not-decode",),
        _set(decode_per_token_ms=3 * col("decode_per_token_ms")),
    ),
    Fault(
        "decode of a padded batch divided by its longest row",
        ("per-token-not-decode",),
        _set(decode_per_token_ms=col("decode_ms") / 39),
    ),
    Fault(
        "prefill in the time per token",
        ("per-token-not-decode",),
        _set(decode_per_token_ms=(col("decode_ms") + col("prefill_ms")) / col("output_tokens")),
    ),
    Fault(
        "prefill in TPOT",
        ("gaps-not-decode",),
        lambda f: f.with_columns(tpot_ms=(col("decode_ms") + col("prefill_ms")) / (col("output_tokens") - 1)).drop(
            "itl_ms"
        ),
    ),
    Fault("TTFT below prefill", ("ttft-below-prefill",), _set(ttft_ms=col("prefill_ms") * 0.9)),
    Fault("TTFT from scheduling, vision not in it", ("ttft-below-prefill",), _set(ttft_ms=col("prefill_ms") + 0.5)),
    Fault("gaps that miss a third of decode", ("gaps-not-decode",), no_last_gap),
    Fault("a gap for each chunk of two tokens", ("gaps-not-decode",), chunks),
    Fault("gaps of the call before in the list", ("gaps-not-decode",), gaps_of_another),
    Fault("one worker's calls overlap", ("overlapping-calls",), overlapping),
    Fault("one worker's clock is set back by 10 s", ("clock-set-back", "overlapping-calls"), backwards),
    Fault(
        "one shard nine hours later",
        ("shards-apart",),
        _set(started_unix_ms=col("started_unix_ms") + when(col("worker") == "1").then(9 * 3.6e6).otherwise(0.0)),
    ),
    Fault("a tenth of the rows in seconds", ("mixed-units",), times(when(CHANCE < 0.1).then(1e-3).otherwise(1.0))),
    Fault("one configuration in seconds", ("mixed-units",), config_times("c02", 1e-3)),
    Fault("one worker in seconds", ("mixed-units",), times(when(col("worker") == "1").then(1e-3).otherwise(1.0))),
    Fault("all times in seconds", ("faster-than-a-launch",), times(1e-3)),
    Fault("all times in microseconds", ("longer-than-their-run",), times(1e3)),
    Fault("launches timed, the rest in other", ("launches-timed",), launches),
    Fault("launches timed, the rest in decode", ("launches-timed",), launches_then_decode),
    Fault("launches timed, also of the whole call", ("faster-than-a-launch", "launches-timed"), everything_launched),
    Fault(
        "a twelfth at low clocks, no reason",
        ("low-clocks",),
        _set(gpu_sm_mhz=when(CHANCE < 0.08).then(1200).otherwise(1980)),
    ),
    Fault("a burst: 30 % slower for a tenth of the run", ("slow-stretch",), burst),
    Fault("a burst: 12 % slower for a fifth of the run", ("slow-stretch",), mild_burst),
    Fault("two kinds of GPU, no worker column, no clock", ("bimodal",), two_gpus),
    Fault("two kinds of GPU one after the other", ("bimodal", "clock-drift", "slow-stretch"), two_gpus_in_blocks),
    Fault("two kinds of GPU, told by their clock", ("low-clocks",), two_gpus_by_clock),
    Fault("two calls of five 10 % slower", ("bimodal",), slower(when(CHANCE < 0.4).then(1.1).otherwise(1.0))),
    Fault("one call of ten 20 % slower", ("bimodal",), slower(when(CHANCE < 0.1).then(1.2).otherwise(1.0))),
    Fault("a fifth of the answers ended early, forwards not counted", ("ended-early",), short_answers),
    Fault("prompts found in a cache", ("prefix-cache-hits",), prefix_cache),
    Fault("a clock of 15.625 ms", ("coarse-timer",), coarse(15.625)),
    Fault("a clock of 10 ms", ("coarse-timer",), coarse(10.0)),
    Fault("a third of the rows copied", ("copied-rows",), copied),
    Fault("the slowest twentieth left out", ("slow-calls-dropped",), lambda f: f.filter(SLOW.quantile(0.95) > SLOW)),
    Fault("the slowest tenth left out", ("slow-calls-dropped",), lambda f: f.filter(SLOW.quantile(0.9) > SLOW)),
    Fault("a tenth left out by chance", ("missing-samples",), lambda f: f.filter(CHANCE > 0.1)),
    Fault("rows there twice", ("duplicate-sample",), lambda f: polars.concat([f, f.head(40)]).sort("started_unix_ms")),
    Fault("a drift of 8 %", ("clock-drift",), slower(1 + 0.08 * PLACE)),
    Fault("one worker 5 % slower", ("rank-skew",), slower(when(col("worker") == "0").then(1.05).otherwise(1.0))),
    Fault(
        "each configuration on one worker",
        ("rank-skew",),
        lambda f: f.with_columns(worker=(col("config_id").str.slice(1).cast(int) % 3).cast(str)),
    ),
    Fault(
        "first calls 50 % slower",
        ("cold-start",),
        slower(when(NUMBER.over("config_id", "worker") == 0).then(1.5).otherwise(1.0)),
    ),
    Fault(
        "assisted decoding: fewer forwards than tokens",
        ("forwards-mismatch",),
        _set(decode_forwards=(col("output_tokens") / 2).floor().cast(int)),
    ),
    Fault(
        "padding counted as tokens",
        ("forwards-mismatch",),
        lambda f: f.with_columns(output_tokens=lit(40), decode_per_token_ms=None).drop("itl_ms", "tpot_ms"),
    ),
    Fault(
        "the cache emptied in half of the configurations",
        ("mixed-cache-policy",),
        lambda f: f.with_columns(
            when(col("config_id") < "c03").then(lit("empty")).otherwise(lit("keep")).alias("config.cache_policy")
        ),
    ),
    Fault(
        "a fifth of the calls throttled, with flags",
        ("throttled",),
        _set(flags=when(CHANCE < 0.2).then(lit("throttled")).otherwise(lit(""))),
    ),
    Fault(
        "another process beside a third of the calls",
        ("foreign-process",),
        _set(flags=when(CHANCE < 0.33).then(lit("foreign-process")).otherwise(lit(""))),
    ),
    Fault(
        "three samples of a configuration",
        ("too-few-repeats",),
        lambda f: f.filter((col("config_id") != "c01") | (NUMBER.over("config_id") < 3)),
    ),
)
