import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.data.stats import (
    median_interval,
    noise_is_stable,
    quantile,
    ratio_of_medians,
    relative_half_width,
    relative_spread,
)

TIMES = st.lists(st.floats(min_value=0.1, max_value=1e4), min_size=1, max_size=60)


@given(TIMES)
def test_median_lies_in_its_interval_and_the_interval_in_the_data(times):
    interval = median_interval(times)
    assert interval.value == pytest.approx(float(np.median(times)))
    if interval.low is not None:
        assert min(times) <= interval.low <= interval.value <= interval.high <= max(times)


@pytest.mark.parametrize(("n", "has_interval"), [(5, False), (6, True)])
def test_six_values_are_the_fewest_with_a_95_percent_interval(n, has_interval):
    assert (median_interval(range(n)).low is not None) is has_interval


@pytest.mark.parametrize(("n", "ranks"), [(6, (1, 6)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))])
def test_ranks_are_those_of_the_published_sign_test_tables(n, ranks):
    interval = median_interval(np.arange(1, n + 1))
    assert (interval.low, interval.high) == ranks


def test_median_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        interval = median_interval(rng.lognormal(0, 0.3, 25))
        hits += interval.low <= 1.0 <= interval.high
    assert 0.94 <= hits / 2000 <= 0.985


def test_large_samples_take_the_same_ranks_as_exact_ones():
    exact, normal = median_interval(np.arange(1000)), median_interval(np.arange(1001))
    assert abs(exact.low - normal.low) <= 1
    assert abs(exact.high - normal.high) <= 1


def test_paired_ratio_cancels_drift_that_unpaired_shows():
    drift = np.linspace(1, 3, 60)
    noise = 1 + 0.01 * np.random.default_rng(2).standard_normal(60)
    paired = ratio_of_medians(1.05 * drift * noise, drift, paired=True)
    unpaired = ratio_of_medians(1.05 * drift * noise, drift, paired=False)
    assert paired.low < 1.05 < paired.high
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 10


def test_ratio_needs_both_sides_and_equal_pairs():
    with pytest.raises(ValueError, match="both sides"):
        ratio_of_medians([], [1.0], paired=False)
    with pytest.raises(ValueError, match="equal lengths"):
        ratio_of_medians([1.0, 2.0], [1.0], paired=True)


@given(TIMES, st.floats(min_value=0.5, max_value=20))
def test_relative_spread_has_no_unit(times, scale):
    assert relative_spread([t * scale for t in times]) == pytest.approx(relative_spread(times), abs=1e-9)


def test_noise_is_stable_only_after_enough_values_that_agree():
    rng = np.random.default_rng(3)
    steady = 100 + rng.standard_normal(400)
    assert noise_is_stable(steady)
    assert not noise_is_stable(steady[:10])
    growing = np.concatenate([np.full(16, 100.0), 100 + 10 * rng.standard_normal(16)])
    assert not noise_is_stable(growing)


def test_half_width_and_quantile():
    assert relative_half_width(median_interval([100.0] * 6)) == 0.0
    assert relative_half_width(median_interval([1.0])) is None
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)
