"""Beam search: it finds the best setting that its width allows, stays within the levels, and counts what it asks."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.control.search.beam import Beam, Scores, Setting, beam_search
from laptime.errors import LaptimeError


def worth(weights: list[float]) -> Scores:
    def right(setting: Setting) -> float:
        return sum(level * weight for level, weight in zip(setting, weights, strict=True))

    return Scores(close=right, right=right)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9).map(float), min_size=3, max_size=6), st.integers(1, 3))
def test_with_additive_worth_even_the_narrowest_beam_finds_the_best(weights: list[float], most: int) -> None:
    count = len(weights)
    lowest, highest = (1, *([0] * (count - 1))), (most,) * count
    totals = range(sum(lowest), sum(highest) + 1)
    found = beam_search(lowest, highest, totals, worth(weights), Beam(width=1, tries=1))
    everything = [(1 + first, *rest) for first in range(most) for rest in product(range(most + 1), repeat=count - 1)]
    for total in totals:
        best = max(worth(weights).right(one) for one in everything if sum(one) == total)
        assert sum(found[total].setting) == total
        assert found[total].right == best


def test_a_wider_beam_finds_a_pair_that_one_step_at_a_time_misses() -> None:
    """Without 1 nothing is lost; but only without 2 and 3 together is everything right."""

    def right(setting: Setting) -> float:
        return {(1, 0, 1, 1): 0.9, (1, 1, 0, 1): 0.8, (1, 1, 0, 0): 1.0, (1, 1, 1, 0): 0.8}.get(setting, 0.1)

    scores = Scores(close=right, right=right)
    narrow = beam_search((1, 0, 0, 0), (1,) * 4, [2], scores, Beam(width=1, tries=3))
    wide = beam_search((1, 0, 0, 0), (1,) * 4, [2], scores, Beam(width=2, tries=3))
    assert narrow[2].right == 0.1
    assert wide[2].setting == (1, 1, 0, 0)


def test_only_the_closest_are_asked_the_questions() -> None:
    asked: list[Setting] = []

    def right(setting: Setting) -> float:
        asked.append(setting)
        return 0.0

    scores = Scores(close=lambda setting: float(setting[4]), right=right)
    beam_search((0,) * 5, (1,) * 5, [4], scores, Beam(width=1, tries=2))
    assert len(asked) == 1 + 2
    assert all(setting[4] == 1 for setting in asked)


def test_bad_input_is_one_line() -> None:
    scores = worth([1.0, 1.0])
    with pytest.raises(LaptimeError, match="a total of 3; the model can take 1 to 2"):
        beam_search((1, 0), (1, 1), [3], scores, Beam())
    with pytest.raises(LaptimeError, match="width 0"):
        Beam(width=0)
