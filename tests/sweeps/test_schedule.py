"""The grid and the order in which it is measured."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.data.record import TIERS
from laptime.errors import LaptimeError
from laptime.sweeps.config import KnobGrid, Measure, SweepConfig
from laptime.sweeps.executors.torchrun import part_of
from laptime.sweeps.grid import combinations, configurations, settings_of
from laptime.sweeps.schedule import remaining, visits
from tests.sweeps.plans import FACTS, plan_of, sweep_config_of

GRID = "model: m\nknobs: {top_k: [1, 2, 4], blocks: [4, 8], dtype: [float32, bfloat16]}\nmeasure: {repeats: 4}\n"


def test_the_grid_is_every_combination_less_exclude_with_include(tmp_path):
    sweep_config = sweep_config_of(
        tmp_path,
        "model: m\nknobs: {top_k: [1, 2], blocks: [4, 8]}\n"
        "exclude: [{top_k: 1, blocks: 4}, {top_k: [1, 2], blocks: 8}]\ninclude: [{top_k: 8}]\n",
    )
    assert [(c["top_k"], c["blocks"]) for c in combinations(sweep_config)] == [(2, 4), (8, 4)]


def test_equal_knobs_have_equal_ids_however_they_are_written(tmp_path):
    def ids(knobs):
        sweep_config = sweep_config_of(tmp_path, f"model: m\nknobs: {knobs}\n")
        return [c.config_id for c in configurations(sweep_config, FACTS, TIERS)]

    assert ids("{top_k: null, blocks: null}") == ids("{top_k: 4, blocks: 8, dtype: float32, attention: sdpa}")
    assert ids("{tier: low}") == ids("{crops: 1-3}") != ids("{crops: 1-4}")
    assert len(ids("{dtype: [auto, float32], compile: [true, false], cache: [null, dynamic]}")) == 1
    assert len(ids("{top_k: [1, 2, 4, null]}")) == 3


def test_a_configuration_says_everything_that_its_settings_need(tmp_path):
    sweep_config = sweep_config_of(
        tmp_path,
        "model: m\nknobs: {tier: [low], image_size: 40x30, cache: static, batch: 2}\nmeasure: {autocast: bfloat16}\n",
    )
    config = configurations(sweep_config, FACTS, TIERS)[0].config
    assert config["tier"] == "low"
    assert config["crops"] == "1-3"
    read = settings_of(config)
    assert (read.crops, read.image_size, read.cache, read.batch) == ((1, 3), (40, 30), "static", 2)
    assert (read.autocast, read.top_k, read.blocks) == ("bfloat16", 4, 8)


def test_an_importance_matters_only_where_blocks_are_left_out(tmp_path):
    sweep_config = sweep_config_of(tmp_path, "model: m\nknobs: {blocks: [4, 8]}\n")
    measured = msgspec.structs.replace(FACTS, importance="measured", active={4: "0-2,7"})
    with_, without = (configurations(sweep_config, facts, TIERS) for facts in (measured, FACTS))
    assert with_[0].config["active_blocks"] == "0-2,7"
    assert "active_blocks" not in with_[1].config
    assert with_[0].config_id != without[0].config_id
    assert with_[1].config_id == without[1].config_id


def test_a_grid_without_a_combination_is_said(tmp_path):
    sweep_config = sweep_config_of(tmp_path, "model: m\nknobs: {top_k: [1]}\nexclude: [{top_k: 1}]\n")
    with pytest.raises(LaptimeError, match="empty"):
        configurations(sweep_config, FACTS, TIERS)


def test_each_round_visits_every_configuration_once_with_the_same_share_in_an_order_of_its_own(tmp_path):
    plan = plan_of(sweep_config_of(tmp_path, GRID + "seed: 7\n"), rounds=4)
    order = visits(plan)
    rounds = [[visit for visit in order if visit.round == number] for number in range(4)]
    assert order == [visit for visits_ in rounds for visit in visits_]
    orders = [[visit.config_id for visit in visits_] for visits_ in rounds]
    for visits_ in rounds:
        assert sorted(v.config_id for v in visits_) == sorted(c.config_id for c in plan.configs)
        assert len({tuple(sorted(v.pairs)) for v in visits_}) == 1
        dtypes = [v.config["dtype"] for v in visits_]
        assert sum(a != b for a, b in itertools.pairwise(dtypes)) == 1, "a model is loaded once a round"
    assert len(set(map(tuple, orders))) == 4
    assert order == visits(plan)
    assert order != visits(msgspec.structs.replace(plan, seed=8))
    assert len({visit.pairs[0] for visit in order}) > 4, "the first sample after a warm-up is not always the same"


counts = st.integers(1, 5)


@settings(max_examples=200, deadline=None)
@given(st.data(), counts, counts, counts, st.integers(1, 30), counts)
def test_every_key_is_measured_once_whatever_is_done_already(data, levels, samples, repeats, rounds, world):
    sweep_config = SweepConfig(
        model="m", knobs=KnobGrid(batch=list(range(1, levels + 1))), measure=Measure(repeats=repeats)
    )
    plan = plan_of(sweep_config, samples=samples, rounds=rounds)
    order = visits(plan)
    keys = [key for visit in order for key in visit.keys]
    assert len(keys) == len(set(keys))
    assert set(keys) == plan.keys()
    cut = data.draw(st.integers(0, len(keys)))
    done = set(data.draw(st.permutations(keys))[:cut])
    left = remaining(order, done, done)
    assert {key for visit in left for key in visit.keys} == plan.keys() - done
    parts = [part_of(order, plan, rank, world) for rank in range(world)]
    assert sorted(v.cold_repeat for part in parts for v in part) == sorted(v.cold_repeat for v in order)
    assert {key for part in parts for visit in part for key in visit.keys} == plan.keys()
    for number in range(plan.rounds):
        sizes = [sum(visit.round == number for visit in part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 4))
def test_warm_ups_never_share_a_key(data, rounds, levels):
    """Visits are cut off after any number of warm-up calls, again and again; no number is used twice."""
    sweep_config = SweepConfig(model="m", knobs=KnobGrid(batch=list(range(1, levels + 1))), measure=Measure(repeats=6))
    plan = plan_of(sweep_config, samples=1, rounds=rounds)
    seen = set()
    for _ in range(data.draw(st.integers(1, 5))):
        for visit in remaining(visits(plan), set(), seen):
            for call in range(data.draw(st.integers(0, 12))):
                key = (visit.config_id, "0000", visit.cold_repeat - call * visit.cold_step)
                assert key[2] < 0
                assert key not in seen
                seen.add(key)


def test_ranks_take_turns_at_a_configuration(tmp_path):
    plan = plan_of(sweep_config_of(tmp_path, GRID), rounds=4)
    first = plan.configs[0].config_id
    ranks = [
        rank
        for number in range(4)
        for rank in range(3)
        for visit in part_of(visits(plan), plan, rank, 3)
        if visit.config_id == first and visit.round == number
    ]
    assert ranks == [0, 1, 2, 0]
