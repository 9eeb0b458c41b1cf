"""The floors of vision and prefill: operations and bytes counted by hand for small models."""

import pytest
import torch

from laptime.decoder import FastModel
from laptime.remedy.call_floor import call_floor, dense_tflop_per_s, prefill_work
from tests.models.tiny import build, tiny_inputs


def test_a_dense_prefill_s_work_is_that_of_its_weights_and_pairs():
    model = build("llama")
    with FastModel(model) as fast:
        tflop, gb = prefill_work(fast.plan, [10, 4])
        weights = sum(p.numel() for n, p in model.named_parameters() if "proj" in n)
        pairs = 55 + 10
        by_hand = 2 * 14 * weights + 2 * 2 * model.lm_head.weight.numel() + 4 * pairs * 4 * 8 * 3
        assert tflop * 1e12 == pytest.approx(by_hand)
        assert gb * 1e9 == pytest.approx(fast.plan.weight_bytes() + fast.plan.cache_bytes(14))


def test_experts_count_as_often_as_they_are_chosen_and_their_bytes_once():
    model = build("olmoe")
    with FastModel(model) as fast:
        few, many = (prefill_work(fast.plan, [tokens]) for tokens in (1, 1000))
        all_bytes = sum(p.nbytes for n, p in model.named_parameters() if "embed" not in n)
    assert many[0] > 1000 * few[0] * 0.9
    assert many[1] * 1e9 - fast.plan.cache_bytes(1000) == pytest.approx(all_bytes, rel=0.02)


def test_vision_s_work_is_counted_and_grows_with_the_images():
    model = build("internvl")
    floors = []
    with FastModel(model) as fast:
        for batch in (1, 2):
            inputs = tiny_inputs("internvl", batch=batch)
            floors.append(call_floor(model, fast.plan, inputs, 10.0, 0.1))
    first, second = (floor.vision for floor in floors)
    assert second.tflop == pytest.approx(2 * first.tflop)
    assert first.gb < second.gb < 2 * first.gb
    assert first.ms == pytest.approx(max(first.tflop / 0.1, first.gb / 10) * 1e3, abs=1e-4)


def test_without_images_there_is_no_floor_of_vision():
    model = build("llama")
    with FastModel(model) as fast:
        floor = call_floor(model, fast.plan, tiny_inputs("llama"), None, None)
    assert floor.vision is None
    assert floor.prefill.ms is None
    assert dense_tflop_per_s(torch.device("cpu"), torch.float32) > 0
