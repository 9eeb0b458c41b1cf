"""Experts for each block: a token is sent to as many experts as its block says, instead of one number for all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from laptime.errors import LaptimeError
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.config_changes import changed

NAMES = ("top_k", "num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
"""What modules call the number of experts that they send a token to."""


def own_experts(model: Any) -> tuple[int, ...]:
    """How many experts a token is sent to in each block of this model, first to last; 0 in a block without experts."""
    anatomy = find_anatomy(model)
    return tuple(_own(anatomy, index) for index in range(len(anatomy.layers)))


def check_experts(name: str, anatomy: Anatomy, experts: Sequence[int]) -> None:
    """Raise LaptimeError unless each block of the model can have this number of experts of its own."""
    count = len(anatomy.layers)
    if anatomy.experts is None or anatomy.experts.count is None:
        raise LaptimeError(f"experts by block: {name} has no experts to route to; leave them out")
    if len(experts) != count:
        raise LaptimeError(f"experts by block: {len(experts)} numbers for a model of {count} blocks; give one for each")
    for index, number in enumerate(experts):
        gated = _gated(anatomy, index)
        if not gated and number != 0:
            raise LaptimeError(f"experts by block: block {index} of {name} has no experts; write 0 for it")
        if gated and not 1 <= number <= anatomy.experts.count:
            raise LaptimeError(
                f"experts by block: block {index} has {anatomy.experts.count} experts and is given {number}; "
                f"use 1 to {anatomy.experts.count}"
            )
        if gated and not _places(anatomy, index):
            raise LaptimeError(f"experts by block: {name}'s blocks share one number; set top_k instead")


@contextlib.contextmanager
def routed_by_block(anatomy: Anatomy, experts: Sequence[int]) -> Iterator[None]:
    """Each block sends its tokens to its own number of experts inside the block. Check it before (check_experts)."""
    with contextlib.ExitStack() as stack:
        for holder, name, number in places_by_block(anatomy, experts):
            stack.enter_context(changed(holder, name, number))
        yield


def places_by_block(anatomy: Anatomy, experts: Sequence[int]) -> list[tuple[nn.Module, str, int]]:
    """Every module and attribute that says how many experts, with the number that its block gets."""
    return [(holder, name, number) for index, number in enumerate(experts) for holder, name in _places(anatomy, index)]


def _own(anatomy: Anatomy, index: int) -> int:
    if anatomy.experts is None or not _gated(anatomy, index):
        return 0
    return next((int(vars(holder)[name]) for holder, name in _places(anatomy, index)), anatomy.experts.top_k)


def _gated(anatomy: Anatomy, index: int) -> bool:
    experts = anatomy.experts
    start = f"{anatomy.layers_path}.{index}."
    return experts is not None and any(path.startswith(start) for path in experts.gate_paths)


def _places(anatomy: Anatomy, index: int) -> list[tuple[nn.Module, str]]:
    """The attributes of a block's modules that hold its number of experts."""
    modules = list(anatomy.layers[index].modules())
    return [(module, name) for module in modules for name in NAMES if type(vars(module).get(name)) is int]
