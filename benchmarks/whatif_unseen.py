"""Further programs with a remedy each, written after the what-if was mended by the first ones, to be measured once.

They are other models and other habits than those of whatif_workloads.py: `whatif_truth.py --set unseen`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from whatif_models import CUDA, DEVICE, HALF, SMALL, Decoder, Norm, Step, residual_net, turned
from whatif_workloads import Workload, captured

Made = tuple[Step, Callable[[], Step]]


def encoder() -> Made:
    """A text encoder, 8 rows of 128 tokens, whose tokens come from pinned memory; then as one graph."""
    width, length = (768, 128) if not SMALL else (32, 16)
    embedding = nn.Embedding(1000, width).to(DEVICE, HALF).requires_grad_(False)
    layers = nn.ModuleList(
        nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, "relu", batch_first=True, norm_first=True)
        for _ in range(12 if not SMALL else 1)
    )
    layers.to(DEVICE, HALF).requires_grad_(False)
    tokens = torch.randint(0, 1000, (8, length))
    tokens = tokens.pin_memory() if CUDA else tokens
    place = torch.zeros_like(tokens, device=DEVICE)
    result = torch.zeros(8, width, device=DEVICE, dtype=HALF)

    def forward() -> None:
        x = embedding(place)
        for layer in layers:
            x = layer(x)
        result.copy_(functional.normalize(x.mean(1), dim=-1))

    def step(run: Step) -> None:
        place.copy_(tokens, non_blocking=True)
        run()

    return partial(step, forward), lambda: partial(step, captured(forward))


def control() -> Made:
    """A world simulated in numpy asks a small policy for each move; then the policy is one graph."""
    size = 256 if not SMALL else 16
    layers = nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(size, size), nn.LayerNorm(size), nn.Tanh())))
    layers.to(DEVICE).requires_grad_(False)
    world, rules = np.zeros((64, size), np.float32), np.eye(size, dtype=np.float32) * 0.9
    seen, move = torch.zeros(64, size, device=DEVICE), torch.zeros(64, size, device=DEVICE)

    def policy() -> None:
        move.copy_(layers(seen))

    def step(run: Step) -> None:
        seen.copy_(torch.from_numpy(world))
        run()
        chosen = move.cpu().numpy()
        for _ in range(12):
            world[:] = np.tanh(world @ rules + chosen * np.float32(0.1))
            world[:] = np.clip(world + np.sin(world * 3) * np.float32(0.05), -2, 2)

    return partial(step, policy), lambda: partial(step, captured(policy))


def recurrent() -> Made:
    """A gated recurrent network in single operators over 100 moments; then as one graph."""
    width, moments = (512, 100) if not SMALL else (16, 4)
    one, other = (torch.randn(width, 3 * width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(2))
    inputs = torch.randn(moments, 16, width, device=DEVICE, dtype=HALF)
    result = torch.zeros(16, width, device=DEVICE, dtype=HALF)

    def forward() -> None:
        state = torch.zeros_like(result)
        for moment in inputs:
            x, h = (moment @ one).chunk(3, -1), (state @ other).chunk(3, -1)
            reset, update = torch.sigmoid(x[0] + h[0]), torch.sigmoid(x[1] + h[1])
            state = (1 - update) * torch.tanh(x[2] + reset * h[2]) + update * state
        result.copy_(state)

    return forward, lambda: captured(forward)


def branches() -> Made:
    """Three branches of convolutions on three streams; then as one graph."""
    wide = 64 if not SMALL else 4
    nets = [
        nn.Sequential(*(part for _ in range(10) for part in (nn.Conv2d(wide, wide, k, padding=k // 2), nn.ReLU())))
        for k in (1, 3, 5)
    ]
    for net in nets:
        net.to(DEVICE, HALF).requires_grad_(False)
    x = torch.randn(4, wide, 28, 28, device=DEVICE, dtype=HALF)
    total = torch.zeros_like(x)
    sides = [torch.cuda.Stream() for _ in range(2)] if CUDA else []

    def forward() -> None:
        if not sides:
            total.copy_(sum(net(x) for net in nets))
            return
        here, parts = torch.cuda.current_stream(), []
        for side, net in zip(sides, nets[1:], strict=True):
            side.wait_stream(here)
            with torch.cuda.stream(side):
                parts.append(net(x))
        parts.append(nets[0](x))
        for side in sides:
            here.wait_stream(side)
        for part in parts:
            part.record_stream(here)
        total.copy_(parts[0] + parts[1] + parts[2])

    return forward, lambda: captured(forward)


class Prefill(nn.Module):
    """Decoder layers over a whole prompt, in single operators."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(Norm(width) for _ in range(2 * layers))
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(layers))
        self.outs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.gates = nn.ModuleList(nn.Linear(width, 6 * width, bias=False) for _ in range(layers))
        self.downs = nn.ModuleList(nn.Linear(3 * width, width, bias=False) for _ in range(layers))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        for i, (mixed, out, gate, down) in enumerate(zip(self.mixed, self.outs, self.gates, self.downs, strict=True)):
            parts = mixed(self.norms[2 * i](x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            query, key = parts[0] * cos + turned(parts[0]) * sin, parts[1] * cos + turned(parts[1]) * sin
            y = functional.scaled_dot_product_attention(query, key, parts[2], is_causal=True)
            x = x + out(y.transpose(1, 2).reshape(x.shape))
            one, other = gate(self.norms[2 * i + 1](x)).chunk(2, -1)
            x = x + down(functional.silu(one) * other)
        return x


def prefill() -> Made:
    """A prompt of 4,096 tokens through 8 layers in single operators; then compiled."""
    width, length = (2048, 4096) if not SMALL else (64, 32)
    model = Prefill(width, 16, 8 if not SMALL else 1).to(DEVICE, HALF).requires_grad_(False)
    x = torch.randn(1, length, width, device=DEVICE, dtype=HALF)
    angle = torch.outer(torch.arange(length, device=DEVICE), 1e4 ** -torch.linspace(0, 1, width // 16, device=DEVICE))
    cos, sin = angle.cos().to(HALF), angle.sin().to(HALF)
    return partial(model, x, cos, sin), lambda: partial(torch.compile(model) if CUDA else model, x, cos, sin)


def filters() -> Made:
    """Pictures are brightened, sharpened and normalised on the device in single operators; then compiled."""
    side = 512 if not SMALL else 16
    pictures = torch.rand(32, 3, side, side, device=DEVICE)
    kernel = torch.ones(3, 1, 3, 3, device=DEVICE) / 9

    def adjust(x: torch.Tensor) -> torch.Tensor:
        x = torch.clamp(x * 1.2 - 0.05, 0, 1) ** 0.8
        smooth = functional.conv2d(x, kernel, padding=1, groups=3)
        x = torch.clamp(x + 0.7 * (x - smooth), 0, 1)
        gray = (0.3 * x[:, :1] + 0.59 * x[:, 1:2] + 0.11 * x[:, 2:]).expand_as(x)
        return (torch.lerp(gray, x, 1.3) - 0.45) / 0.225

    return partial(adjust, pictures), lambda: partial(torch.compile(adjust) if CUDA else adjust, pictures)


class Views(Dataset):  # type: ignore[type-arg]
    """Pictures that torch makes larger, turns and cuts on the processor."""

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        chance = torch.Generator().manual_seed(index)
        size = 128 if not SMALL else 16
        raw = torch.rand(1, 3, size, size, generator=chance)
        large = functional.interpolate(raw, scale_factor=1.5, mode="bicubic")[0, :, :size, :size]
        return ((large.flip(-1) - large.mean()) / large.std()).contiguous(), index % 10


def views() -> Made:
    """Training that asks for its loss each step and has its pictures made by torch on the processor; then workers."""
    model = residual_net(32 if not SMALL else 8, 8 if not SMALL else 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def train(batches: Iterator[Any]) -> None:
        pictures, labels = next(batches)
        loss = functional.cross_entropy(model(pictures.to(DEVICE)), labels.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Views(), batch_size=16, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


def experts() -> Made:
    """Sixteen small experts one after another, four of them for each token; then as one graph."""
    width, rows = (1024, 32) if not SMALL else (16, 4)
    ups, downs = (torch.randn(16, width, width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(2))
    router = torch.randn(width, 16, device=DEVICE, dtype=HALF) / math.sqrt(width)
    x = torch.randn(rows, width, device=DEVICE, dtype=HALF)
    result = torch.zeros_like(x)

    def forward() -> None:
        y = x
        for _ in range(4):
            weights, chosen = torch.softmax((y @ router).float(), -1).topk(4)
            mixed = torch.zeros_like(y)
            for i in range(16):
                share = (weights * (chosen == i)).sum(-1, keepdim=True).to(y.dtype)
                mixed = mixed + share * (functional.gelu(y @ ups[i]) @ downs[i])
            y = functional.layer_norm(y + mixed, (width,))
        result.copy_(y)

    return forward, lambda: captured(forward)


def two_players() -> Made:
    """Two networks trained in turn, by optimizers that go through the weights one by one; then as one graph."""
    width = 512 if not SMALL else 16
    nets = [
        nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(width, width), nn.LeakyReLU(0.2)))).to(DEVICE)
        for _ in range(2)
    ]
    optimizers = [torch.optim.SGD(net.parameters(), 1e-3, momentum=0.5, foreach=False) for net in nets]
    real, noise = torch.randn(128, width, device=DEVICE), torch.randn(128, width, device=DEVICE)

    def play() -> None:
        made = nets[0](noise)
        optimizers[1].zero_grad(set_to_none=True)
        (functional.softplus(nets[1](made.detach())).mean() + functional.softplus(-nets[1](real)).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad(set_to_none=True)
        functional.softplus(-nets[1](made)).mean().backward()
        optimizers[0].step()

    return play, lambda: captured(play)


def drafts() -> Made:
    """A small model writes four tokens and a larger one reads them, as speculative decoding does; then two graphs."""
    small, large = Decoder(layers=6, width=512), Decoder(layers=16, rows=4)

    def step(draft: Step, check: Step) -> None:
        for _ in range(4):
            draft()
        check()
        large.token[:, 0].tolist()

    return partial(step, small.advance, large.advance), lambda: partial(
        step, captured(small.advance), captured(large.advance)
    )


def answers() -> Made:
    """Large results go back to pageable memory each step; then to pinned memory on a stream of their own."""
    rows, width, deep = (8192, 4096, 16) if not SMALL else (16, 32, 2)
    weights = [torch.randn(width, width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(deep)]
    x = torch.randn(rows, width, device=DEVICE, dtype=HALF)

    def forward() -> torch.Tensor:
        y = x
        for weight in weights:
            y = y @ weight
        return y

    def remedied() -> Step:
        if not CUDA:
            return lambda: forward().cpu()
        places, side = [torch.empty(rows, width, dtype=HALF, pin_memory=True) for _ in range(2)], torch.cuda.Stream()
        done, turn = [torch.cuda.Event() for _ in range(2)], iter(range(10**9))

        def step() -> None:
            i, y = next(turn), forward()
            done[(i + 1) % 2].synchronize()  # the step before has arrived
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                places[i % 2].copy_(y, non_blocking=True)
                done[i % 2].record()
            y.record_stream(side)

        return step

    return lambda: forward().cpu(), remedied


WORKLOADS: dict[str, Workload] = {
    "encoder": Workload(encoder, "graph", "a text encoder, tokens from pinned memory"),
    "control": Workload(control, "graph", "a world in numpy and a small policy"),
    "recurrent": Workload(recurrent, "graph", "a gated recurrent network, 100 moments"),
    "branches": Workload(branches, "graph", "convolutions on three streams"),
    "experts": Workload(experts, "graph", "sixteen experts one after another"),
    "two-players": Workload(two_players, "graph", "two networks trained in turn, weight by weight"),
    "drafts": Workload(drafts, "graph", "a small model drafts, a larger one checks; then five graphs a step"),
    "views": Workload(views, "workers", "pictures made by torch, the loss asked for each step; then 6 workers"),
    "answers": Workload(answers, "overlap", "large results to pageable memory; then pinned and beside"),
    "prefill": Workload(prefill, "compile", "a prompt of 4,096 tokens in single operators; then torch.compile"),
    "filters": Workload(filters, "compile", "picture filters in single operators; then torch.compile"),
}
