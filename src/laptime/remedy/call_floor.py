"""The floors of vision and prefill: their operations over the rate of a large product, their bytes over the bandwidth.

The larger of the two times is the floor. Operations of the vision tower are counted by torch while it runs; those of
the prefill come from the plan: each token passes the weights that it uses, and attends to itself and those before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from laptime.decoder.plan import DecodePlan, Dense
from laptime.decoder.vision import Tower, images_of

GPU_SIDE, CPU_SIDE = 8192, 512
"""Rows and columns of the matrices whose product gives the rate."""
REPEATS = 5


@dataclass(frozen=True)
class PartFloor:
    """What a part must compute and move. ms: the least time; None where a rate isn't known."""

    tflop: float
    gb: float
    ms: float | None


@dataclass(frozen=True)
class CallFloor:
    """The floors of a call's stages before decode. vision: None without images."""

    vision: PartFloor | None
    prefill: PartFloor

    def figures(self) -> dict[str, Any]:
        """Rounded, for a table."""
        parts = {"vision": self.vision, "prefill": self.prefill}
        return {
            name: {"tflop": round(part.tflop, 3), "gb": round(part.gb, 3), "ms": part.ms}
            for name, part in parts.items()
            if part is not None
        }


def call_floor(
    model: Any, plan: DecodePlan, inputs: Mapping[str, Any], bandwidth: float | None, rate: float | None
) -> CallFloor:
    """The floors of vision and prefill for these inputs. bandwidth: GB/s. rate: TFLOP/s of a large product."""
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    lengths = [ids.shape[1]] * ids.shape[0] if mask is None else mask.sum(dim=1).tolist()
    tflop, gb = prefill_work(plan, lengths)
    prefill = PartFloor(tflop, gb, _ms(tflop, gb, bandwidth, rate))
    images = images_of(model)
    if inputs.get("pixel_values") is None or images is None:
        return CallFloor(None, prefill)
    tflop, gb = vision_work(images[0], inputs, plan.dtype)
    return CallFloor(PartFloor(tflop, gb, _ms(tflop, gb, bandwidth, rate)), prefill)


def prefill_work(plan: DecodePlan, lengths: list[int]) -> tuple[float, float]:
    """TFLOP and GB of a prefill of rows of these lengths: weights once, and the cache that is written."""
    tokens = sum(lengths)
    used = 0
    for layer in plan.layers:
        used += layer.qkv.numel() + layer.o.numel()
        if isinstance(layer.mlp, Dense):
            used += layer.mlp.gate_up.numel() + layer.mlp.down.numel()
        else:
            experts = layer.mlp.router.shape[0]
            each = (layer.mlp.gate_up.numel() + layer.mlp.down.numel()) // experts
            used += layer.mlp.router.numel() + layer.mlp.top_k * each
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    attention = 4 * pairs * plan.heads * plan.head_dim * len(plan.layers)
    flop = 2 * tokens * used + 2 * len(lengths) * plan.head.numel() + attention
    return flop / 1e12, (plan.weight_bytes(tokens) + plan.cache_bytes(tokens)) / 1e9


@torch.no_grad()
def vision_work(core: Any, inputs: Mapping[str, Any], dtype: torch.dtype) -> tuple[float, float]:
    """TFLOP and GB of the images' features: the tower's weights once, pixels in, features out."""
    tower = Tower(core, inputs, dtype)
    used: dict[int, int] = {}

    def note(module: Any, *_: Any) -> None:
        used.update({id(parameter): parameter.nbytes for parameter in module.parameters(recurse=False)})

    handles = [module.register_forward_hook(note) for module in core.modules()]
    try:
        with FlopCounterMode(display=False) as counter:
            features = tower()
    finally:
        for handle in handles:
            handle.remove()
    moved = sum(used.values()) + features.first.nbytes + sum(buffer.nbytes for buffer in tower.pixels.values())
    return counter.get_total_flops() / 1e12, moved / 1e9


def dense_tflop_per_s(device: torch.device, dtype: torch.dtype) -> float | None:
    """The rate of a product of large random matrices: the best of a few. None when memory is too small."""
    side = GPU_SIDE if device.type == "cuda" else CPU_SIDE
    try:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        best = min(_product_seconds(a, b) for _ in range(REPEATS))
    except RuntimeError:  # out of memory; its class differs between devices
        return None
    return round(2 * side**3 / best / 1e12, 3)


def _product_seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.device.type != "cuda":
        began = perf_counter()
        torch.mm(a, b)
        return perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    torch.mm(a, b)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def _ms(tflop: float, gb: float, bandwidth: float | None, rate: float | None) -> float | None:
    return None if bandwidth is None or rate is None else round(max(tflop / rate, gb / bandwidth) * 1e3, 4)
