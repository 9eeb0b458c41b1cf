"""Top-k: how many experts each token is sent to. One number in every gate, and in the config that agrees with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from laptime.errors import LaptimeError
from laptime.models.anatomy import Anatomy
from laptime.models.config_changes import changed, text_configs

FIXED = ("phimoe", "jetmoe")
"""Families whose top-k can't be changed: PhiMoE's mixer always takes two, JetMoE's also sets its attention heads."""
_CONFIG_KEYS = ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
_MODULE_NAMES = ("top_k", *_CONFIG_KEYS)


def check_top_k(name: str, anatomy: Anatomy, top_k: int) -> None:
    """Raise LaptimeError unless the model routes and `top_k` is within 1 and its number of experts."""
    experts = anatomy.experts
    if name in FIXED:
        raise LaptimeError(f"top_k {top_k}: {name}'s routing is fixed by its code; leave top_k out")
    if experts is None:
        raise LaptimeError(f"top_k {top_k}: {name} has no experts to route to; leave top_k out")
    if experts.count is None:
        raise LaptimeError(f"top_k {top_k}: can't tell how many experts {name} has; leave top_k out")
    if not 1 <= top_k <= experts.count:
        raise LaptimeError(f"top_k {top_k}: the model has {experts.count} experts; use 1 to {experts.count}")


@contextlib.contextmanager
def routed_to(model: nn.Module, anatomy: Anatomy, top_k: int) -> Iterator[None]:
    """Every gate picks `top_k` experts inside the block. Check it before (check_top_k).

    A gate reads the number from its own attribute, or the model reads it from its config. Both are set, so that
    they agree. Whether the weights of the chosen experts are made to sum to
    one (norm_topk_prob) stays as the model has it.
    """
    with contextlib.ExitStack() as stack:
        for holder, name in places_of_top_k(model, anatomy):
            stack.enter_context(changed(holder, name, top_k))
        yield


def places_of_top_k(model: nn.Module, anatomy: Anatomy) -> list[tuple[Any, str]]:
    """Every (holder, attribute) that says how many experts a token is sent to: modules, then configs."""
    experts = anatomy.experts
    assert experts is not None
    before = experts.top_k
    holders = [(module, name) for module in model.modules() for name in _MODULE_NAMES]
    configs = [(config, name) for config in text_configs(model) for name in _CONFIG_KEYS]
    return [(h, n) for h, n in [*holders, *configs] if type(vars(h).get(n)) is int and vars(h)[n] == before]
