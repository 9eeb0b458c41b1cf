"""Faults in how figures were recorded: found by their own rule, and not named as something else."""

from __future__ import annotations

from collections.abc import Callable

import polars
import pytest
from benchmarks.audit_false_alarms import NOISES, Shape, lognormal, sound
from polars import col

from laptime.audits import audit_measurements, measurements_of
from laptime.data.columns import STAGE_COLUMNS

SHAPE = Shape(4, 16, repeats=3, workers=2)
TIMES = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms", "decode_per_token_ms")
Change = Callable[[polars.DataFrame], polars.DataFrame]
NUMBER = polars.int_range(polars.len())


def in_seconds(frame: polars.DataFrame) -> polars.DataFrame:
    """A tenth of the rows."""
    factor = polars.when(NUMBER % 10 == 3).then(1e-3).otherwise(1.0)
    return frame.with_columns(col(name) * factor for name in TIMES)


def half_in_seconds(frame: polars.DataFrame) -> polars.DataFrame:
    factor = polars.when(NUMBER % 5 < 3).then(1e-3).otherwise(1.0)
    return frame.with_columns(col(name) * factor for name in TIMES)


def by_a_coarse_clock(frame: polars.DataFrame) -> polars.DataFrame:
    """A clock of 15.625 ms; what is left over is decode."""
    rounded = frame.with_columns((col(name) / 15.625).round(0) * 15.625 for name in TIMES)
    left = col("total_ms") - col("vision_ms") - col("prefill_ms")
    return rounded.with_columns(decode_ms=left, other_ms=polars.lit(0.0), decode_per_token_ms=None)


def copied(frame: polars.DataFrame) -> polars.DataFrame:
    """Repeat 2 of each sample has the times of repeat 1."""
    names = [name for name in (*STAGE_COLUMNS, "decode_per_token_ms") if name in frame.columns]
    source = col("repeat") == 1
    return frame.with_columns(
        polars.when(col("repeat") == 2)
        .then(col(name).filter(source).first().over("config_id", "sample_id"))
        .otherwise(col(name))
        .alias(name)
        for name in dict.fromkeys([*names, "total_ms"])
    )


def copied_and_rounded(frame: polars.DataFrame) -> polars.DataFrame:
    return copied(frame).with_columns(col(name).round(2) for name in TIMES)


def cached_prompts(frame: polars.DataFrame) -> polars.DataFrame:
    """From the second call of an input on prefill is a fifth."""
    place = col("started_unix_ms").rank("ordinal").over("config_id", "sample_id")
    saved = polars.when(place > 1).then(0.8 * col("prefill_ms")).otherwise(0.0)
    return frame.with_columns(prefill_ms=col("prefill_ms") - saved, total_ms=col("total_ms") - saved)


def hours_apart(frame: polars.DataFrame) -> polars.DataFrame:
    later = polars.when(col("worker") == "1").then(9 * 3.6e6).otherwise(0.0)
    return frame.with_columns(started_unix_ms=col("started_unix_ms") + later)


def low_clock(frame: polars.DataFrame) -> polars.DataFrame:
    return frame.with_columns(gpu_sm_mhz=polars.when(NUMBER % 12 == 5).then(1200).otherwise(col("gpu_sm_mhz")))


def short_answers(frame: polars.DataFrame) -> polars.DataFrame:
    tokens = polars.when(NUMBER % 6 == 0).then(col("output_tokens") - 4).otherwise(col("output_tokens"))
    return frame.with_columns(
        polars.lit(32).alias("config.new_tokens"),
        output_tokens=tokens,
        decode_forwards=tokens - 1,
        decode_per_token_ms=None,
    )


FAULTS: dict[str, Change] = {
    "mixed-units": in_seconds,
    "coarse-timer": by_a_coarse_clock,
    "copied-rows": copied,
    "prefix-cache-hits": cached_prompts,
    "shards-apart": hours_apart,
    "low-clocks": low_clock,
    "ended-early": short_answers,
}


def codes(frame: polars.DataFrame) -> set[str]:
    return {finding.code for finding in audit_measurements(measurements_of(frame)).findings}


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_fault_is_found_and_is_called_what_it_is(code: str, seed: int) -> None:
    found = codes(FAULTS[code](sound(seed, SHAPE, lognormal(0.01))))
    assert code in found
    wrong = {"clock-drift", "cold-start", "bimodal", "subtracted-decode", "missing-samples", "duplicate-sample"}
    assert not found & wrong


def test_most_rows_in_seconds_and_copies_that_were_rounded_are_found_too() -> None:
    assert "mixed-units" in codes(half_in_seconds(sound(3, SHAPE, lognormal(0.01))))
    assert "copied-rows" in codes(copied_and_rounded(sound(3, SHAPE, lognormal(0.01))))


@pytest.mark.parametrize("noise", NOISES)
def test_sound_runs_raise_none_of_them(noise: str) -> None:
    for seed in range(4):
        frame = sound(seed, SHAPE, NOISES[noise])
        assert not codes(frame) & set(FAULTS)
        rounded = frame.with_columns(col(name).round(2) for name in TIMES)
        assert not codes(rounded) & set(FAULTS)


def test_a_rule_that_is_explained_says_by_what() -> None:
    report = audit_measurements(measurements_of(by_a_coarse_clock(sound(0, SHAPE, lognormal(0.01)))))
    (rule,) = [rule for rule in report.rules if rule.code == "subtracted-decode"]
    assert rule.could_not_judge == "coarse-timer explains what it sees"


def test_a_call_that_took_a_thousand_times_as_long_is_no_unit() -> None:
    """One call that compiled for half a minute, or two: the others are no seconds."""
    for slow in ([5], [5, 9]):
        factor = polars.when(NUMBER.is_in(slow)).then(1000.0).otherwise(1.0)
        frame = sound(0, Shape(1, 40), lognormal(0.01)).with_columns(col(name) * factor for name in TIMES)
        assert "mixed-units" not in codes(frame)


def test_no_audit_becomes_milder_by_an_explanation() -> None:
    """Decode of 0 stays severe beside a coarse clock; a severe drift makes the cache of prompts severe."""
    coarse = by_a_coarse_clock(sound(0, SHAPE, lognormal(0.01)))
    zeros = coarse.with_columns(decode_ms=polars.when(NUMBER % 3 == 0).then(0.0).otherwise(col("decode_ms")))
    assert {"coarse-timer", "zero-decode"} <= codes(zeros)
    place = NUMBER / polars.len()
    drifting = cached_prompts(sound(0, SHAPE, lognormal(0.01))).with_columns(col(name) * (1 + place) for name in TIMES)
    report = audit_measurements(measurements_of(drifting))
    (finding,) = [one for one in report.findings if one.code == "prefix-cache-hits"]
    assert finding.severity == "severe"
    assert "clock-drift" not in codes(drifting)
