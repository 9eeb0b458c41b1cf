"""The early block is searched: where only a later one sees what matters it is taken, else the earliest."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.early_search import search_early_block
from laptime.errors import LaptimeError
from tests.control.worlds import World, hidden_side, world


@pytest.fixture(scope="module")
def made() -> World:
    return world(160, noise=0.02)


def collected_after(features: FeatureTable, block: int, *, sees: bool) -> FeatureTable:
    """The world's features as if collected after a block: with what matters in its output, or with noise alone."""
    noise = np.random.default_rng(block).normal(size=features.hidden.shape).astype(np.float32)
    hidden = features.hidden if sees else noise
    pixels = np.zeros((len(features), 0), dtype=np.float32)
    return msgspec.structs.replace(features, early_block=block, hidden=hidden, pixels=pixels)


def test_the_earliest_that_sees_what_matters_is_taken(made: World) -> None:
    """Some questions are right with all blocks alone, the others with fewer alone; only hidden states tell which."""
    space, train = made.train.space, made.train
    whole = np.array([space.choice(number).blocks == 8 for number in range(len(space))])
    side = np.array([bool(hidden_side(int(name.rpartition("-")[2]))) for name in train.sample_ids])
    table = msgspec.structs.replace(train, score=(whole[None, :] == side[:, None]).astype(np.float32))
    tables = [collected_after(made.features, block, sees=block == 2) for block in (2, 1)]
    found = search_early_block(table, tables, made.bounds, steps=60)
    assert found.chosen == 2
    first, second = found.scores
    assert (first.early_block, second.early_block, second.p) == (1, 2, None)
    assert first.p is not None
    assert first.p < 0.05
    assert second.score > first.score + 0.1


def test_a_tie_goes_to_the_earliest(made: World) -> None:
    tables = [collected_after(made.features, block, sees=True) for block in (2, 1)]
    found = search_early_block(made.train, tables, made.bounds, steps=20)
    assert found.chosen == 1
    assert found.scores[0].score == found.scores[1].score


def test_what_cannot_be_searched_is_one_line(made: World) -> None:
    one = collected_after(made.features, 1, sees=True)
    least = min(made.train.space.blocks)
    for tables, table, says in (
        ([one, one], made.train, "after the same block"),
        ([collected_after(made.features, least, sees=True)], made.train, "leaves one of the first"),
        ([collected_after(made.features, 0, sees=True)], made.train, "hold no hidden states"),
        ([one], made.train.take(np.arange(5)), "5 training questions"),
    ):
        with pytest.raises(LaptimeError) as raised:
            search_early_block(table, tables, made.bounds)
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
