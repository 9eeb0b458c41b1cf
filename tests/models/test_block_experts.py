"""Experts by block: counted inside every block, undone, and refused in one line where blocks share one number."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.block_experts import own_experts
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from tests.models.test_knobs import ROUTED, ROUTED_VLMS, assert_same, built, everything, generated

SHARED = ("aria_text", "aria")
FAMILIES = [family for family in (*ROUTED, *ROUTED_VLMS) if family not in SHARED]


def experts_seen(model: nn.Module) -> list[dict[int, set[int]]]:
    """A list that fills as the model runs: for each block, by its place in the whole model, experts per token."""
    seen: dict[int, set[int]] = {}
    for index, layer in enumerate(find_anatomy(model).layers):
        for name, module in layer.named_modules():
            if name.endswith("experts") and "shared" not in name:

                def look(_: nn.Module, args: tuple[Any, ...], index: int = index) -> None:
                    seen.setdefault(index, set()).update(len(set(row)) for row in args[1].tolist())

                module.register_forward_pre_hook(look)
    return [seen]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_block_sends_its_tokens_to_its_own_number_of_experts(family: str) -> None:
    model, inputs = built(family)
    own = own_experts(model)
    wanted = tuple(index % 3 + 1 if number else 0 for index, number in enumerate(own))
    before = generated(model, inputs)[1]
    [seen] = experts_seen(model)
    with applied(model, ModelKnobs(experts=wanted)) as now:
        assert now.experts == wanted
        assert own_experts(model) == wanted
        generated(model, inputs)
    assert seen == {index: {number} for index, number in enumerate(wanted) if number}
    assert own_experts(model) == own
    assert_same([before], [generated(model, inputs)[1]])


def test_it_goes_with_blocks_and_nests_and_is_undone() -> None:
    """The numbers are those of the whole model's blocks, whichever of them run."""
    model, inputs = built("olmoe")
    before = list(everything(model, inputs))
    [seen] = experts_seen(model)
    with applied(model, ModelKnobs(experts=(1, 2, 3, 4, 1), blocks=3, active=(0, 2, 4))):
        generated(model, inputs)
    assert seen == {0: {1}, 2: {3}, 4: {1}}
    with applied(model, ModelKnobs(experts=(1, 2, 3, 4, 1))):
        for inner, says in ((ModelKnobs(top_k=2), 2), (ModelKnobs(experts=(4,) * 5), 4)):
            seen.clear()
            with applied(model, inner):
                generated(model, inputs)
            assert seen == {index: {says} for index in range(5)}
        assert own_experts(model) == (1, 2, 3, 4, 1)
    seen.clear()
    assert_same(before, list(everything(model, inputs)))


@pytest.mark.parametrize(
    ("family", "knobs", "says"),
    [
        ("aria_text", {"experts": (1,) * 5}, "blocks share one number; set top_k instead"),
        ("llama", {"experts": (1,) * 5}, "has no experts"),
        ("phimoe", {"experts": (1,) * 5}, "routing is fixed"),
        ("olmoe", {"experts": (1, 2)}, "2 numbers for a model of 5 blocks"),
        ("olmoe", {"experts": (1, 2, 0, 1, 1)}, "block 2 has 4 experts and is given 0"),
        ("olmoe", {"experts": (1, 2, 5, 1, 1)}, "block 2 has 4 experts and is given 5"),
        ("deepseek_v3", {"experts": (1,) * 5}, "block 0 of deepseek_v3 has no experts; write 0"),
        ("olmoe", {"experts": (1,) * 5, "top_k": 2}, "give one of them"),
    ],
)
def test_what_a_model_cannot_take_is_one_line(family: str, knobs: dict[str, Any], says: str) -> None:
    model, _ = built(family)
    with pytest.raises(LaptimeError) as raised:
        check_knobs(model, ModelKnobs(**knobs))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
