"""Further questions: answered in batches as each would be alone, kept as a folder, joined to what was timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from laptime.control.bounds.calibrated_bounds import make_bounds
from laptime.control.choices import ChoiceSpace
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.control.tables.answers import joined, joined_features, read_answers, write_answers
from laptime.control.tables.collection import AskSettings, collect_answers, collect_features, equal_batches
from laptime.errors import LaptimeError
from laptime.workload.example import Example
from laptime.workload.scoring import score
from tests.control.adaptive import SPACE, TOKENS, adaptive, fixed
from tests.control.worlds import FACTS, WorldEstimator, world

TEXTS = ("what is it?", "how many are there in all?", "which?", "what is it?", "what is it?")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Five questions of three lengths, each about a picture of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    adapted = []
    for number, text in enumerate(TEXTS):
        pixels = np.random.default_rng(number).integers(0, 256, (56, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        adapted.append(Example(f"kind-{number}", text, folder / f"{number}.png", ("a",), f"line {number}"))
    return adapted


def test_a_batch_answers_as_each_question_would_alone(examples: list[Example]) -> None:
    """Scored by what one of them says, so that some are right and some are not."""
    policy = fixed(0, hidden=False)
    adapted = adaptive(policy)
    said = {}
    for number in range(len(SPACE)):
        adapted.policy = fixed(number, hidden=False)
        for row, example in enumerate(examples):
            said[row, number] = adapted.generate(example, budget_ms=60_000)
    asked = [replace(example, answers=(said[row, 2].text,)) for row, example in enumerate(examples)]
    table, features = collect_answers(
        adapted.loaded, asked, SPACE, AskSettings(kind="exact", new_tokens=TOKENS, batch=2)
    )
    assert table.sample_ids == tuple(example.id for example in asked)
    assert table.question_types == ("kind",) * len(asked)
    for (row, number), answer in said.items():
        assert table.score[row, number] == score("exact", answer.text, asked[row])
        assert table.output_tokens[row, number] == answer.sample.output_tokens
        assert table.prompt_tokens[row, number] == answer.sample.prompt_tokens
        assert table.image_tokens[row, number] == answer.sample.image_tokens
        assert table.crops[row, number] == answer.sample.crops
    assert (table.score[:, 2] == 1).all()
    assert np.isnan(table.total_ms).all()
    alone = collect_features(adapted.loaded, asked, SPACE)
    np.testing.assert_allclose(features.hidden, alone.hidden, atol=1e-5)
    np.testing.assert_array_equal(features.language, alone.language)
    np.testing.assert_array_equal(features.pixels, alone.pixels)


def test_a_question_that_can_not_be_asked_is_refused_before_the_first_one_is(examples: list[Example]) -> None:
    adapted = adaptive(fixed(0, hidden=False))
    last = replace(examples[-1], question=f"what is {adapted.loaded.processor.image_token}?")
    settings = AskSettings(kind="exact", new_tokens=TOKENS, batch=1)
    done: list[int] = []
    for collect in (
        lambda asked: collect_answers(adapted.loaded, asked, SPACE, settings, lambda now, of: done.append(now)),
        lambda asked: collect_features(adapted.loaded, asked, SPACE, progress=lambda now, of: done.append(now)),
    ):
        with pytest.raises(LaptimeError, match=r"^line 4: the question holds '<image>'"):
            collect([*examples[:-1], last])
    assert not done


def test_every_question_comes_once_and_only_equal_shapes_together(examples: list[Example]) -> None:
    adapted = adaptive(fixed(0, hidden=False))
    batches = list(equal_batches(adapted.loaded, examples, None, 2))
    assert sorted(row for some in batches for row in some.rows) == list(range(len(examples)))
    assert sorted(len(some.rows) for some in batches) == [1, 1, 1, 2]
    for some in batches:
        assert len({TEXTS[row] for row in some.rows}) == 1
        assert some.kwargs["input_ids"].shape[0] == len(some.rows)


WORLD = world(120)
IDS = tuple(f"further-{name}" for name in WORLD.train.sample_ids)
FURTHER = msgspec.structs.replace(
    WORLD.train, sample_ids=IDS, total_ms=np.full_like(WORLD.train.total_ms, np.nan), model=FACTS
)
FEATURES = WORLD.features.of(WORLD.train.sample_ids, WORLD.train.space)


def test_answers_come_back_from_their_folder(tmp_path: Path) -> None:
    write_answers(WORLD.train, tmp_path)
    answers_read = read_answers(tmp_path)
    assert answers_read.sample_ids == WORLD.train.sample_ids
    assert answers_read.question_types == WORLD.train.question_types
    assert (answers_read.space, answers_read.model, answers_read.most_tokens) == (
        WORLD.train.space,
        WORLD.train.model,
        answers_read.most_tokens,
    )
    for name in ("score", "output_tokens", "prompt_tokens", "image_tokens", "crops"):
        np.testing.assert_array_equal(getattr(answers_read, name), getattr(WORLD.train, name))
    assert np.isnan(answers_read.total_ms).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": WORLD.train.score + 1}, "scores outside 0 to 1"),
        ({"most_tokens": 1}, "longer than the limit"),
        ({"output_tokens": WORLD.train.output_tokens * 0}, "answers of no tokens"),
        ({"sample_ids": ("same",) * len(WORLD.train)}, "of their own"),
        ({"question_types": ()}, "of their own"),
    ],
)
def test_answers_that_can_not_be_are_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write_answers(msgspec.structs.replace(WORLD.train, **change), tmp_path)
    with pytest.raises(LaptimeError, match=said):
        read_answers(tmp_path)


def test_further_answers_tell_what_is_right_and_not_how_long_it_takes() -> None:
    """Bounds calibrated on as many questions as were timed; peers' means of times are those of the timed."""
    turned = msgspec.structs.replace(FURTHER, score=1 - FURTHER.score)
    table = joined(WORLD.train, turned)
    n = len(WORLD.train)
    assert len(table) == 2 * n
    features = joined_features(FEATURES, msgspec.structs.replace(FEATURES, sample_ids=IDS))
    bounds = make_bounds(WorldEstimator(0.03), table, features.language)
    assert bounds.lengths.questions == n
    np.testing.assert_allclose(static_policy(table, bounds).accuracy, 0.5)
    np.testing.assert_allclose(lookup_policy(table).mean_ms, lookup_policy(WORLD.train).mean_ms)
    with pytest.raises(LaptimeError, match="none of these questions was timed"):
        make_bounds(WorldEstimator(0.03), FURTHER, FEATURES.language)


def test_of_further_choices_those_of_the_sweep_are_taken() -> None:
    """A sweep of fewer choices learns from answers under more."""
    space = WORLD.train.space
    fewer = ChoiceSpace(tiers=(space.tiers[0], space.tiers[2]), top_ks=space.top_ks[1:], blocks=space.blocks[:2])
    numbers = [space.number(fewer.choice(number)) for number in range(len(fewer))]
    arrays = {
        name: getattr(WORLD.train, name)[:, numbers]
        for name in ("score", "output_tokens", "total_ms", "prompt_tokens", "image_tokens", "crops")
    }
    timed = msgspec.structs.replace(WORLD.train, space=fewer, **arrays)
    table = joined(timed, FURTHER)
    np.testing.assert_array_equal(table.score[len(timed) :], WORLD.train.score[:, numbers])
    own = msgspec.structs.replace(FEATURES, tiers=fewer.tiers, hidden=FEATURES.hidden[:, [0, 2]])
    features = joined_features(own, msgspec.structs.replace(FEATURES, sample_ids=IDS))
    np.testing.assert_array_equal(features.hidden[len(own) :], FEATURES.hidden[:, [0, 2]])
    with pytest.raises(LaptimeError, match="lack a choice of the sweep's"):
        joined(WORLD.train, msgspec.structs.replace(timed, sample_ids=IDS))
    with pytest.raises(LaptimeError, match="lack tier medium"):
        joined_features(FEATURES, msgspec.structs.replace(own, sample_ids=IDS))


def test_what_does_not_belong_together_is_not_joined() -> None:
    with pytest.raises(LaptimeError, match="ids of their own"):
        joined(WORLD.train, WORLD.train)
    with pytest.raises(LaptimeError, match="another model's"):
        joined(WORLD.train, msgspec.structs.replace(FURTHER, model=msgspec.structs.replace(FACTS, blocks=12)))
    other = msgspec.structs.replace(FEATURES, sample_ids=IDS, early_block=3)
    with pytest.raises(LaptimeError, match="after block 2 and after block 3"):
        joined_features(FEATURES, other)
    narrow = msgspec.structs.replace(FEATURES, sample_ids=IDS, pixels=FEATURES.pixels[:, :3])
    with pytest.raises(LaptimeError, match="pixels features are of another width"):
        joined_features(FEATURES, narrow)
