"""Recalibration: it finds a shift and a slope, its bound holds for few samples, and it says what it assumes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.recalibration import Recalibration, recalibrate


def machine(rng, n, *, shift=-0.5, slope=0.9, noise=0.1, heavy=False):
    old = rng.lognormal(3, 1, n)
    error = rng.standard_t(4, n) / np.sqrt(2) if heavy else rng.normal(size=n)
    return old, np.exp(shift + slope * np.log(old) + noise * error)


def test_it_finds_the_line():
    made = recalibrate(*machine(np.random.default_rng(0), 2000))
    assert made.slope == pytest.approx(0.9, abs=0.01)
    assert made.median_ms(20.0) == pytest.approx(np.exp(-0.5 + 0.9 * np.log(20.0)), rel=0.01)
    exact = recalibrate([1.0, 2.0, 4.0, 8.0, 16.0], [3.0, 6.0, 12.0, 24.0, 48.0])
    assert list(exact.median_ms([5.0, 100.0])) == pytest.approx([15.0, 300.0])


@pytest.mark.parametrize("n", [10, 25, 50, 100])
@pytest.mark.parametrize("heavy", [False, True])
def test_the_bound_holds_for_few_samples(n, heavy):
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(300):
        made = recalibrate(*machine(rng, n, heavy=heavy))
        old, new = machine(rng, 40, heavy=heavy)
        covered.append((new <= made.bound_ms(old, 0.95)).mean())
    assert 0.935 <= np.mean(covered) <= 0.985


def test_below_nineteen_samples_it_says_that_it_assumes_a_shape():
    rng = np.random.default_rng(0)
    assert [recalibrate(*machine(rng, n)).assumes_normal(0.95) for n in (18, 19)] == [True, False]
    assert recalibrate(*machine(rng, 19)).assumes_normal(0.99)


@settings(deadline=None)
@given(st.integers(5, 60), st.integers(0, 1000), st.floats(0.5, 0.99))
def test_bound_and_probability_agree(n, seed, q):
    made = recalibrate(*machine(np.random.default_rng(seed), n))
    if made.assumes_normal(0.95) != made.assumes_normal(q):
        return
    bound = made.bound_ms([5.0, 50.0], q)
    assert (bound > 0).all()
    for old, limit in zip((5.0, 50.0), bound, strict=True):
        assert made.probability_within(old, limit * (1 + 1e-9)) >= q - 1e-6


@settings(deadline=None)
@given(st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(unit):
    old, new = machine(np.random.default_rng(1), 30)
    one, other = recalibrate(old, new), recalibrate(old, new * unit)
    assert other.bound_ms(7.0) == pytest.approx(one.bound_ms(7.0) * unit, rel=1e-9)


def test_far_from_the_samples_it_is_wider_and_said_to_be_outside():
    old = np.linspace(10, 20, 30)
    made = recalibrate(old, old * np.exp(np.random.default_rng(0).normal(0, 0.05, 30)))
    near, far = (made.bound_ms(x) / made.median_ms(x) for x in (15.0, 500.0))
    assert far > near
    assert list(made.outside([9.0, 15.0, 24.0, 26.0, 5.0])) == [False, False, False, True, True]


def test_it_survives_its_own_json():
    made = recalibrate(*machine(np.random.default_rng(0), 25))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Recalibration) == made


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ([1.0] * 4, [1.0] * 4, "4 samples are too few"),
        ([1.0] * 5, [1.0] * 6, "each needs one"),
        ([1.0] * 5, [1.0] * 4 + [0.0], "above 0"),
        ([1.0] * 4 + [float("nan")], [1.0] * 5, "above 0"),
    ],
)
def test_bad_input_is_one_line(old, new, words):
    with pytest.raises(LaptimeError, match=words):
        recalibrate(old, new)


def test_residuals_are_those_of_samples_left_out():
    """With one size a sample's prediction without it is the mean of the others; a new row's is the mean of all."""
    logs = np.random.default_rng(0).normal(2.0, 0.3, 25)
    made = recalibrate(np.full(25, 7.0), np.exp(logs))
    without = [logs[i] - np.delete(logs, i).mean() for i in range(25)]
    largest = max(without) / np.sqrt(1 + 1 / 24) * np.sqrt(1 + 1 / 25)
    assert np.log(made.bound_ms(7.0, 25 / 26)) == pytest.approx(logs.mean() + largest)


def test_samples_of_one_size_shift_only():
    made = recalibrate([4.0] * 6, [8.0, 8.1, 7.9, 8.0, 8.2, 7.8])
    assert made.slope == 1.0
    assert made.median_ms(8.0) == pytest.approx(16.0, rel=0.01)
