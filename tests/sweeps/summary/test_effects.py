"""What a knob does: matched, with one value an input, and said where one figure would mislead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ttest_1samp

from laptime.data.stats import factor_interval
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.matched import unit_values
from laptime.sweeps.summary.result import KnobEffect, SweepSummary
from tests.sweeps.summary.sweeps import PARTS, sweep, visited_sweep

GRID = {"tier": ["low", "high"], "top_k": [2, 4], "blocks": [8, 16]}


def by_rule(config: Mapping[str, Any], stage: str) -> float:
    """vision x 3 at the high tier, decode x top_k / 2 and x blocks / 8, prefill x blocks / 8."""
    factor = {"vision": 3.0 if config["tier"] == "high" else 1.0, "prefill": config["blocks"] / 8, "other": 1.0}
    factor["decode"] = config["top_k"] / 2 * config["blocks"] / 8
    return PARTS[stage] * factor[stage]


def effect(summary: SweepSummary, knob: str, stage: str) -> KnobEffect:
    (effect_,) = [e for e in summary.effects if (e.knob, e.stage) == (knob, stage)]
    return effect_


def test_the_rule_comes_back_exactly_without_noise() -> None:
    summary = summarise_sweep(sweep(GRID, by_rule, between_inputs=0.5))
    assert summary.knobs == {"tier": ["low", "high"], "top_k": [2, 4], "blocks": [8, 16]}
    for knob, stage, ratio in (
        ("tier", "vision", 3.0),
        ("tier", "decode", 1.0),
        ("top_k", "decode", 2.0),
        ("blocks", "prefill", 2.0),
        ("blocks", "other", 1.0),
    ):
        effect_ = effect(summary, knob, stage)
        (level,) = effect_.levels
        assert effect_.base == summary.knobs[knob][0]
        assert level.value == summary.knobs[knob][1]
        assert level.ratio.value == pytest.approx(ratio)
        assert (level.ratio.n, level.pairs) == (8, 4 * 8)
        for figure in (level.ratio.low, level.ratio.high, level.lowest, level.highest):
            assert figure == pytest.approx(ratio)
    assert {e.stage for e in summary.effects} == {"vision", "prefill", "decode", "other", "total"}


def test_several_levels_are_each_set_against_the_first() -> None:
    summary = summarise_sweep(sweep({"batch": [4, 1, 2]}, lambda c, s: PARTS[s] * c["batch"]))
    effect_ = effect(summary, "batch", "total")
    assert effect_.base == 1
    assert [(level.value, pytest.approx(level.ratio.value)) for level in effect_.levels] == [(2, 2.0), (4, 4.0)]
    assert effect_.levels[0].lowest is None  # there is no other knob to differ by


def test_only_the_same_input_and_settings_are_compared() -> None:
    """A fast input that one side lacks, and a slow setting that one side lacks, change nothing."""
    frame = sweep(GRID, by_rule, between_inputs=1.0, inputs=10)
    high = pl.col("config.tier") == "high"
    slow = pl.col("config.blocks") == 16
    frame = frame.filter(~(high & (pl.col("sample_id") == "0003")) & ~(~high & slow & (pl.col("config.top_k") == 4)))
    (level,) = effect(summarise_sweep(frame), "tier", "vision").levels
    assert level.ratio.value == pytest.approx(3.0)
    assert (level.ratio.n, level.pairs) == (9, 3 * 9)


def test_knobs_varied_one_at_a_time_have_effects() -> None:
    frame = sweep({"top_k": [2, 4], "blocks": [8, 16]}, lambda c, s: PARTS[s] * c["top_k"] * c["blocks"])
    frame = frame.filter((pl.col("config.top_k") == 2) | (pl.col("config.blocks") == 8))
    summary = summarise_sweep(frame)
    assert effect(summary, "top_k", "total").levels[0].ratio.value == pytest.approx(2)
    assert effect(summary, "blocks", "total").levels[0].ratio.value == pytest.approx(2)
    assert summary.interactions == []


def test_a_stage_that_never_ran_has_no_effect() -> None:
    frame = sweep({"batch": [1, 2]}).with_columns(decode_ms=pl.lit(None, pl.Float64), vision_ms=pl.lit(0.0))
    summary = summarise_sweep(frame)
    assert {e.stage for e in summary.effects} == {"prefill", "other", "total"}


def test_repeats_of_an_input_make_one_value() -> None:
    once = sweep({"batch": [1, 2]}, noise=0.05, inputs=8)
    again = pl.concat([once.with_columns(repeat=pl.lit(n)) for n in range(5)])
    one, five = (effect(summarise_sweep(frame), "batch", "total").levels[0].ratio for frame in (once, again))
    assert one == five  # five copies of one call are no news


def test_few_inputs_with_many_repeats_speak_of_these_inputs() -> None:
    frame = sweep({"batch": [1, 2]}, lambda c, s: PARTS[s] * c["batch"], inputs=2, repeats=9, noise=0.02, seed=1)
    effect_ = effect(summarise_sweep(frame), "batch", "total")
    assert effect_.over == "repeats"
    (level,) = effect_.levels
    assert level.ratio.n == 9
    assert level.ratio.low is not None
    assert level.ratio.low < 2 < level.ratio.high
    few = effect(summarise_sweep(sweep({"batch": [1, 2]}, inputs=2, repeats=2, noise=0.02)), "batch", "total")
    assert few.over == "samples"
    assert few.levels[0].ratio.low is None  # two inputs have no interval, and say so


def test_the_interval_is_students_over_inputs() -> None:
    frame = sweep({"batch": [1, 2], "top_k": [1, 2]}, noise=0.1, inputs=20, seed=3)
    frame = frame.sort("sample_id", "config_id").drop("started_unix_ms")  # each call is a visit of its own
    (level,) = effect(summarise_sweep(frame), "batch", "total").levels
    logs = frame.with_columns(log=pl.col("total_ms").log()).group_by("sample_id", "config.batch").agg(pl.mean("log"))
    sides = [logs.filter(pl.col("config.batch") == value).sort("sample_id")["log"].to_numpy() for value in (1, 2)]
    assert effect(summarise_sweep(frame), "batch", "total").visit_noise == "not shared"
    expected = ttest_1samp(sides[1] - sides[0], 0).confidence_interval(0.95)
    assert np.log([level.ratio.low, level.ratio.high]) == pytest.approx([expected.low, expected.high])
    assert level.ratio.n == 20


def test_a_call_that_is_missing_changes_little() -> None:
    frame = sweep(GRID, by_rule, inputs=120, noise=0.1, seed=4)
    holed = frame.filter((pl.col("sample_id") != "0007") | (pl.col("config.blocks") != 8))
    whole, gaps = (effect(summarise_sweep(f), "tier", "vision").levels[0] for f in (frame, holed))
    assert (whole.ratio.n, whole.pairs) == (120, 480)
    assert (gaps.ratio.n, gaps.pairs) == (120, 478)
    assert gaps.ratio != whole.ratio
    for with_gaps, its in zip(msgspec.structs.astuple(gaps.ratio), msgspec.structs.astuple(whole.ratio), strict=True):
        assert with_gaps == pytest.approx(its, rel=0.005)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.floats(-3, 3)),
    st.randoms(use_true_random=False),
)
def test_a_units_value_is_its_mean_and_with_gaps_its_pseudo_value(whole: Any, draw: Any) -> None:
    assert unit_values(whole) == pytest.approx(whole.mean(axis=0))
    holed = whole.copy()
    holed[draw.randrange(whole.shape[0]), draw.randrange(whole.shape[1])] = np.nan
    present = ~np.isnan(holed).all(axis=0)
    d = holed[:, present]

    def mean_of_means(values: Any) -> float:
        kept = values[~np.isnan(values).all(axis=1)]
        return float(np.nanmean(kept, axis=1).mean())

    n = d.shape[1]
    if n < 2:
        return
    expected = [n * mean_of_means(d) - (n - 1) * mean_of_means(np.delete(d, unit, axis=1)) for unit in range(n)]
    assert unit_values(holed) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=120), st.floats(-1, 1))
def test_a_factor_moves_with_its_values_and_turns_with_their_sign(logs: list[float], shift: float) -> None:
    values = np.array(logs)
    plain, moved, turned = (factor_interval(v) for v in (values, values + shift, -values))
    assert moved.value == pytest.approx(plain.value * np.exp(shift))
    assert turned.value == pytest.approx(1 / plain.value)
    if plain.low is None or plain.high is None:
        assert len(logs) < 3
        return
    assert plain.low <= plain.value <= plain.high
    assert turned.low == pytest.approx(1 / plain.high)


def test_an_interaction_is_said_with_the_ratio_at_each_value() -> None:
    def rule(config: Mapping[str, Any], stage: str) -> float:
        grows = {2: 1.0, 4: 4.0, 8: 2.0}[config["top_k"]] ** {1: 0, 8: 1, 16: 0.5}[config["batch"]]
        return PARTS[stage] * (grows if stage == "decode" else 1.0)

    grid = {"top_k": [2, 4, 8], "batch": [1, 8, 16], "tier": ["low", "high"]}
    alone = pl.int_range(pl.len()).cast(pl.String).alias("worker")  # each call is a visit of its own
    summary = summarise_sweep(sweep(grid, rule, noise=0.01).with_columns(alone))
    strongest = summary.interactions[0]
    assert {strongest.knob, strongest.other} == {"top_k", "batch"}
    assert {i.stage for i in summary.interactions} == {"decode", "total"}
    assert strongest.stage == "decode"
    assert strongest.change.value == pytest.approx(4, rel=0.02)
    assert strongest.change.low is not None
    assert strongest.change.low > 3.8
    assert len(summary.interactions) == 2  # reported once for each stage, not from both sides
    if strongest.knob == "top_k":
        assert (strongest.base, strongest.level) == (2, 4)
        assert [(at.value, pytest.approx(at.ratio.value, rel=0.02)) for at in strongest.at] == [(1, 1), (8, 4), (16, 2)]


def test_noise_is_no_interaction() -> None:
    reported = [summarise_sweep(sweep(GRID, noise=0.15, inputs=4, seed=seed)).interactions for seed in range(12)]
    assert sum(map(len, reported)) <= 0.05 * 12 * 15  # of three pairs of knobs and five stages each


def test_factors_that_multiply_are_no_interaction() -> None:
    summary = summarise_sweep(sweep(GRID, by_rule, noise=0.03, between_inputs=0.3))
    assert {i.stage for i in summary.interactions} <= {"total"}  # a sum of stages is no product of factors


def test_tied_settings_do_not_hide_a_knob() -> None:
    frame = sweep({"tier": ["low", "high"]}, lambda c, s: PARTS[s] * (2 if c["tier"] == "high" else 1))
    frame = frame.with_columns((pl.col("config.tier") + "-crops").alias("config.crops"))
    summary = summarise_sweep(frame)
    assert summary.tied == {"crops": "tier"}
    assert effect(summary, "tier", "total").levels[0].ratio.value == pytest.approx(2)


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Inputs that react to the knob each in their own way, under settings that share their reaction."""
    held = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        reaction = dict(zip((f"{n:04d}" for n in range(8)), np.exp(draw.normal(0, 0.1, 8)), strict=True))
        frame = sweep({"batch": [1, 2], "top_k": [1, 2, 4]}, noise=0.02, between_inputs=0.3, seed=seed)
        own = pl.col("sample_id").replace_strict(reaction, return_dtype=pl.Float64)
        factor = pl.when(pl.col("config.batch") == 2).then(1.2 * own).otherwise(1.0)
        frame = frame.select("config_id", "sample_id", pl.col("total_ms") * factor, "^config\\..*$")
        ratio = effect(summarise_sweep(frame), "batch", "total").levels[0].ratio
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= 1.2 <= ratio.high
    assert 0.90 * 200 <= held <= 0.99 * 200


def test_interactions_are_rare_where_there_are_none_over_all_pairs_of_knobs() -> None:
    """Four knobs, visits that are slow at random: in at most a few of the sweeps is one reported."""
    grid = {"tier": ["low", "medium"], "top_k": [1, 2, 4], "blocks": [2, 4], "batch": [1, 2]}
    said = 0
    for seed in range(40):
        frame = visited_sweep(grid, rounds=2, inputs=6, repeats=2, noise=0.02, visit_noise=0.12, seed=seed)
        said += any(one.stage == "total" for one in summarise_sweep(frame).interactions)
    assert said <= 5
