"""A second set of programs of two ranks, written after the replay of all ranks together: for whatif_two_gpus.py.

In several of them the ranks' hosts are unequal on purpose: one samples or prepares for both, or has more to load.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from two_gpu_programs import (
    RANKS,
    Made,
    Shard,
    captured,
    decoder,
    gathered,
    parallel,
    reader,
    replayed_logits,
    summed,
    tokens,
    trained,
    without_gradients,
)
from whatif_models import CUDA, DEVICE, HALF, SMALL, Norm, Pictures, Step, residual_net
from whatif_workloads import Workload


def by_vocabulary() -> Made:
    """Decode of 4 rows, tensor-parallel; each rank has half of the vocabulary, and logits are gathered."""
    model = decoder(20, rows=4)
    half = model.vocabulary // RANKS
    head = nn.Linear(model.embedding.embedding_dim, half, bias=False).to(DEVICE, HALF).requires_grad_(False)

    def advance() -> None:
        x, turn, mask = model.begin()
        for layer in model.layers:
            x = layer.finish(x, layer.attend(layer.project(x, model.position, turn), mask))
        logits = gathered(head(model.norm(x))[:, -1])
        model.token.copy_(logits.argmax(-1, keepdim=True))
        model.position.copy_((model.position + 1) % len(model.places))

    return advance, lambda: captured(advance)


def sampled_by_one() -> Made:
    """Decode of 8 rows, tensor-parallel; rank 0 samples in numpy and sends the tokens to the other."""
    model = decoder(16, rows=8)
    chance = np.random.default_rng(0)

    def step(forward: Callable[[], torch.Tensor]) -> None:
        logits = forward()
        if dist.get_rank() == 0:
            values = logits.float().cpu().numpy()
            noisy = values + chance.gumbel(size=values.shape).astype(np.float32)
            model.token.copy_(torch.from_numpy(noisy.argmax(-1)[:, None]))
        dist.broadcast(model.token, 0)
        model.position.copy_((model.position + 1) % len(model.places))

    return partial(step, model.logits), lambda: partial(step, replayed_logits(model.logits))


def a_late_host() -> Made:
    """Greedy decode, tensor-parallel, each token read; the second rank's host sorts in numpy first."""
    model = decoder(24)
    chance = np.random.default_rng(0)
    size = 200_000 if not SMALL else 100

    def step(advance: Step) -> None:
        if dist.get_rank() == 1:
            np.sort(chance.random(size))
        advance()
        model.token[0, 0].item()

    return partial(step, model.advance), lambda: partial(step, captured(model.advance))


class Sent(Shard):
    """A layer whose tokens are sent to experts of both ranks and back, as many to each."""

    def mlp(self, y: torch.Tensor) -> torch.Tensor:
        flat = y.reshape(-1, y.shape[-1])
        here = torch.empty_like(flat)
        dist.all_to_all_single(here, flat.contiguous())
        made = super().mlp(here).contiguous()
        back = torch.empty_like(made)
        dist.all_to_all_single(back, made)
        return back.view_as(y)


def to_experts() -> Made:
    """Decode of 32 rows; attention by parts, and tokens to the experts of both ranks."""
    model = decoder(14, rows=32 if not SMALL else 2, kind=Sent)
    return model.advance, lambda: captured(model.advance)


def in_parts() -> Made:
    """Training with the optimizer in parts: gradients are scattered, each rank steps its half, weights are gathered."""
    model, (x, y) = reader(4), tokens(16, 64)
    weights = [one for one in model.parameters() if one.numel() % RANKS == 0]

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            flat = gradient.reshape(-1)
            half = torch.empty(len(flat) // RANKS, device=DEVICE)
            dist.reduce_scatter_tensor(half, flat.contiguous())
            with torch.no_grad():
                whole, at = weight.view(-1), dist.get_rank() * len(half)
                own = whole[at : at + len(half)] - 1e-3 / RANKS * half
                dist.all_gather_into_tensor(whole, own)

    return step, lambda: captured(step)


class Joined(nn.Module):
    """A layer that norms by columns: sums over the ranks inside of its norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = summed(x.float().pow(2).mean(-1, keepdim=True)) / RANKS
        y = (x.float() * torch.rsqrt(mean + 1e-6)).to(x.dtype)
        return x + summed(self.down(functional.gelu(self.up(self.norm(y)))))


def joined() -> Made:
    """A column of layers over 2,048 rows with two sums in each."""
    width = 2048 if not SMALL else 64
    model = nn.Sequential(*(Joined(width) for _ in range(20 if not SMALL else 1)))
    return without_gradients(model, torch.randn(2048 if not SMALL else 8, width, device=DEVICE, dtype=HALF))


def more_to_load() -> Made:
    """DDP training; the second rank makes twice as many pictures, in Python, then by workers."""
    train = trained(parallel(residual_net(64 if not SMALL else 8, 10 if not SMALL else 1)))
    batch = (8, 16)[dist.get_rank()] if not SMALL else 2

    def loader(workers: int) -> Step:
        batches = iter(DataLoader(Pictures(), batch, num_workers=workers, persistent_workers=workers > 0))

        def step() -> None:
            x, y = next(batches)
            train(x.to(DEVICE), y.to(DEVICE)).item()

        return step

    return loader(0), lambda: loader(8 if not SMALL else 1)


def ddp_wide() -> Made:
    """DDP training of a wider encoder; then the model inside is compiled."""
    x, y = tokens(96, 128)
    eager, model = trained(parallel(reader(6))), reader(6)
    return partial(eager, x, y), lambda: partial(trained(parallel(torch.compile(model) if CUDA else model)), x, y)


PROGRAMS = {
    "vocabulary": Workload(by_vocabulary, "graph", "decode, tensor-parallel, logits gathered"),
    "one samples": Workload(sampled_by_one, "graph", "tensor-parallel decode, one rank samples in numpy and sends"),
    "late host": Workload(a_late_host, "graph", "tensor-parallel decode, one host sorts in numpy first"),
    "to experts": Workload(to_experts, "graph", "decode, tokens sent to the experts of both ranks"),
    "in parts": Workload(in_parts, "graph", "training, the optimizer in parts"),
    "joined": Workload(joined, "graph", "layers with two sums over the ranks in each"),
    "more to load": Workload(more_to_load, "workers", "DDP training, one rank makes twice as many pictures"),
    "ddp wide": Workload(ddp_wide, "compile", "DDP training of a wider encoder, compiled"),
}
