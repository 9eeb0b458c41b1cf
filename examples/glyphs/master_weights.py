"""AdamW on float32 copies of a bfloat16 model: each step computes as inference does and loses no small update."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MasterWeights:
    """The optimiser of `modules`. On float32 parameters it works on them directly."""

    def __init__(self, modules: nn.Module, *, decay: float) -> None:
        self.live = [weight for weight in modules.parameters() if weight.requires_grad]
        self.copied = any(weight.dtype != torch.float32 for weight in self.live)
        self.masters: list[Any] = [w.detach().float().clone() for w in self.live] if self.copied else self.live
        matrices = [m for m in self.masters if m.ndim > 1]
        others = [m for m in self.masters if m.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=self.live[0].is_cuda)

    def step(self, rate: float, clip: float) -> torch.Tensor:
        """One update at the learning rate, of the weights that have a gradient; their norm before clipping."""
        if self.copied:
            for live, master in zip(self.live, self.masters, strict=True):
                master.grad = None if live.grad is None else live.grad.float()
                live.grad = None
        with_grad = [master for master in self.masters if master.grad is not None]
        norm = nn.utils.clip_grad_norm_(with_grad, clip, foreach=True)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.copied:
            with torch.no_grad():
                torch._foreach_copy_([live.data for live in self.live], self.masters)
        return norm
