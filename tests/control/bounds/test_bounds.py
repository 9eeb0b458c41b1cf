"""Bounds: the promise is kept, longer answers never take less, and an estimator of something else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.control.bounds.bounds import Bounds, read_paired_bounds, write_bounds
from laptime.control.bounds.calibrated_bounds import make_bounds
from laptime.control.bounds.lengths import fit_lengths
from laptime.control.choices import ChoiceSpace
from laptime.control.judge.lineup import NOMINAL, analytic_ms, nominal_rates, relative_ms
from laptime.control.seen import NO_ROOM, Room
from laptime.control.tables.decision_table import decision_table
from laptime.control.tables.features import LANGUAGE, language_features
from laptime.errors import LaptimeError
from laptime.estimate.estimator import Estimator
from tests.control.worlds import (
    FACTS,
    SPACE,
    TOKENS,
    WORDS,
    WorldEstimator,
    time_ms,
    world,
    world_features,
    world_frame,
)

WORLD = world(320)
LANGUAGES = WORLD.features.of(WORLD.train.sample_ids, SPACE).language
CONFIG = {
    "text_config": {
        "hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 4, "vocab_size": 100, "num_experts": 16,
        "intermediate_size": 32, "num_experts_per_tok": 8,
    },
    "vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "image_size": 84},
}  # fmt: skip


def random_words(seed: int) -> np.ndarray:
    result = np.random.default_rng(seed).normal(size=LANGUAGE).astype(np.float32)
    return result / np.linalg.norm(result)


def bound_at(level: float, words: np.ndarray) -> np.ndarray:
    """(choices,): the bounds of a question if this were the level."""
    data = WORLD.bounds
    return data.first_above(data.share_within(data.lengths.mass(words)[data.lengths.group]), level)


@given(st.integers(0, 10_000), st.floats(0.1, 0.98), st.floats(0.1, 0.98))
def test_a_surer_bound_is_never_lower(seed: int, one: float, other: float) -> None:
    words = random_words(seed)
    low, high = sorted((one, other))
    assert (bound_at(low, words) <= bound_at(high, words)).all()


@given(st.integers(0, 10_000))
def test_a_bound_lies_between_those_of_the_shortest_and_the_longest_answer(seed: int) -> None:
    """The mixture of two answers' times is quicker than the longer one alone, and slower than the shorter one."""
    bounds, words = WORLD.bounds, random_words(seed)
    counts = bounds.lengths.counts
    ends = [
        bounds.first_above(bounds.share_within(np.tile(np.eye(len(counts), dtype=np.float32)[k], (len(SPACE), 1))), 0.9)
        for k in (0, -1)
    ]
    result = bound_at(0.9, words)
    assert (ends[0] <= result).all()
    assert (result <= ends[1]).all()


def test_lengths_are_probabilities_that_follow_the_words() -> None:
    lengths = WORLD.bounds.lengths
    mass = {kind: lengths.mass(language_features(words)) for kind, words in WORDS.items()}
    for one in mass.values():
        assert one.shape == (len(lengths.bias), len(lengths.counts))
        np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)
    usual = {kind: int(lengths.counts[one[0].argmax()]) for kind, one in mass.items()}
    assert usual == TOKENS


def test_what_is_said_of_a_question_is_by_models_that_have_not_seen_it() -> None:
    """Nothing is to be learned from noise: the probabilities are those of a coin, not of the question's own answer."""
    rng = np.random.default_rng(3)
    language = rng.normal(size=(60, LANGUAGE)).astype(np.float32)
    counts = rng.integers(2, 4, (60, 1)).astype(np.int32)
    _, held_out = fit_lengths(language, counts, 4, ChoiceSpace(blocks=(2,)))
    own = np.take_along_axis(held_out[:, 0], counts - 2, axis=1)
    assert held_out.shape == (60, 1, 2)
    assert own.mean() < 0.6


def test_choices_whose_answers_are_longer_have_lengths_of_their_own() -> None:
    """Half a model babbles where the whole one says a word; where it doesn't matter one regression serves all."""
    rng = np.random.default_rng(2)
    kinds = rng.integers(0, 2, 120)
    language = np.array([language_features(("What colour is it?", "Read it out")[kind]) for kind in kinds])
    space = ChoiceSpace(top_ks=(1, 2), blocks=(2, 8))
    whole = np.where(kinds == 0, 2, 6)[:, None]
    babble = np.where(kinds == 0, rng.integers(5, 9, 120), 6)[:, None]
    counts = np.concatenate([babble, whole, babble, whole], axis=1).astype(np.int32)
    model, _ = fit_lengths(language, counts, 9, space)
    assert model.group.tolist() == [0, 1, 0, 1]
    usual = model.counts[model.mass(language[kinds == 0][0]).argmax(axis=1)]
    assert usual[0] > 4
    assert usual[1] == 2
    alike, _ = fit_lengths(language, np.tile(whole, 4).astype(np.int32), 9, space)
    assert alike.group.tolist() == [0, 0, 0, 0]


def test_bounds_never_fall_with_the_number_of_tokens_nor_below_the_median() -> None:
    bounds = WORLD.bounds
    for times in (bounds.known_ms, bounds.median_ms):
        assert (np.diff(times, axis=0) >= 0).all()
    assert (bounds.known_ms >= bounds.median_ms).all()
    assert (np.diff(bounds.within, axis=2) >= 0).all()
    assert (np.diff(bounds.within, axis=1) <= 0).all()


def test_rows_and_columns_are_those_of_answers_and_choices() -> None:
    bounds = WORLD.bounds
    image = {tier.name: int(WORLD.train.image_tokens[0, i * SPACE.late]) for i, tier in enumerate(SPACE.tiers)}
    for number in range(len(SPACE)):
        choice = SPACE.choice(number)
        assert choice.tier is not None
        for tokens in (1, 5):
            wanted = time_ms(image[choice.tier.name], tokens, choice.top_k, choice.blocks)
            assert np.isclose(bounds.median_ms[tokens - 1, number], wanted, rtol=1e-5)


def test_the_whole_promise_is_kept_on_held_out_questions() -> None:
    language = WORLD.features.of(WORLD.held_out.sample_ids, SPACE).language
    bound, median = WORLD.bounds.for_questions(language)
    kept = (WORLD.held_out.total_ms <= bound).mean()
    assert kept >= 0.95
    assert 0.3 < (WORLD.held_out.total_ms <= median).mean() < 0.95
    known = WORLD.bounds.at_tokens(WORLD.held_out.output_tokens)
    assert 0.93 < (WORLD.held_out.total_ms <= known).mean() < 0.97


@given(st.integers(0, len(LANGUAGES) - 1), st.floats(1.0, 9.0), st.floats(1.0, 3.0))
def test_room_never_asks_for_more_time_than_a_choice_by_itself(row: int, times: float, stretch: float) -> None:
    """Stretched to a budget far above the one that was tried, a choice's own bound is the lower one."""
    share = WORLD.bounds.share_of(LANGUAGES[row])
    plain, loose = WORLD.bounds.bound_of(share), WORLD.bounds.bound_of(share, Room(times, 1.0))
    both = WORLD.bounds.bound_of(share, Room(times, stretch))
    assert (loose <= plain).all()
    assert (both <= plain).all()
    assert np.allclose(both, np.minimum(plain, loose * stretch))
    assert (WORLD.bounds.bound_of(share, NO_ROOM) == plain).all()


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_the_promise_is_kept_and_not_by_far(noise: float) -> None:
    """Of many worlds, quiet and loud: the bound holds for about 95 % and is not that of the longest answer."""
    kept = []
    for seed in range(6):
        data = world(160, seed=seed, noise=noise)
        bound, _ = data.bounds.for_questions(data.features.of(data.held_out.sample_ids, SPACE).language)
        kept.append((data.held_out.total_ms <= bound).mean())
        assert bound.mean() < data.bounds.at_tokens(np.full((1, len(SPACE)), 8, np.int32)).mean()
    assert 0.94 <= np.mean(kept) <= 0.99


def test_an_estimator_that_is_too_sure_of_itself_is_corrected_by_the_questions_own_times() -> None:
    for seed in range(3):
        data = world(320, seed=seed, noise=0.3)
        sure = make_bounds(WorldEstimator(0.22), data.train, data.features.of(data.train.sample_ids, SPACE).language)
        bound, _ = sure.for_questions(data.features.of(data.held_out.sample_ids, SPACE).language)
        assert np.median(sure.level) > 0.975
        assert (data.held_out.total_ms <= bound).mean() >= 0.95


def test_each_choice_is_calibrated_by_itself() -> None:
    """One that takes longer than the estimator believes: a tight budget would leave just that one."""
    data = world(400, seed=1)
    train, held_out = ((half, half.total_ms.copy()) for half in (data.train, data.held_out))
    for _, total_ms in (train, held_out):
        total_ms[:, 1] *= 1.06
    table = msgspec.structs.replace(data.train, total_ms=train[1])
    bounds = make_bounds(WorldEstimator(0.03), table, data.features.of(data.train.sample_ids, SPACE).language)
    bound, _ = bounds.for_questions(data.features.of(data.held_out.sample_ids, SPACE).language)
    kept = (held_out[1] <= bound).mean(axis=0)
    assert kept[1] >= 0.92
    assert bounds.level[1] > np.delete(bounds.level, 1).max()


def test_with_few_questions_the_longest_answers_bound_is_promised() -> None:
    half = WORLD.train
    total_ms = half.total_ms.copy()
    total_ms[18:] = np.nan  # 19 are needed for 95 %
    table = msgspec.structs.replace(half, total_ms=total_ms)
    bounds = make_bounds(WorldEstimator(0.03), table, LANGUAGES)
    assert bounds.lengths.questions == 18
    assert (bounds.level == 1.0).all()
    assert (bounds.for_question(LANGUAGES[0])[0] == bounds.known_ms[-1]).all()
    assert np.isfinite(bounds.known_ms[-1]).all()


def test_the_correction_scales_what_is_promised() -> None:
    language = language_features(WORDS["read"])
    plain = WORLD.bounds.budget(20, language)
    slower = WORLD.bounds.budget(20, language, 1.5, 1.4)
    assert np.allclose(slower.bound_ms, plain.bound_ms * 1.5)
    assert np.allclose(slower.median_ms, plain.median_ms * 1.4)
    assert (plain.factor, slower.factor) == (1.0, 1.5)
    assert not WORLD.bounds.budget(20, language, float("inf")).fits.any()


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan"), float("inf"), "40", None, True])
def test_a_budget_that_is_none_is_one_line(wrong: object) -> None:
    with pytest.raises(LaptimeError, match="a number above 0, in milliseconds"):
        WORLD.bounds.budget(wrong, LANGUAGES[0])  # type: ignore[arg-type]


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    write_bounds(WORLD.bounds, tmp_path)
    again = read_paired_bounds(tmp_path)[0]
    for words in WORDS.values():
        language = language_features(words)
        for one, other in zip(again.for_question(language), WORLD.bounds.for_question(language), strict=True):
            assert np.array_equal(one, other)
    assert np.array_equal(again.at_tokens(WORLD.train.output_tokens), WORLD.bounds.at_tokens(WORLD.train.output_tokens))
    assert (again.space, again.model, again.confidence) == (SPACE, FACTS, 0.95)


@pytest.mark.parametrize(
    ("name", "place", "value", "line"),
    [
        ("within", (0, 0, -1), 2.0, "shares outside 0 to 1"),
        ("within", (0, 0, 5), 0.9, "or that fall with time"),
        ("level", 3, 7.0, "shares outside 0 to 1"),
        ("level", 3, 0.5, "shares outside 0 to 1"),
        ("grid_ms", (0, 5), 1e9, "times not above 0"),
        ("known_ms", (0, 0), 1e9, "fall with longer answers"),
        ("known_ms", (0, 0), float("nan"), "no number"),
        ("group", 0, -1, "groups that don't exist"),
        ("group", 0, 99, "groups that don't exist"),
        ("counts", slice(0, 2), 5, "out of order"),
    ],
)
def test_damaged_bounds_are_one_line(tmp_path: Path, name: str, place: Any, value: float, line: str) -> None:
    part: Any = WORLD.bounds if hasattr(WORLD.bounds, name) else WORLD.bounds.lengths
    array = getattr(part, name).copy()
    array[place] = value
    changed = msgspec.structs.replace(part, **{name: array})
    bounds = changed if part is WORLD.bounds else msgspec.structs.replace(WORLD.bounds, lengths=changed)
    write_bounds(bounds, tmp_path)
    with pytest.raises(LaptimeError, match=line):
        read_paired_bounds(tmp_path)[0]


def test_what_nothing_is_promised_of_comes_back(tmp_path: Path) -> None:
    never = WORLD.bounds.known_ms * np.inf
    write_bounds(msgspec.structs.replace(WORLD.bounds, known_ms=never), tmp_path)
    assert np.isinf(read_paired_bounds(tmp_path)[0].known_ms).all()


def test_an_estimator_of_another_machine_is_refused() -> None:
    with pytest.raises(LaptimeError, match=r"measured totals are 0\.2"):
        make_bounds(WorldEstimator(scale=5.0), WORLD.train, LANGUAGES)


def test_an_estimator_of_another_target_or_with_other_columns_is_refused() -> None:
    other = WorldEstimator()
    other.target = "prefill_ms"
    with pytest.raises(LaptimeError, match="predicts prefill_ms"):
        make_bounds(other, WORLD.train, LANGUAGES)
    needy = WorldEstimator()
    needy.features = [*needy.features, "config.dtype"]
    with pytest.raises(LaptimeError, match=r"needs config\.dtype"):
        make_bounds(needy, WORLD.train, LANGUAGES)
    short = WorldEstimator()
    short.features = [name for name in short.features if name != "output_tokens"]
    with pytest.raises(LaptimeError, match="how many tokens"):
        make_bounds(short, WORLD.train, LANGUAGES)


def fitted(frame: pl.DataFrame) -> Estimator:
    return Estimator(
        target="total_ms", features=["image_tokens", "output_tokens", "config.top_k", "config.blocks"]
    ).fit(frame, threads=1)


def test_a_real_estimator_gives_bounds_that_hold_and_refuses_a_deeper_model() -> None:
    frame = world_frame(60, seed=3)
    estimator = fitted(frame)
    table = decision_table(frame, FACTS)
    bounds = make_bounds(estimator, table, world_features(table.sample_ids).language)
    assert (table.total_ms <= bounds.at_tokens(table.output_tokens)).mean() > 0.93
    deeper = frame.with_columns(pl.col("config.blocks") * 4)
    with pytest.raises(LaptimeError, match="another model: it knows blocks from 4 to 8, the choices go from 16 to 32"):
        make_bounds(estimator, decision_table(deeper), LANGUAGES[:1].repeat(60, axis=0))


def test_answers_shorter_than_any_that_was_seen_take_no_longer_than_the_shortest() -> None:
    """An estimator promises nothing of a length below its table; the promise of a longer answer stands all the same."""
    frame = world_frame(60, seed=4).with_columns(pl.col("output_tokens") + 1)
    estimator, table = fitted(frame), decision_table(frame, FACTS)
    bounds = make_bounds(estimator, table, world_features(table.sample_ids).language)
    shortest = int(table.output_tokens.min())
    assert shortest == 3
    assert np.isfinite(bounds.known_ms[: table.output_tokens.max()]).all()
    assert (bounds.known_ms[: shortest - 1] == bounds.known_ms[shortest - 1]).all()


def test_arithmetic_knows_more_work_but_not_the_time() -> None:
    table = WORLD.train
    result = analytic_ms(table, CONFIG, NOMINAL["H200"])
    grid = result.reshape(3, 2, 3)
    assert (result > 0).all()
    assert (np.diff(grid, axis=0) > 0).all()
    assert (np.diff(grid, axis=2) > 0).all()
    assert result.max() < table.total_ms.min()  # no launches, no decode: far below what it takes
    blind = analytic_ms(table, {"text_config": CONFIG["text_config"]}, NOMINAL["H200"])
    assert (result > blind).all()
    scaled = relative_ms(result, 40.0)
    assert scaled.max() == 40.0
    assert np.allclose(scaled / scaled.min(), result / result.min())
    assert nominal_rates("NVIDIA H200") == NOMINAL["H200"]
    with pytest.raises(LaptimeError, match="no nominal rates of 'GTX'"):
        nominal_rates("GTX")


def test_bounds_of_few_questions_are_one_line() -> None:
    with pytest.raises(
        LaptimeError, match=r"too few to learn how long answers are: 20 or more .*workload.samples.*control ask"
    ):
        fit_lengths(LANGUAGES[:5], WORLD.train.output_tokens[:5], 8, SPACE)
    assert isinstance(WORLD.bounds, Bounds)
