"""Stages by subtraction, with its flaws: what is stored when its parts come out longer than the whole."""

import time

import pytest

import laptime
from laptime.measure.session import Input
from laptime.measure.subtraction import subtract
from tests.models.tiny import VLM_FAMILIES, build, tiny_inputs


def both_ways(family, model):
    item = Input("0", {**tiny_inputs(family), "max_new_tokens": 4, "do_sample": False})
    with laptime.StageTimer(model) as timer:
        model.generate(**item.kwargs)
    return subtract(model, timer.anatomy, item, repeat=0, autocast=None, direct=timer.last)


@pytest.mark.parametrize("family", [*VLM_FAMILIES, "llama"])
def test_every_family_can_be_subtracted(family):
    row = both_ways(family, build(family))
    assert row.residual_ms == row.total_ms - row.vision_ms - row.prefill_ms
    assert (row.vision_ms > 0) is (family != "llama")
    assert row.prefill_ms > 0
    assert row.direct.closes()


def test_a_slow_call_apart_makes_decode_negative_and_the_clamp_hides_it():
    model = build("llava_next")
    calls = []

    def slow_when_called_apart(*_):
        calls.append(1)
        if len(calls) == 2:  # 1: the direct call; 2: the tower alone; 3: the prefill alone; 4: the total
            time.sleep(0.5)

    inner = next(m for name, m in model.model.vision_tower.named_modules() if name.endswith("layers.0"))
    inner.register_forward_pre_hook(slow_when_called_apart)
    row = both_ways("llava_next", model)
    assert len(calls) == 4
    assert row.residual_ms < 0
    assert row.decode_ms == 0.0
    assert row.direct.decode_ms > 0
