"""Where a model's decoder layers, its language model and its routed experts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from laptime.models.module_tree import ModuleTree, holds, of_sound

_LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_KS = ("top_k", "num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts")


@dataclass(frozen=True)
class Experts:
    """The routed experts: where the gates are and how many experts each of them picks.

    `top_k_attribute` is the gate's own attribute that holds top-k (it may be changed between calls), or None when
    the model reads it from its text config (`top_k_config` then says under which name).
    """

    gate_paths: tuple[str, ...]
    count: int | None
    top_k: int
    top_k_attribute: str | None
    top_k_config: str | None


def decoder_layers(tree: ModuleTree, vision: str | None, language: str | None) -> str:
    """The ModuleList outside the vision tower whose elements attend and whose length is the config's layer count."""
    counts = [getattr(tree.text_config, name, None) for name in _LAYER_COUNTS]
    expected = next((count for count in counts if isinstance(count, int)), None)
    best: tuple[tuple[bool, bool, bool, bool, int], str] | None = None
    decoder = tree.path_of("get_decoder") or ""
    for path, module in tree.modules.items():
        if not isinstance(module, nn.ModuleList) or len(module) == 0:
            continue
        if any(holds(coder, path) for coder in tree.coders):  # a VQ-VAE has layers that attend, too
            continue
        if (vision is not None and holds(vision, path)) or (language is not None and not holds(language, path)):
            continue
        attends = any("att" in name.rpartition(".")[2].lower() for name, _ in module[0].named_modules())
        counted = len(module) == expected
        if not (attends or counted):
            continue
        score = (
            not of_sound(path),
            holds(decoder, path),
            attends,
            counted,
            sum(p.numel() for p in module.parameters()),
        )
        if best is None or score > best[0]:
            best = (score, path)
    if best is None:
        raise tree.unknown("which module holds the decoder layers")
    return best[1]


def language_model(tree: ModuleTree, layers: str, embedding: str | None, vision: str) -> str:
    """The smallest callable module around the layers that has the token embedding too, without the vision tower."""
    path = tree.callable_ancestor(layers)
    while path and not holds(path, embedding):
        above = tree.callable_ancestor(path)
        if holds(above, vision):
            break
        path = above
    return path


def routed_experts(tree: ModuleTree, layers: str) -> Experts | None:
    """The gates of the decoder layers, by their `top_k`, or by their name where the config holds it (Aria)."""
    inside = {path: module for path, module in tree.modules.items() if path.startswith(layers + ".")}
    gates = {path: m for path, m in inside.items() if _integer(m, "top_k") is not None}
    gates = {path: m for path, m in gates.items() if path.rpartition(".")[2] in ("gate", "router")} or gates
    count = next((n for name in _EXPERT_COUNTS if (n := _integer(tree.text_config, name)) is not None), None)
    key = next((name for name in _TOP_KS if _integer(tree.text_config, name) is not None), None)
    if gates:
        return Experts(tuple(gates), count, next(iter(gates.values())).top_k, "top_k", key)
    routers = tuple(path for path in inside if path.rpartition(".")[2] in ("gate", "router"))
    if routers and key is not None:
        return Experts(routers, count, getattr(tree.text_config, key), None, key)
    return None


def _integer(holder: Any, name: str) -> int | None:
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
