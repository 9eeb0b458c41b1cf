"""Comparisons: how often they err, what they find, what they refuse and what they warn of."""

from __future__ import annotations

from itertools import product
from math import exp

import msgspec
import numpy as np
import pytest
from benchmarks.compare_power import SHAPES, STAGE_MS, false_alarm_rate, found_rate, lognormal, measured_spreads, runs

from laptime.comparisons import Comparison, StageComparison, compare_samples, compare_two_runs
from laptime.comparisons import ratio_interval as intervals
from laptime.comparisons.verdict import more_samples, overall, verdict
from laptime.data.record import Environment, Interval, Sample, Scalar, StageTimes
from laptime.data.run_folder import Run, new_info
from laptime.errors import LaptimeError
from tests.samples import environment, sample


def a_run(samples: list[Sample], path: str = "run", session: dict[str, Scalar] | None = None, **facts: object) -> Run:
    around: Environment = msgspec.structs.replace(environment(), **facts)
    info = new_info(["laptime"], samples[0].config if samples else {}, around, session)
    return Run(
        path=path, info=info, samples=samples, failures=[], subtractions=[], sessions=[], workers=[], dropped_tails=[]
    )


def two_runs(*, seed: int = 0, spread: float = 0.01, **options: object) -> tuple[list[Sample], list[Sample]]:
    return runs(np.random.default_rng(seed), lognormal(spread), **options)  # type: ignore[arg-type]


def stage(comparison: Comparison, name: str) -> StageComparison:
    return next(c for c in comparison.stages if c.stage == name)


def codes(comparison: Comparison) -> list[str]:
    return [finding.code for finding in comparison.findings]


def with_config(samples: list[Sample], **knobs: Scalar) -> list[Sample]:
    return [
        msgspec.structs.replace(s, config={**s.config, **knobs}, config_id=str(sorted(knobs.items()))) for s in samples
    ]


# How often it errs and what it finds


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("paired", [True, False])
def test_identical_code_is_called_faster_or_slower_in_at_most_5_percent(shape, paired):
    assert false_alarm_rate(SHAPES[shape], simulations=400, seed=4, paired=paired) <= 0.05


@pytest.mark.parametrize("paired", [True, False])
def test_a_change_of_5_percent_is_found_with_the_noise_of_the_gpu(paired):
    noisiest = max(measured_spreads().values())
    assert 0.01 < noisiest < 0.03
    for spread in (noisiest, 0.02):
        assert found_rate(lognormal(spread), decode_factor=1.05, simulations=200, seed=5, paired=paired) >= 0.9


def test_drift_that_both_share_hides_nothing_when_paired():
    drift = SHAPES["drift, the same in both"]
    assert found_rate(drift, decode_factor=1.05, simulations=100, seed=6) >= 0.9


def test_intervals_hold_the_true_factor_as_often_as_they_say():
    rng = np.random.default_rng(7)
    held = {True: 0, False: 0}
    for _ in range(1000):
        a, b = rng.gamma(2, size=(2, 12))  # far from normal, far from symmetric
        logs_a, logs_b = np.log(a), np.log(1.3 * b)
        for paired in held:
            interval = (
                intervals.paired_interval(logs_b - logs_a, 0.9)
                if paired
                else intervals.unpaired_interval(logs_a, logs_b, 0.9)
            )
            assert interval.low is not None and interval.high is not None
            held[paired] += interval.low <= 1.3 <= interval.high
    assert all(0.88 <= count / 1000 <= 0.95 for count in held.values())


# The intervals against published tables and brute force


@pytest.mark.parametrize(("n", "critical"), [(6, 0), (8, 3), (10, 8), (15, 25), (20, 52), (25, 89), (50, 434)])
def test_signed_rank_depths_are_those_of_the_published_tables(n, critical):
    """Wilcoxon's two-sided 5 % critical values (e.g. Hollander, Wolfe and Chicken, table A.4)."""
    assert intervals._signed_rank_depth(n, 0.025) == critical + 1


@pytest.mark.parametrize(("n", "m", "critical"), [(4, 4, 0), (5, 5, 2), (8, 10, 17), (10, 10, 23), (20, 20, 127)])
def test_mann_whitney_depths_are_those_of_the_published_tables(n, m, critical):
    """Two-sided 5 % critical values of U."""
    assert intervals._mann_whitney_depth(n, m, 0.025) == critical + 1
    assert intervals._mann_whitney_depth(m, n, 0.025) == critical + 1


def test_the_published_example_comes_out():
    """Depression scores before and after: estimate and 96 % interval of Hollander, Wolfe and Chicken's 3.1 to 3.4."""
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    interval = intervals.paired_interval(after - before, 0.96)
    assert [float(np.log(x or 0)) for x in (interval.value, interval.low, interval.high)] == pytest.approx(
        [-0.46, -0.786, -0.010], abs=1e-9
    )


def test_unpaired_ends_are_the_differences_that_the_tables_name():
    a, b = np.array([1.0, 2.0, 4.0, 7.0]), np.array([3.0, 8.0, 9.0, 12.0])
    interval = intervals.unpaired_interval(a, b, 0.95)  # critical U is 0: the smallest and the largest difference
    assert (np.log(interval.low or 0), np.log(interval.high or 0)) == pytest.approx((3 - 7, 12 - 1))
    assert np.log(interval.value) == pytest.approx(np.median(np.subtract.outer(b, a)))


def test_normal_tails_take_over_where_counting_ends():
    for tail in (0.025, 0.005):
        exact = intervals._signed_rank_depth(50, tail)
        grown = intervals._signed_rank_depth(51, tail)
        assert exact < grown < exact + 51
        assert abs(intervals._mann_whitney_depth(50, 50, tail) - intervals._mann_whitney_depth(50, 51, tail)) < 51


def test_counting_finds_the_order_statistics_that_sorting_finds(monkeypatch):
    rng = np.random.default_rng(8)
    d, a, b = rng.standard_normal(60), rng.standard_normal(50), rng.standard_normal(41)
    sorted_out = intervals.paired_interval(d, 0.95), intervals.unpaired_interval(a, b, 0.95)
    monkeypatch.setattr(intervals, "MATERIALISED", 0)
    counted = intervals.paired_interval(d, 0.95), intervals.unpaired_interval(a, b, 0.95)
    for one, other in zip(sorted_out, counted, strict=True):
        assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), rel=1e-8)


def test_the_fewest_values_with_an_interval():
    assert (intervals.fewest_pairs(0.95), intervals.fewest_pairs(0.99)) == (6, 8)
    assert (intervals.fewest_unpaired(0.95), intervals.fewest_unpaired(0.99)) == (4, 5)
    assert intervals.paired_interval(np.zeros(5), 0.95).low is None
    assert intervals.paired_interval(np.zeros(6), 0.95).low == 1.0


# Verdicts


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        ((1.05, 1.01, 1.09), "slower"),
        ((0.95, 0.91, 0.99), "faster"),
        ((1.0, 0.985, 1.015), "same"),
        ((1.01, 1.005, 1.019), "same"),  # it excludes 1, but nobody cares
        ((1.01, 1.005, 1.03), "inconclusive"),  # it excludes 1, the estimate is below the smallest effect
        ((1.05, 0.99, 1.11), "inconclusive"),
        ((1.0, 0.95, 1.05), "inconclusive"),
        ((1.3, None, None), "inconclusive"),
    ],
)
def test_verdicts(ratio, word):
    assert verdict(Interval(*ratio, n=20), 0.02) == word
    if ratio[1] is not None:
        mirrored = Interval(1 / ratio[0], 1 / ratio[2], 1 / ratio[1], n=20)
        assert verdict(mirrored, 0.02) == {"slower": "faster", "faster": "slower"}.get(word, word)


def test_slower_wins_over_all_and_same_needs_all():
    assert overall(["faster", "slower", "same"]) == "slower"
    assert overall(["inconclusive", "faster", "same"]) == "faster"
    assert overall(["same", "same"]) == "same"
    assert overall(["same", "inconclusive"]) == "inconclusive"


def test_more_samples_follow_the_square_root():
    assert more_samples(Interval(1.0, None, None, 3), 0.02, 8) == 5
    half_as_wide = Interval(exp(0.04), exp(0.04 - 0.08), exp(0.04 + 0.08), 10)  # must come down to 0.04: four times
    assert more_samples(half_as_wide, 0.02, 8) == 30
    for_same = Interval(1.0, 1.02**-3, 1.02**3, 10)  # three times too wide: nine times the values
    assert more_samples(for_same, 0.02, 8) == 80
    on_the_edge = Interval(1.0199999999, 0.9, 1.1, 10)
    assert more_samples(on_the_edge, 0.02, 8) is None


def test_the_number_of_more_samples_is_enough_about_half_of_the_time():
    rng_seeds = range(60)
    decided = asked = 0
    for seed in rng_seeds:
        first = compare_samples(*two_runs(seed=seed, spread=0.06, decode_factor=1.08), stage="decode")
        if first.verdict != "inconclusive" or not (more := first.stages[0].more_samples) or more > 200:
            continue
        asked += 1
        again = two_runs(seed=1000 + seed, spread=0.06, decode_factor=1.08, samples=20 + more)
        decided += compare_samples(*again, stage="decode").verdict != "inconclusive"
    assert asked >= 5
    assert decided / asked >= 0.4


# What is set beside what


def test_a_run_against_itself_is_the_same_to_the_last_digit():
    a, _ = two_runs()
    compared = compare_samples(a, a)
    assert compared.verdict == "same"
    assert all((c.ratio.value, c.ratio.low, c.ratio.high) == (1.0, 1.0, 1.0) for c in compared.stages)


def test_only_the_changed_stages_are_called_slower():
    compared = compare_samples(*two_runs(decode_factor=1.10, samples=40))
    words = {c.stage: c.verdict for c in compared.stages}
    assert words == {"vision": "same", "prefill": "same", "decode": "slower", "other": "same", "total": "slower"}
    assert stage(compared, "decode").ratio.value == pytest.approx(1.10, rel=0.01)


def test_swapping_the_runs_mirrors_the_answer():
    a, b = two_runs(decode_factor=1.10)
    there, back = (stage(compare_samples(*order), "decode") for order in ((a, b), (b, a)))
    assert (there.verdict, back.verdict) == ("slower", "faster")
    assert back.ratio.value == pytest.approx(1 / there.ratio.value)
    assert back.ratio.low == pytest.approx(1 / (there.ratio.high or 0))


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_cancel_what_inputs_differ_by(paired):
    a, b = two_runs(decode_factor=1.05)
    if not paired:
        b = [msgspec.structs.replace(s, sample_id=f"b{s.sample_id}") for s in b]
    compared = compare_samples(a, b, stage="decode")
    assert compared.stages[0].paired is paired
    assert (compared.verdict == "slower") is paired  # inputs spread by 20 %: only pairs can see 5 %


@pytest.mark.parametrize(("shared", "paired", "used"), [(8, True, 8), (7, False, 20)])
def test_eight_pairs_are_enough_and_fewer_are_not_when_there_is_more(shared, paired, used):
    a, b = two_runs()
    b = [msgspec.structs.replace(s, sample_id=s.sample_id if n < shared else f"b{n}") for n, s in enumerate(b)]
    compared = compare_samples(a, b)
    assert {c.paired for c in compared.stages} == {paired}
    assert (compared.a.used, compared.a.unpaired) == (used, 20 - used)


def test_order_in_the_file_does_not_matter_and_a_missing_partner_is_counted():
    a, b = two_runs(decode_factor=1.05)
    assert compare_samples(a[::-1], b) == compare_samples(a, b)
    compared = compare_samples(a, b[3:])
    assert (compared.a.used, compared.a.unpaired, compared.b.unpaired) == (17, 3, 0)
    assert stage(compared, "decode").ratio.n == 17


def test_repeats_of_an_input_count_once_without_pairs():
    a, b = two_runs()
    repeated = [msgspec.structs.replace(s, sample_id="x", repeat=n) for n, s in enumerate(b)]
    compared = compare_samples(a, repeated, stage="total")
    assert (compared.stages[0].paired, compared.stages[0].ratio.n) == (False, 1)
    assert (compared.verdict, compared.stages[0].ratio.low) == ("inconclusive", None)


def test_flagged_samples_are_left_out_and_counted():
    a, b = two_runs()
    slow = StageTimes.from_ns(vision=1, prefill=1, decode=10**12, total=10**12 + 2)
    b[:4] = [msgspec.structs.replace(s, stages=slow, flags=["throttled"]) for s in b[:4]]
    compared = compare_samples(a, b)
    assert compared.b.left_out == {"throttled": 4}
    assert stage(compared, "decode").ratio.n == 16
    assert stage(compared, "decode").ratio.value == pytest.approx(1, abs=0.02)


def with_other(sample: Sample, other_ms: float) -> Sample:
    """The sample with this much time outside its other stages."""
    ns = {name: round((sample.stages.stage(name) or 0.0) * 1e6) for name in ("vision", "prefill", "decode")}
    stages = StageTimes.from_ns(**ns, total=sum(ns.values()) + round(other_ms * 1e6))
    return msgspec.structs.replace(sample, stages=stages)


def test_a_run_without_a_clean_sample_says_so():
    a, b = two_runs()
    flagged = [msgspec.structs.replace(s, flags=["foreign-process"]) for s in b]
    compared = compare_samples(a, flagged, names=("a", "runs/b"))
    said = "no sample was clean; the figures are those of flagged ones, and nothing is judged"
    (finding,) = [f for f in compared.findings if f.severity == "severe"]
    assert finding.message.startswith(f"runs/b: {said}. ")
    assert finding.message.endswith("--run COMMAND_A --against COMMAND_B --keep foreign-process")
    both = compare_samples(flagged, [msgspec.structs.replace(s, flags=["cold"]) for s in a], names=("a", "b"))
    assert [f.message for f in both.findings if f.severity == "severe"] == [f"a and b: {said}"], "once, for both"
    slow, flagged_slow = two_runs(decode_factor=1.5)
    flagged_slow = [msgspec.structs.replace(s, flags=["foreign-process"]) for s in flagged_slow]
    compared = compare_samples(slow, flagged_slow)
    assert (compared.verdict, compared.reason) == ("inconclusive", "a run has no clean sample")
    assert {c.verdict for c in compared.stages} == {"inconclusive"}
    assert "slower" in {c.within_run for c in compared.stages}


def test_a_stage_below_one_per_cent_of_the_call_never_decides():
    a, b = two_runs()
    small = [with_other(s, 0.8) for s in a]
    three_times = [with_other(s, 2.4) for s in b]
    compared = compare_samples(small, [with_other(s, 0.9) for s in b])
    other = next(c for c in compared.stages if c.stage == "other")
    assert (other.decides, other.verdict, other.within_run) == (False, "inconclusive", "slower")
    assert compared.verdict == "same"
    assert "small-stage" in {f.code for f in compared.findings}
    assert compare_samples(small, three_times).verdict == "slower"  # above 1 % of B: it counts


def test_grids_are_paired_within_their_configurations():
    a, b = two_runs(decode_factor=1.05)
    grid_a, grid_b = (
        [s for blocks in (8, 16) for s in with_config(run, blocks=blocks, batch=blocks)] for run in (a, b)
    )
    compared = compare_samples(grid_a, grid_b[:30])
    assert stage(compared, "decode").ratio.n == 30
    assert compared.verdict == "slower"
    with pytest.raises(LaptimeError, match="none of them in both"):
        compare_samples(grid_a, with_config(b, blocks=4))


def test_values_that_repeat_their_neighbours_are_merged():
    a, b = two_runs(samples=40)
    wave = np.repeat([1.0, 1.06, 0.97, 1.08, 0.99], 8)
    waving = []
    for s, factor in zip(b, wave, strict=True):
        decode = round((s.stages.decode_ms or 0) * factor * 1e6)
        vision, prefill = round(s.stages.vision_ms * 1e6), round(s.stages.prefill_ms * 1e6)
        total = vision + prefill + decode + round(s.stages.other_ms * 1e6)
        stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=total)
        waving.append(msgspec.structs.replace(s, stages=stages))
    compared = compare_samples(a, waving)
    assert stage(compared, "decode").block > 1
    assert stage(compared, "vision").block == 1
    assert "serial" in codes(compared)


def test_no_decode_and_no_vision_are_no_stages():
    no_decode = StageTimes.from_ns(vision=0, prefill=20_000_000, decode=None, total=21_000_000)
    text_only = [sample(n, stages=no_decode) for n in range(10)]
    assert [c.stage for c in compare_samples(text_only, text_only).stages] == ["prefill", "other", "total"]
    seeing = [sample(n) for n in range(10)]
    compared = compare_samples(text_only, seeing)
    assert [c.stage for c in compared.stages] == ["prefill", "other", "total"]
    assert "one run only has it: vision, decode" in next(
        f.message for f in compared.findings if f.code == "stage-missing"
    )
    with pytest.raises(LaptimeError, match="stage decode is not comparable"):
        compare_samples(text_only, seeing, stage="decode")


# What differs around them


def test_other_work_is_not_compared():
    a, b = two_runs()
    longer = with_config(b, new_tokens=64)
    compared = compare_samples(with_config(a, new_tokens=32), longer)
    assert [c.stage for c in compared.stages] == ["vision", "prefill"]
    assert "work-differs" in codes(compared)
    with pytest.raises(LaptimeError, match=r"stage total is not comparable.*new_tokens \(32 → 64\)"):
        compare_samples(with_config(a, new_tokens=32), longer, stage="total")
    with pytest.raises(LaptimeError, match=r"nothing is comparable.*batch \(1 → 4\)"):
        compare_samples(with_config(a, batch=1), with_config(b, batch=4))


def test_a_size_that_only_one_configuration_names_is_what_the_samples_show():
    a, b = two_runs()  # b as a StageTimer writes it: its configuration names no sizes
    same = [msgspec.structs.replace(s, prompt_tokens=64, output_tokens=32, batch=1) for s in b]
    a = [msgspec.structs.replace(s, prompt_tokens=64, output_tokens=32, batch=1) for s in a]
    a = with_config(a, batch=1, prompt_tokens=64, new_tokens=32)
    assert {one.stage for one in compare_samples(a, same).stages} >= {"prefill", "decode", "total"}
    longer = [msgspec.structs.replace(s, prompt_tokens=80) for s in same]
    with pytest.raises(LaptimeError, match=r"total is not comparable.*prompt_tokens \(64 → 80\)"):
        compare_samples(a, longer, stage="total")
    mixed = [msgspec.structs.replace(s, prompt_tokens=64 + 8 * (n % 2)) for n, s in enumerate(same)]
    with pytest.raises(LaptimeError, match=r"prompt_tokens \(64 → 64 to 72\)"):
        compare_samples(a, mixed, stage="total")
    unknown = [msgspec.structs.replace(s, prompt_tokens=None) for s in same]
    with pytest.raises(LaptimeError, match=r"prompt_tokens \(64 → none\)"):
        compare_samples(a, unknown, stage="total")


def test_a_knob_that_differs_is_named_and_compared():
    a, b = two_runs()
    compared = compare_samples(with_config(a, cache="dynamic"), with_config(b, cache="static"))
    assert [f.message for f in compared.findings] == ["The runs' configurations differ: cache (dynamic → static)"]
    assert len(compared.stages) == 5


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"gpu": "NVIDIA H100"}, "environment-differs"),
        ({"driver": "570"}, "environment-differs"),
        ({"torch": "2.9"}, "environment-differs"),
        ({"transformers": "5.0"}, "environment-differs"),
        ({"cpu": "other"}, "environment-differs"),
        ({"tf32_matmul": True}, "environment-differs"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "environment-differs"),
        ({"python": "3.13"}, "environment-differs-little"),
        ({"git_commit": "abc"}, None),
    ],
)
def test_environments_that_differ_are_named(changed, code):
    a, b = two_runs()
    compared = compare_two_runs(a_run(a), a_run(b, **changed))
    assert codes(compared) == ([code] if code else [])
    if code:
        field = next(iter(changed.get("variables", changed)))
        assert f"{field} (" in compared.findings[0].message
        assert compared.findings[0].severity == ("warning" if code == "environment-differs" else "info")


def test_runs_looked_at_in_different_ways_are_warned_of():
    a, b = two_runs()
    compared = compare_two_runs(a_run(a, session={"per_token": False}), a_run(b, session={"per_token": True}))
    assert codes(compared) == ["method-differs"]


def test_pairs_that_are_none_are_warned_of():
    a, b = two_runs()
    b[0] = msgspec.structs.replace(b[0], output_tokens=9, decode_forwards=8)
    b[1] = msgspec.structs.replace(b[1], prompt_tokens=1024)
    compared = compare_samples(a, b)
    assert {f.code: f.count for f in compared.findings} == {"inputs-differ": 1, "outputs-differ": 1}


def test_a_step_can_be_compared_when_outputs_differ_in_length():
    a, b = two_runs()
    shorter = [msgspec.structs.replace(s, output_tokens=4, decode_forwards=3) for s in b]
    compared = compare_samples(a, shorter, stage="decode_per_token")
    assert compared.stages[0].ratio.value == pytest.approx(7 / 3, rel=0.02)
    assert compared.stages[0].a_median_ms == pytest.approx(STAGE_MS[2] / 7, rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "decoder"}, "stage 'decoder': one of preprocessing, queue, vision, audio, encode, prefill"),
        ({"min_effect": 1.5}, "smallest effect"),
        ({"min_effect": float("nan")}, "smallest effect"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.1}, "confidence"),
    ],
)
def test_bad_questions_are_refused(options, message):
    with pytest.raises(LaptimeError, match=message):
        compare_samples(*two_runs(), **options)


def test_empty_runs_are_refused_by_name():
    a, _ = two_runs()
    for left, right in product(([], a), repeat=2):
        if not left or not right:
            with pytest.raises(LaptimeError, match=f"{'a' if not left else 'b'}: no sample was measured"):
                compare_two_runs(a_run(left, "a"), a_run(right, "b"))


def test_one_stage_alone_is_not_corrected_for_five():
    samples = two_runs()
    alone, together = compare_samples(*samples, stage="decode"), compare_samples(*samples)
    assert [c.stage for c in alone.stages] == ["decode"]
    assert alone.stages[0].confidence == pytest.approx(1 - 0.05 / 2)
    assert [c.confidence for c in together.stages] == pytest.approx([1 - 0.05 / 6] * 5)
