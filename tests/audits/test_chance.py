"""What the rules that judge by chance rest on: known statistics, and few false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.audit_false_alarms import NOISES, SHAPES, by_chance, sound

from laptime.audits.dip import dip, p_value
from laptime.audits.ranks import midranks, poisson_tail, shift, signed_shift, trend


@pytest.mark.parametrize("shape", ["1 configuration × 20", "27 configurations × 8", "6 configurations × 60, 3 workers"])
def test_sound_runs_raise_a_finding_in_at_most_one_of_twenty(shape):
    runs = [(noise, seed) for noise in NOISES.values() for seed in range(12)]
    alarms = sum(bool(by_chance(sound(seed, SHAPES[shape], noise))) for noise, seed in runs)
    assert alarms <= 0.05 * len(runs)


def test_the_dip_of_few_values_is_what_can_be_worked_out():
    assert dip(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(1 / 8)  # evenly spaced: 1/(2n), the least there is
    two = np.concatenate([np.linspace(0, 1, 50), np.linspace(10, 11, 50)])
    assert dip(two) == pytest.approx(0.23, abs=0.02)  # nearly 1/4, the most there is
    assert dip(np.full(10, 3.0)) == 0.0


def test_p_values_of_the_dip_are_uniform_under_the_uniform():
    rng = np.random.default_rng(7)
    values = [p_value(dip(rng.random(80)), 80) for _ in range(400)]
    assert np.mean(np.array(values) <= 0.05) == pytest.approx(0.05, abs=0.03)
    normal = [p_value(dip(rng.normal(size=80)), 80) for _ in range(100)]
    assert np.mean(np.array(normal) <= 0.05) <= 0.02  # any other single mode dips less


def test_a_trend_is_measured_with_its_interval():
    x = np.arange(60.0)
    noise = np.random.default_rng(5).normal(0, 1.0, 60)
    seen = trend(x, 0.2 * x + noise, 0.99)
    assert seen.low < 0.2 < seen.high
    assert seen.p < 1e-6
    assert trend(x, noise, 0.99).p > 0.01
    assert trend(x[:7], noise[:7], 0.99) is None


def test_ranks_and_shifts_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(11)
    a, b = rng.normal(0, 1, 40).round(1), rng.normal(0.4, 1, 55).round(1)
    assert midranks(a) == pytest.approx(stats.rankdata(a))
    expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert shift(a, b)[1] == pytest.approx(expected, rel=1e-6)
    paired = stats.wilcoxon(a, b[:40], method="asymptotic", correction=True).pvalue
    assert signed_shift(a - b[:40])[1] == pytest.approx(paired, rel=1e-6)
    for count, mean in ((1, 0.3), (4, 0.54), (12, 3.0)):
        assert poisson_tail(count, mean) == pytest.approx(stats.poisson.sf(count - 1, mean))
    x = np.arange(30.0)
    y = 0.05 * x + rng.normal(0, 1, 30)
    slope, _, low, high = stats.theilslopes(y, x, 0.99)
    ours = trend(x, y, 0.99)
    assert ours.slope == pytest.approx(slope)
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
