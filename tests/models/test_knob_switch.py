"""Knobs set in the middle of a prefill are the knobs of `applied`, and the model is afterwards what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.active_blocks import PROVED, always_active
from laptime.models.anatomy import find_anatomy
from laptime.models.block_experts import own_experts
from laptime.models.config_changes import text_configs
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.knobs import ModelKnobs, applied
from tests.models import tiny
from tests.models.test_active_blocks import ALONE, IN_VLMS, longer
from tests.models.test_knobs import assert_same, built, everything, generated

FAMILIES = [*ALONE, "llava_next", "internvl"]


def of_one_kind(model: nn.Module) -> bool:
    return len(set(getattr(text_configs(model)[0], "layer_types", None) or ())) <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_chosen_after_an_early_one_are_those_of_applied(family: str) -> None:
    """To the bit, in prefill and decode; a family whose blocks are of several kinds is refused by name."""
    model, inputs = longer(family)
    count = len(find_anatomy(model).layers)
    least = max(2, len(always_active(model, count)))
    if not of_one_kind(model):
        with pytest.raises(LaptimeError, match="several kinds"):
            KnobSwitch(model, blocks=[least])
        return
    before = list(everything(model, inputs))
    switch = KnobSwitch(model, blocks=[least, count])
    for blocks in (least, count):
        with applied(model, ModelKnobs(blocks=blocks)):
            expected = generated(model, inputs)
        for setting in (switch.fixed, lambda knobs: switch.late(lambda hidden: knobs)):
            with setting(LateKnobs(None, blocks)):
                ids, logits = generated(model, inputs)
            assert torch.equal(ids, expected[0])
            assert torch.equal(logits, expected[1])
    assert_same(before, list(everything(model, inputs)))


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe", "llava_next", "qwen3_vl_moe"])
def test_experts_and_blocks_chosen_late_hold_from_there_on(family: str) -> None:
    """Counted inside: the early block with the fewest, each later one that is active as chosen, no other at all."""
    model, inputs = longer(family)
    count = len(find_anatomy(model).layers)
    least = max(2, len(always_active(model, count)))
    switch = KnobSwitch(model, top_ks=[1, 2, 3], blocks=[least])
    active = switch.active(least)
    before = list(everything(model, inputs))
    steps: list[list[tuple[int, int]]] = []
    hooks = []
    for index, layer in enumerate(find_anatomy(model).layers):
        for name, module in layer.named_modules():
            if name.endswith(".experts"):

                def look(_: Any, args: Any, index: int = index) -> None:
                    if index == 0:
                        steps.append([])
                    experts = {len(set(row)) for row in args[1].tolist()}
                    assert len(experts) == 1
                    steps[-1].append((index, experts.pop()))

                hooks.append(module.register_forward_pre_hook(look))
    with switch.late(lambda hidden: LateKnobs(3, least)):
        generated(model, inputs)
    for hook in hooks:
        hook.remove()
    assert steps[0] == [(0, 1), *((index, 3) for index in active[1:])]
    assert steps[1:] == [[(index, 3) for index in active]] * 3
    assert_same(before, list(everything(model, inputs)))


@pytest.mark.parametrize("family", ["olmoe", "qwen3_vl_moe"])
def test_a_top_k_may_stand_for_experts_of_each_block(family: str) -> None:
    """To the bit as `applied` sets them; the early block then runs with the fewest that any choice gives it."""
    model, inputs = longer(family)
    own = own_experts(model)
    uneven = tuple(min(number, 1 + index % 3) for index, number in enumerate(own))
    before = list(everything(model, inputs))
    switch = KnobSwitch(model, top_ks=[1, 2], experts={2: uneven})
    assert (switch.experts(1), switch.experts(2), switch.experts(None)) == (1, uneven, None)
    assert switch.early_experts == tuple(min(1, number) for number in own)
    with applied(model, ModelKnobs(experts=uneven)):
        expected = generated(model, inputs)
    with switch.fixed(LateKnobs(2, None)):
        ids, logits = generated(model, inputs)
    assert torch.equal(ids, expected[0])
    assert torch.equal(logits, expected[1])
    seen: list[tuple[int, ...]] = []

    def choose(hidden: torch.Tensor) -> LateKnobs:
        seen.append(own_experts(model))
        return LateKnobs(2, None)

    with switch.late(choose):
        model(**inputs)
        seen.append(own_experts(model))
    assert seen == [tuple(min(1, number) for number in own), uneven]
    assert_same(before, list(everything(model, inputs)))
    with pytest.raises(LaptimeError, match="block 0 has"):
        KnobSwitch(model, top_ks=[2], experts={2: (99, *uneven[1:])})


def test_it_is_asked_once_with_what_the_early_block_gave() -> None:
    model, inputs = built("olmoe")
    asked: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    find_anatomy(model).layers[1].register_forward_hook(lambda _, args, out: given.append(out))
    switch = KnobSwitch(model, top_ks=[1], early=1)

    def choose(hidden: torch.Tensor) -> LateKnobs:
        asked.append(hidden)
        return LateKnobs(1, None)

    with switch.late(choose):
        generated(model, inputs)
    assert len(asked) == 1
    assert torch.equal(asked[0], given[0])


def test_a_call_that_raises_leaves_the_model_as_it_was() -> None:
    model, inputs = built("olmoe")
    count = len(find_anatomy(model).layers)
    switch = KnobSwitch(model, top_ks=[1, 2], blocks=[2])
    before = list(everything(model, inputs))

    def fail(_: Any, args: Any) -> None:
        raise RuntimeError("stop here")

    for index in (0, count - 1):
        hook = find_anatomy(model).layers[index].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="stop here"), switch.late(lambda hidden: LateKnobs(1, 2)):
            generated(model, inputs)
        hook.remove()
        assert_same(before, list(everything(model, inputs)))


def test_what_a_model_cannot_take_is_refused_before_anything_is_set() -> None:
    model, _ = built("olmoe")
    with pytest.raises(LaptimeError, match="experts; use 1 to 4"):
        KnobSwitch(model, top_ks=[9])
    with pytest.raises(LaptimeError, match="block 1 would be left out"):
        KnobSwitch(model, blocks=[2], early=3)
    with pytest.raises(LaptimeError, match="blocks 0 to"):
        KnobSwitch(model, early=99)
    with pytest.raises(LaptimeError, match="text only"):
        KnobSwitch(model, crops=[(1, 3)])


def test_the_families_are_those_that_blocks_may_be_left_out_of() -> None:
    assert {IN_VLMS.get(name, name) for name in PROVED} <= set(FAMILIES)
    assert set(FAMILIES) - set(ALONE) <= set(tiny.VLM_FAMILIES)
