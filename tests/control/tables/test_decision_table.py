"""A sweep becomes a table of every question under every choice, and nothing is mixed or invented on the way."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.control.choices import ChoiceSpace, Tier
from laptime.control.tables.decision_table import ModelFacts, decision_table, half_of, question_type
from laptime.errors import LaptimeError
from tests.control.worlds import FACTS, SPACE, world_frame

FRAME = world_frame(40)


@given(st.integers(0, 4), st.sets(st.integers(1, 64), max_size=4), st.sets(st.integers(1, 64), max_size=4))
def test_a_choice_is_known_by_its_number_and_a_number_by_its_choice(tiers: int, ks: set[int], blocks: set[int]) -> None:
    space = ChoiceSpace(
        tiers=tuple(Tier(str(i), i + 1, i + 1) for i in range(tiers)),
        top_ks=tuple(sorted(ks)),
        blocks=tuple(sorted(blocks)),
    )
    for number in range(len(space)):
        choice = space.choice(number)
        assert space.number(choice) == number
        assert not space.tiers or space.tiers[number // space.late] == choice.tier


def test_every_cell_is_the_one_that_was_measured() -> None:
    table = decision_table(FRAME, FACTS)
    assert table.space == SPACE
    assert table.model == FACTS
    assert (table.score.shape, table.total_ms.dtype, len(table), table.left_out) == ((40, 18), np.float64, 40, 0)
    for row in FRAME.sample(50, seed=1).iter_rows(named=True):
        choice = next(
            number
            for number in range(len(SPACE))
            if (c := SPACE.choice(number)).tier is not None
            and (c.tier.name, c.top_k, c.blocks) == (row["config.tier"], row["config.top_k"], row["config.blocks"])
        )
        at = table.row(row["sample_id"]), choice
        assert table.total_ms[at] == row["total_ms"]
        assert table.score[at] == row["score"]
        assert table.output_tokens[at] == row["output_tokens"]
        assert table.image_tokens[at] == row["image_tokens"]


def test_repeats_are_one_cell_warm_ups_and_flagged_samples_none() -> None:
    again = FRAME.with_columns(repeat=pl.lit(1, pl.Int64), total_ms=pl.col("total_ms") * 3, score=1 - pl.col("score"))
    warm = FRAME.with_columns(repeat=pl.lit(-1, pl.Int64), total_ms=pl.lit(1e6))
    flagged = FRAME.with_columns(repeat=pl.lit(2, pl.Int64), flags=pl.lit("cold"), total_ms=pl.lit(1e6))
    table = decision_table(pl.concat([FRAME.with_columns(pl.col("repeat").cast(pl.Int64)), again, warm, flagged]))
    one = decision_table(FRAME)
    assert np.allclose(table.score, 0.5)
    assert np.allclose(table.total_ms, one.total_ms * 2)


def test_a_question_that_lacks_a_choice_is_left_out_and_counted() -> None:
    table = decision_table(FRAME[1:])
    assert (len(table), table.left_out) == (39, 1)
    assert FRAME["sample_id"][0] not in table.sample_ids


def test_halves_share_no_question_and_hold_all() -> None:
    table = decision_table(FRAME)
    train, held_out = table.half("train"), table.half("held-out")
    assert not set(train.sample_ids) & set(held_out.sample_ids)
    assert len(train) + len(held_out) == len(table)
    assert half_of("code-000123") == half_of("code-000123")
    for row, name in enumerate(train.sample_ids):
        assert (train.total_ms[row] == table.total_ms[table.row(name)]).all()


@pytest.mark.parametrize(
    ("name", "kind"), [("code-000123", "code"), ("a-b-3", "a-b"), ("000123", "all"), ("-3", "all")]
)
def test_the_type_of_a_question_is_in_its_id(name: str, kind: str) -> None:
    assert question_type(name) == kind


def only_one(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("config.blocks") == 8, pl.col("config.top_k") == 8, pl.col("crops") == 2)


def with_holes(frame: pl.DataFrame) -> pl.DataFrame:
    """Question i lacks choice i modulo 18."""
    return frame.filter(pl.int_range(pl.len()) % 18 != pl.int_range(pl.len()) // 18 % 18)


BAD: list[tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = [
    (lambda f: f.drop("score"), "no column 'score'"),
    (lambda f: f.with_columns(score=pl.lit(None, pl.Float64)), "no sample of this sweep has a score"),
    (lambda f: f.with_columns(flags=pl.lit("cold")), "no clean sample"),
    (only_one, "nothing to choose"),
    (with_holes, "none of 40 questions has all 18"),
    (lambda f: f.with_columns(pl.Series("config.dtype", ["a", "b"] * (len(f) // 2))), "dtype varies in this sweep"),
    (
        lambda f: f.with_columns(pl.Series("config.image_tokens_limit", [64, 256] * (len(f) // 2))),
        r"image_tokens varies in this sweep \(256, 64\), and control doesn't choose it",
    ),
    (lambda f: f.with_columns(pl.lit("x-y").alias("config.crops"), pl.lit("odd").alias("config.tier")), "or a range"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_a_sweep_that_is_no_table_is_one_line(change: Callable[[pl.DataFrame], pl.DataFrame], said: str) -> None:
    with pytest.raises(LaptimeError, match=said) as caught:
        decision_table(change(FRAME))
    assert "\n" not in str(caught.value)


def test_a_sweep_of_more_blocks_than_the_model_has_is_refused() -> None:
    with pytest.raises(LaptimeError, match="ran 8 blocks"):
        decision_table(FRAME, ModelFacts(name="m", blocks=6))


@settings(max_examples=30)
@given(st.permutations(range(len(FRAME))))
def test_the_order_of_rows_says_nothing(order: list[int]) -> None:
    table, other = decision_table(FRAME), decision_table(FRAME[order])
    assert table.sample_ids == other.sample_ids
    assert (table.total_ms == other.total_ms).all()


def test_knobs_that_are_left_alone_are_none_of_the_space() -> None:
    only = FRAME.filter(pl.col("config.tier") == "high").drop("config.tier", "config.crops", "config.top_k")
    only = only.unique(["sample_id", "config.blocks"])
    assert decision_table(only).space == ChoiceSpace(blocks=(4, 6, 8))


def test_facts_that_are_not_known_are_not_compared() -> None:
    facts = ModelFacts(name="/here/model", blocks=8)
    assert facts.differences(ModelFacts(name="there/model", kind="llava", experts=16)) == []
    assert facts.differences(ModelFacts(name="there/other", blocks=6)) == [
        "blocks 8 instead of 6",
        "name model instead of other",
    ]


def test_experts_by_block_go_with_their_top_k() -> None:
    least, most = min(SPACE.top_ks), max(SPACE.top_ks)
    by_block = pl.when(pl.col("config.top_k") == most).then(pl.lit("4,2,4,2")).otherwise(None)
    space = decision_table(FRAME.with_columns(by_block.alias("config.experts"))).space
    assert space.experts_by_block == {most: (4, 2, 4, 2)}
    assert msgspec.structs.replace(space, experts=()) == SPACE
    mixed = pl.when(pl.col("config.blocks") == max(SPACE.blocks)).then(pl.lit("4,2,4,2")).otherwise(None)
    with pytest.raises(LaptimeError, match=f"top-k {least} was measured with different experts by block"):
        decision_table(FRAME.filter(pl.col("config.top_k") == least).with_columns(mixed.alias("config.experts")))
