"""What policies look at: the same on every machine, bounded, and only ratios of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from laptime.control.choices import ChoiceSpace
from laptime.control.tables.feature_table import FeatureArrays, feature_table, read_features, write_features
from laptime.control.tables.features import (
    LANGUAGE,
    PIXELS,
    budget_features,
    budget_size,
    language_features,
    pixel_features,
)
from laptime.errors import LaptimeError
from tests.control.worlds import FACTS, SPACE, world_features

IDS = tuple(f"mixed-{number:05d}" for number in range(12))


@given(st.text())
def test_words_become_a_direction(text: str) -> None:
    values = language_features(text)
    assert values.shape == (LANGUAGE,)
    assert values.dtype == np.float32
    assert np.isclose(np.linalg.norm(values), 1, atol=1e-5) or not values.any()


def test_words_are_what_they_were_when_policies_were_trained() -> None:
    values = language_features("How many red circles?")
    assert np.flatnonzero(values).tolist() == [15, 28, 36, 37, 46, 54, 61]
    assert np.flatnonzero(values < 0).tolist() == [15, 28, 46]
    assert (values == language_features("how many RED circles!")).all()
    assert (values != language_features("circles red many how")).any()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_an_image_of_one_colour_is_that_colour_everywhere(height: int, width: int, grey: int) -> None:
    values = pixel_features(np.full((height, width, 3), grey, dtype=np.uint8))
    assert values.shape == (PIXELS,)
    assert np.allclose(values, grey / 127.5 - 1, atol=1e-6)


def test_a_picture_and_its_array_are_alike_and_places_are_kept() -> None:
    image = np.zeros((160, 240, 3), dtype=np.uint8)
    image[:80, :, 0] = 255
    values = pixel_features(image)
    assert (values == pixel_features(Image.fromarray(image))).all()
    by_place = values.reshape(8, 8, 3)
    assert (by_place[:4, :, 0] == 1).all()
    assert (by_place[4:, :, 0] == -1).all()
    assert (by_place[:, :, 1:] == -1).all()


@pytest.mark.parametrize("wrong", [np.zeros((3, 3, 4), np.uint8), np.zeros((3, 3, 3)), np.zeros((0, 3, 3), np.uint8)])
def test_what_is_no_image_is_refused(wrong: object) -> None:
    with pytest.raises(LaptimeError, match="give a PIL image"):
        pixel_features(wrong)


BOUNDS = arrays.arrays(np.float64, len(SPACE), elements=st.floats(1.0, 1e4))


@given(BOUNDS, st.floats(1.0, 1e5), st.floats(0.1, 10))
def test_a_machine_twice_as_slow_at_twice_the_budget_looks_the_same(
    bounds: np.ndarray, budget: float, times: float
) -> None:
    values = budget_features(budget, bounds, SPACE)
    assert values.shape == (budget_size(SPACE),)
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 2
    exact = np.float64(2.0) ** np.round(np.log2(times))  # powers of two, so that nothing is rounded
    assert np.allclose(values, budget_features(budget * exact, bounds * exact, SPACE))


@given(BOUNDS, st.floats(1.0, 1e5), st.floats(1.0, 3.0))
def test_more_room_is_never_less_of_any_feature(bounds: np.ndarray, budget: float, more: float) -> None:
    assert (budget_features(budget * more, bounds, SPACE) >= budget_features(budget, bounds, SPACE)).all()


@given(arrays.arrays(np.float64, (3, len(SPACE)), elements=st.floats(1.0, 1e4)), st.floats(1.0, 1e5))
def test_many_budgets_at_once_are_each_alone(bounds: np.ndarray, budget: float) -> None:
    together = budget_features(np.full(3, budget), bounds, SPACE)
    assert np.array_equal(together, np.array([budget_features(budget, one, SPACE) for one in bounds]))


def test_without_a_promise_there_is_no_room() -> None:
    values = budget_features(50.0, np.full(len(SPACE), np.inf), SPACE)
    assert np.isfinite(values).all()
    assert values[0] == -1
    assert (values[-SPACE.first :] == 0).all()


def test_a_table_of_features_comes_back_as_it_was(tmp_path: Path) -> None:
    table = world_features(IDS)
    write_features(table, tmp_path)
    again = read_features(tmp_path)
    for name in ("language", "pixels", "hidden"):
        assert np.array_equal(getattr(again, name), getattr(table, name))
    assert (again.sample_ids, again.model, again.tiers, again.early_block) == (IDS, FACTS, SPACE.tiers, 2)
    some = again.of((IDS[5], IDS[2]), SPACE)
    assert np.array_equal(some.hidden, table.hidden[[5, 2]])
    assert some.seen(0).hidden is None
    after = some.seen(1, 2)
    assert after.tier == 2
    assert after.hidden is not None
    assert np.array_equal(after.hidden, table.hidden[2, 2])


def test_features_of_other_questions_or_tiers_are_one_line() -> None:
    table = world_features(IDS)
    with pytest.raises(LaptimeError, match="no features of question other-1 \\(1 of 1"):
        table.of(("other-1",), SPACE)
    with pytest.raises(LaptimeError, match="collected for tiers low, medium, high, the choices have low"):
        table.of(IDS, ChoiceSpace(tiers=SPACE.tiers[:1]))
    with pytest.raises(LaptimeError, match="belong together"):
        feature_table(IDS, FACTS, SPACE, FeatureArrays(table.language[:3]))
    with pytest.raises(LaptimeError, match="no number"):
        feature_table(IDS, FACTS, SPACE, FeatureArrays(np.full((len(IDS), LANGUAGE), np.nan, np.float32)))
