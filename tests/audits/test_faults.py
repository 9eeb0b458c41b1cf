"""Faults that a run hides: gaps, units, launches instead of work, a slow stretch, slow calls that were left out."""

from __future__ import annotations

import re
from collections.abc import Callable

import polars
import pytest
from benchmarks.audit_false_alarms import NOISES, Shape, lognormal, sound
from polars import col, lit, when

from laptime.audits import audit, audit_measurements, measurements_of

SHAPE = Shape(6, 20, repeats=3, workers=3, tokens=(2, 40))
TIMES = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms", "decode_per_token_ms")
Change = Callable[[polars.DataFrame], polars.DataFrame]
NUMBER = polars.int_range(polars.len())
PLACE = NUMBER / polars.len()


def run_of(seed: int = 0) -> polars.DataFrame:
    """A sound run whose calls have their gaps between tokens, too."""
    frame = sound(seed, SHAPE, lognormal(0.02))
    gaps = [[ms] * (n - 1) for n, ms in frame.select("output_tokens", "decode_per_token_ms").iter_rows()]
    return frame.with_columns(
        ttft_ms=col("vision_ms") + col("prefill_ms") + 0.5,
        itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)),
    )


def findings(frame: polars.DataFrame) -> dict[str, str]:
    return {f.code: f.severity for f in audit_measurements(measurements_of(frame)).findings}


def times(factor: polars.Expr | float) -> Change:
    return lambda frame: frame.with_columns(col(name) * factor for name in TIMES).drop("itl_ms", "ttft_ms")


def launched(frame: polars.DataFrame, waits: str) -> polars.DataFrame:
    """Vision and prefill hold their launches; the host waits for them in the stage `waits`."""
    rest = col("vision_ms") + col("prefill_ms") - 2.6
    changed = frame.with_columns(vision_ms=lit(0.6), prefill_ms=2 + 0.02 * PLACE, **{waits: col(waits) + rest})
    return changed.drop("itl_ms", "ttft_ms", "decode_per_token_ms")


def without_the_slowest(frame: polars.DataFrame, share: float) -> polars.DataFrame:
    slow = col("total_ms") / col("total_ms").median().over("config_id", "sample_id")
    return frame.filter(slow <= slow.quantile(1 - share))


def slower_for_a_while(frame: polars.DataFrame) -> polars.DataFrame:
    changed = times(when((PLACE > 0.45) & (PLACE < 0.55)).then(1.3).otherwise(1.0))(frame)
    return changed.with_columns(started_unix_ms=1.8e12 + col("total_ms").cum_sum() - col("total_ms"))


FAULTS: dict[str, tuple[str, Change]] = {
    "a part of decode is in no gap": ("gaps-not-decode", lambda f: f.with_columns(col("itl_ms").list.head(3))),
    "gaps of two calls in one list": (
        "gaps-not-decode",
        lambda f: f.with_columns(col("itl_ms").list.concat(col("itl_ms").shift(1).fill_null([]))),
    ),
    "prefill in TPOT": (
        "gaps-not-decode",
        lambda f: f.drop("itl_ms").with_columns(
            tpot_ms=(col("decode_ms") + col("prefill_ms")) / (col("output_tokens") - 1)
        ),
    ),
    "one configuration in seconds": ("mixed-units", times(when(col("config_id") == "c02").then(1e-3).otherwise(1.0))),
    "a small prefill in seconds": (
        "stage-in-other-unit",
        lambda f: f.drop("itl_ms", "ttft_ms").with_columns(
            total_ms=col("total_ms") - col("prefill_ms") * 0.99, prefill_ms=col("prefill_ms") * 1e-5
        ),
    ),
    "all in seconds": ("faster-than-a-launch", times(1e-3)),
    "all in microseconds": ("longer-than-their-run", times(1e3)),
    "launches, the work in other": ("launches-timed", lambda f: launched(f, "other_ms")),
    "launches, the work in decode": ("launches-timed", lambda f: launched(f, "decode_ms")),
    "a throttled tenth": ("slow-stretch", slower_for_a_while),
    "the slowest tenth left out": ("slow-calls-dropped", lambda f: without_the_slowest(f, 0.1)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_found_and_named(fault: str) -> None:
    code, change = FAULTS[fault]
    assert code in findings(change(run_of()))
    assert not {"clock-drift", "bimodal", "overlapping-calls", "cold-start"} & set(findings(change(run_of())))


def test_numbers_below_zero_have_a_minus_sign() -> None:
    found = audit_measurements(measurements_of(without_the_slowest(run_of(), 0.1))).findings
    said = " ".join([one.reason for one in found] + [text for one in found for text in one.examples])
    assert "−" in said
    assert re.search(r"(?<![/\w])-\d", said) is None


@pytest.mark.parametrize("noise", ["lognormal 5 %", "5 % outliers", "AR(1) .95", "1/f", "two costs"])
def test_sound_runs_have_none_of_them(noise: str) -> None:
    codes = {code for code, _ in FAULTS.values()}
    for seed in range(2):
        assert not codes & set(findings(sound(seed, SHAPE, NOISES[noise])))


def test_samples_that_are_missing_by_chance_are_no_slow_ones() -> None:
    found = findings(run_of().filter(NUMBER % 10 != 3))
    assert "missing-samples" in found
    assert "slow-calls-dropped" not in found


def test_a_flat_prefill_beside_nothing_that_grows_is_bound_by_its_launches() -> None:
    flat = run_of().with_columns(vision_ms=lit(0.6), prefill_ms=2 + 0.02 * PLACE)
    total = col("vision_ms") + col("prefill_ms") + col("decode_ms") + col("other_ms")
    assert "launches-timed" not in findings(flat.with_columns(total_ms=total).drop("ttft_ms"))


def test_gaps_are_read_from_a_file(tmp_path) -> None:
    file = tmp_path / "table.parquet"
    run_of().with_columns(col("itl_ms").list.head(3)).write_parquet(file)
    (finding,) = [f for f in audit(file).findings if f.code == "gaps-not-decode"]
    assert finding.severity == "severe"
    assert "don't sum to decode" in finding.reason
    assert "one fewer than the tokens" in finding.reason
