"""A jump that happened once is told from a habit, and from what isn't over yet."""

from __future__ import annotations

import numpy as np
import pytest

from laptime.estimate.jumps import single_jump

USUAL = np.random.default_rng(0).normal(0.0, 0.1, 400)


def stream(*parts: tuple[int, float, float]):
    """Errors and forecasts, part after part: how many requests, how far off, and the forecast that they had."""
    rng = np.random.default_rng(1)
    errors = np.concatenate([off + rng.normal(0.0, 0.1, count) for count, off, _ in parts])
    return errors, np.concatenate([np.full(count, forecast) for count, _, forecast in parts])


def test_the_requests_that_one_jump_took_by_surprise_are_told():
    late = single_jump(*stream((200, 0.0, 0.0), (20, 0.7, 0.0), (60, 0.0, 0.7)), USUAL, 60)
    assert late[200:220].all()
    assert late.sum() <= 22


def test_what_is_left_of_a_jump_counts_as_little_when_what_came_before_it_is_forgotten():
    errors, forecasts = stream((12, 0.7, 0.7), (100, 0.0, 0.7))
    assert single_jump(errors, forecasts, USUAL, 60, forgotten=True).sum() >= 10
    assert not single_jump(errors, forecasts, USUAL, 60).any()  # a stream that began so


@pytest.mark.parametrize(
    "parts",
    [
        [(300, 0.0, 0.0)],
        [(100, 0.0, 0.0), (20, 0.7, 0.0), (60, 0.0, 0.7), (20, 0.7, 0.7), (60, 0.0, 1.4)],  # a habit
        [(100, 0.0, 0.0), (20, 0.7, 0.0), (60, 0.0, 0.7), (20, -0.7, 0.7), (60, 0.0, 0.0)],  # to and fro
        [(200, 0.0, 0.0), (20, 0.7, 0.0), (10, 0.0, 0.7)],  # nobody knows yet whether forecasts follow
        [(200, 0.0, 0.0), (20, 0.7, 0.0), (60, 0.0, 0.0)],  # a while alone: no other speed came
        [(100, 0.0, 0.0), (90, 0.3, 0.2), (60, 0.0, 0.7)],  # a ramp: longer than a jump takes
    ],
)
def test_nothing_else_is_taken_for_one(parts):
    assert not single_jump(*stream(*parts), USUAL, 60).any()
