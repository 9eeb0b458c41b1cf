"""Online correction: it finds a slow-down from late and censored labels, forgets order, continues after a restart."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.estimate_online import coverage_by_completions, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate import online

BASELINE = np.random.default_rng(0).normal(-0.25, 0.15, 400)


def ended_stream(ratios, order, *, window=40):
    """All requests issued at once, ended in the given order; the clock stands."""
    state = online.begin(BASELINE, window=window)
    for number in range(len(ratios)):
        state = online.issued(state, str(number), 100.0, 100.0, 0.0)
    for number in order:
        state = online.finished(state, str(number), 100.0 * float(np.exp(ratios[number])))
    return state


@settings(deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=30), st.integers(0, 1000))
def test_the_order_of_arrival_does_not_matter(ratios, seed):
    order = np.random.default_rng(seed).permutation(len(ratios))
    one, other = ended_stream(ratios, range(len(ratios))), ended_stream(ratios, order)
    assert one.ended == other.ended
    assert online.correction(one, 1.0) == online.correction(other, 1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 119))
def test_saved_and_loaded_it_continues_as_if_nothing_had_happened(tmp_path_factory, seed, cut):
    def play(state, first, last):
        given_ms = []
        for number in range(first, last):
            now = 50.0 * number
            factor = online.correction(state, now).bound_factor
            given_ms.append(factor)
            state = online.issued(state, str(number), 100.0, 100.0 * min(factor, 99.0), now)
            if number >= 3:
                took = 100.0 * float(np.exp(np.random.default_rng(seed + number).normal(-0.1, 0.3)))
                end = online.timed_out if number % 7 == 0 else online.finished
                state = end(state, str(number - 3), took)
        return state, given_ms

    half, _ = play(online.begin(BASELINE), 0, cut)
    file = tmp_path_factory.mktemp("state") / "online.json"
    online.save(half, file)
    assert online.load(file) == half
    assert play(online.load(file), cut, 120) == play(half, cut, 120)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=20, max_size=60), st.floats(1.1, 20))
def test_the_correction_is_bounded(ratios, limit):
    state = online.begin(BASELINE, window=20, limit=limit)
    for number, ratio in enumerate(ratios):
        state = online.issued(state, str(number), 10.0, 10.0, 0.0)
        state = online.finished(state, str(number), 10.0 * float(np.exp(ratio)))
    found = online.correction(state, 1e9)
    assert found.saturated == np.isinf(found.bound_factor)
    if not found.saturated:
        assert 1 / limit - 1e-9 <= found.bound_factor <= limit + 1e-9
    assert 1 / limit - 1e-9 <= found.median_factor <= limit + 1e-9
    assert 0.9 <= found.level <= 0.99


@pytest.mark.parametrize("spare", [0.0, 0.5])
def test_how_much_slower_does_not_depend_on_what_bounds_had_to_spare(spare):
    """Twice as slow: bounds with much to spare still hold, but the machine is twice as slow all the same."""
    rng = np.random.default_rng(0)
    state = online.begin(rng.normal(-spare, 0.05, 200), window=80, step=0.0)
    assert online.correction(state, 0.0).slower == pytest.approx(1.0, abs=0.05)
    for number in range(100):
        state = online.issued(state, str(number), 100.0, 100.0, 0.0)
        state = online.finished(state, str(number), 200.0 * float(np.exp(rng.normal(-spare, 0.05))))
    found = online.correction(state, 0.0)
    assert found.slower == pytest.approx(2.0, rel=0.1)
    assert found.bound_factor == pytest.approx(2.0 * np.exp(-spare + 1.645 * 0.05), rel=0.1)


def test_a_machine_ten_times_slower_is_beyond_the_limit_and_promises_nothing():
    state = ended_stream([np.log(10.0)] * 40, range(40))
    found = online.correction(state, 0.0)
    assert found.saturated
    assert np.isinf(found.slower)
    assert np.isinf(found.bound_ms(100.0))
    assert found.probability_within(100.0, 1e6) == 0


def test_running_requests_are_heard_before_they_end():
    """Twenty requests that have run for 1.5 bounds say that bounds are too low, though none has ended."""
    state = online.begin(BASELINE, window=40)
    for number in range(20):
        state = online.issued(state, str(number), 100.0, 100.0, 0.0)
    young, old = online.correction(state, 10.0), online.correction(state, 150.0)
    assert young.bound_factor == pytest.approx(1.0, abs=0.15)
    assert old.bound_factor > 1.5 or old.saturated


def test_a_time_out_says_that_it_took_longer():
    ratios = np.random.default_rng(1).normal(-0.25, 0.15, 40)

    def play(every_second):
        state = online.begin(BASELINE, window=40, step=0.0)
        for number, ratio in enumerate(ratios):
            state = online.issued(state, str(number), 100.0, 100.0, 0.0)
            end = every_second if number % 2 else online.finished
            state = end(state, str(number), 100.0 * float(np.exp(ratio)))
        return state

    state = play(online.timed_out)
    assert online.correction(state, 0.0).bound_factor > online.correction(play(online.finished), 0.0).bound_factor
    assert [e.missed for e in state.ended if e.censored and e.log_ratio < 0] == [None] * sum(
        r < 0 for r in ratios[1::2]
    ), "a time-out below the bound hides whether the bound held"


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_survival_agrees_with_scipys_kaplan_meier_with_one_more_at_infinity(seed):
    from scipy.stats import CensoredData, ecdf

    rng = np.random.default_rng(seed)
    ratios, censored = rng.normal(0, 0.4, 40), rng.random(40) < 0.3
    state = online.begin(BASELINE, window=40)
    for number, ratio in enumerate(ratios):
        state = online.issued(state, str(number), 100.0, 100.0, 0.0)
        end = online.timed_out if censored[number] else online.finished
        state = end(state, str(number), 100.0 * float(np.exp(ratio)))
    found = online.correction(state, 0.0)
    left = ratios - np.array([one.forecast for one in state.ended])
    oracle = ecdf(CensoredData(uncensored=left[~censored], right=[*left[censored], 1e9])).sf
    assert found.ends == pytest.approx(np.sort(left[~censored]) + found.forecast)
    assert found.survival == pytest.approx(oracle.evaluate(np.sort(left[~censored]) + 1e-9))


def test_without_censoring_it_is_split_conformal():
    """The ceil((n + 1) q)-th smallest of what forecasts left over, and the forecast of now."""
    ratios = np.random.default_rng(3).permutation(np.linspace(-1, 0.0, 100))
    state = online.begin(BASELINE, window=100, step=0.0)
    for number, ratio in enumerate(ratios):
        state = online.issued(state, str(number), 100.0, 1e9, 0.0)
        state = online.finished(state, str(number), 100.0 * float(np.exp(ratio)))
    found = online.correction(state, 0.0)
    left = np.sort(ratios - np.array([one.forecast for one in state.ended]))
    assert np.log(found.bound_factor) == pytest.approx(found.forecast + left[int(np.ceil(101 * 0.95)) - 1])
    bounds = np.array([80.0, 120.0])
    for budget in (60.0, 100.0, 130.0):
        kept = found.probability_within(bounds, budget) >= found.level - 1e-9
        assert list(kept) == list(found.bound_ms(bounds) <= budget * (1 + 1e-9))


@pytest.mark.parametrize("name", ["2x slow-down", "drift to 2x"])
def test_coverage_returns_within_a_hundred_completed_requests(name):
    found = coverage_by_completions(scenario(name), "laptime", streams=8, seed=5)
    assert 0.92 <= found["before"] <= 0.98
    assert 0.92 <= found["after 100"] <= 0.975
    soon = np.mean([found["bins"][name] for name in ("100-150", "150-200", "200-250")])
    assert 0.92 <= soon <= 0.97  # one jump isn't taken for a habit of jumping
    assert coverage_by_completions(scenario(name), "none", streams=4, seed=5)["after 100"] < 0.6


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: online.begin([0.0] * 5), "20 finite values"),
        (lambda s: online.begin([np.nan] * 50), "20 finite values"),
        (lambda s: online.begin(BASELINE, limit=1.0), "limit 1 above 1"),
        (lambda s: online.begin(BASELINE, q=1.0), "q 1 must lie"),
        (lambda s: online.issued(s, "a", float("inf"), 1.0, 0.0), "above 0 and finite"),
        (lambda s: online.issued(online.issued(s, "a", 1.0, 1.0, 0.0), "a", 1.0, 1.0, 0.0), "running already"),
        (lambda s: online.finished(online.issued(s, "a", 1.0, 1.0, 0.0), "a", 0.0), "must be above 0"),
        (lambda s: online.load("/nowhere/state.json"), "No such file"),
    ],
)
def test_bad_input_is_one_line(act, words):
    with pytest.raises(LaptimeError, match=words) as error:
        act(online.begin(BASELINE))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"schema": "laptime.online/9"}', b"\x80\x04pickle"])
def test_a_damaged_state_is_one_line(tmp_path, content):
    file = tmp_path / "state.json"
    file.write_bytes(content)
    with pytest.raises(LaptimeError, match=r"state\.json"):
        online.load(file)


def test_unknown_keys_and_lost_requests_change_nothing():
    state = online.begin(BASELINE, window=20)
    assert online.finished(state, "never", 5.0) == state
    assert online.cancelled(state, "never") == state
    state = online.issued(state, "lost", 10.0, 10.0, 0.0)
    for number in range(20 * online.LOST_AFTER + 1):
        state = online.issued(state, str(number), 10.0, 10.0, 0.0)
        state = online.finished(state, str(number), 8.0)
    assert state.running == ()


@pytest.mark.parametrize(("at_once", "remembers"), [(1, False), (10, True)])
def test_what_forecasts_were_late_for_is_remembered_longer_where_more_requests_run(at_once, remembers):
    """Feedback is late by the requests in flight, so a slow state of 12 requests is one event of these, not 12."""
    rng = np.random.default_rng(0)
    noise = 0.02 * rng.standard_normal(200)
    state = online.begin(noise[:100], window=20)
    for number in range(140):
        state = online.issued(state, str(number), at_once, 1.2 * at_once, float(number))
        if (ended := number - at_once) >= 0:
            slow = 2.0 if 75 <= ended < 87 else 1.0
            state = online.finished(state, str(ended), at_once * slow * float(np.exp(noise[100 + ended % 100])))
    factor = online.correction(state, 139.5).bound_factor
    assert 1.8 < factor < 2.2 if remembers else factor < 1.1
