"""A fourth set of programs with a remedy each, written after the third was asked and the what-if mended by it.

A graph holds the kernels of the program as it runs eagerly: no model here builds other masks while it is captured, as
those of the third set did. Nothing was set on them: `whatif_truth.py --set fourth`.
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
from whatif_fourth_nets import Blocks, Decoded, Points, Recurrence, Table, convnext, swin
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def textures() -> Made:
    """ConvNeXt, two pictures."""
    model, side = convnext(), 160 if not SMALL else 32
    x = torch.randn(2, 3, side, side, device=DEVICE, dtype=HALF)
    return graphed(kept(lambda pictures: model(pixel_values=pictures).last_hidden_state.mean((2, 3)), x))


def windows() -> Made:
    """Swin in windows, one picture: attention in single operators."""
    model, side = swin(), 224 if not SMALL else 64
    x = torch.randn(1, 3, side, side, device=DEVICE, dtype=HALF)
    return graphed(kept(model, x))


def pictures() -> Made:
    """A latent of 32 x 32 is decoded into a picture: convolutions, group norms, larger step by step."""
    model = Decoded(96 if not SMALL else 8).to(DEVICE, HALF)
    side = 32 if not SMALL else 4
    return graphed(kept(model, torch.randn(1, 4, side, side, device=DEVICE, dtype=HALF)))


def bodies() -> Made:
    """Eight moments of 512 bodies that draw each other, in single operators."""
    count = 512 if not SMALL else 16

    def move(place: torch.Tensor, speed: torch.Tensor) -> torch.Tensor:
        for _ in range(8):
            apart = place[None] - place[:, None]
            force = apart * ((apart * apart).sum(-1, keepdim=True) + 0.01) ** -1.5
            speed = speed + 1e-4 * force.mean(1)
            place = place + 1e-2 * speed
        return place

    return graphed(kept(move, *(torch.randn(count, 3, device=DEVICE) for _ in range(2))))


def points() -> Made:
    """Neighbours of 1,024 points are looked for, gathered and pooled, three times."""
    model = Points(64 if not SMALL else 8).to(DEVICE)
    return graphed(kept(model, torch.randn(2, 1024 if not SMALL else 32, 3, device=DEVICE)))


def tables() -> Made:
    """Rows of a table as tokens, 12 layers with plain attention, 256 rows."""
    model = Table(64 if not SMALL else 16, 12 if not SMALL else 1).to(DEVICE, HALF)
    return graphed(kept(model, torch.randn(256 if not SMALL else 4, 24, device=DEVICE, dtype=HALF)))


def memory() -> Made:
    """A linear recurrence with gates over 96 moments, as models without attention have it."""
    model = Recurrence(512 if not SMALL else 16).to(DEVICE, HALF)
    return graphed(kept(model, torch.randn(96 if not SMALL else 4, 8, model.width, device=DEVICE, dtype=HALF)))


def matching() -> Made:
    """Two towers are trained to match, a whole step with Adam; then as one graph."""
    width = 384 if not SMALL else 16
    towers = [Blocks(width, 6 if not SMALL else 1).to(DEVICE) for _ in range(2)]
    optimizer = torch.optim.Adam([w for tower in towers for w in tower.parameters()], 1e-4, capturable=CUDA)
    pairs = [torch.randn(128, width, device=DEVICE) for _ in range(2)]
    target = torch.arange(128, device=DEVICE)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        one, other = (functional.normalize(tower(x), dim=-1) for tower, x in zip(towers, pairs, strict=True))
        alike = 20 * one @ other.T
        (functional.cross_entropy(alike, target) + functional.cross_entropy(alike.T, target)).backward()
        optimizer.step()

    return graphed(train)


def beams() -> Made:
    """Five beams: the best go on, their states are put in order, and the host reads them each step."""
    width, vocabulary, beams = (768, 8000, 5) if not SMALL else (16, 64, 3)
    blocks, head = Blocks(width, 10 if not SMALL else 1).to(DEVICE, HALF), nn.Linear(width, vocabulary).to(DEVICE, HALF)
    embedding = torch.randn(vocabulary, width, device=DEVICE, dtype=HALF)
    state = torch.randn(beams, width, device=DEVICE, dtype=HALF)
    scores, letters = torch.zeros(beams, 1, device=DEVICE), torch.zeros(beams, dtype=torch.long, device=DEVICE)

    def advance() -> None:
        with torch.no_grad():
            state.copy_(torch.tanh(0.5 * state + blocks(state + embedding[letters])))
            best, place = (scores + functional.log_softmax(head(state).float(), -1)).flatten().topk(beams)
            state.copy_(state[place // vocabulary])
            letters.copy_(place % vocabulary)
            scores.copy_((best - best.max())[:, None])

    def step(run: Step) -> None:
        run()
        letters.tolist()

    return partial(step, advance), lambda: partial(step, captured(advance))


def market() -> Made:
    """Prices are simulated in numpy, a net trades, and its orders go back; then the net is one graph."""
    width = 256 if not SMALL else 16
    net = Blocks(width, 8 if not SMALL else 1).to(DEVICE).requires_grad_(False)
    seen = torch.zeros(128, width, device=DEVICE)
    orders = torch.zeros_like(seen)
    prices, chance = np.zeros((128, width), np.float32), np.random.default_rng(0)

    def trade() -> None:
        orders.copy_(torch.tanh(net(seen)))

    def step(run: Step) -> None:
        seen.copy_(torch.from_numpy(prices))
        run()
        ordered = orders.cpu().numpy()
        for _ in range(6):
            prices[:] = 0.95 * prices + 0.1 * chance.standard_normal(prices.shape, np.float32) + 0.01 * ordered

    return partial(step, trade), lambda: partial(step, captured(trade))


class Rows(Dataset):  # type: ignore[type-arg]
    """Rows of text that are cut at commas and made numbers of in Python."""

    line = ",".join(f"{i * 0.37 % 7:.3f}" for i in range(128))

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([math.log1p(float(part)) for part in self.line.split(",")]), index % 2


def rows() -> Made:
    """Lines are parsed in Python, a net of 24 layers learns from them; then six workers parse."""
    net, head = Blocks(128, 24 if not SMALL else 1).to(DEVICE), nn.Linear(128, 2).to(DEVICE)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], 1e-3)

    def train(batches: Iterator[Any]) -> None:
        values, labels = next(batches)
        loss = functional.cross_entropy(head(net(values.to(DEVICE))), labels.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Rows(), batch_size=256 if not SMALL else 4, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


def volumes() -> Made:
    """Large volumes in pageable memory are made smooth on the device; then pinned, and fetched a step ahead."""
    side = 192 if not SMALL else 8
    given = [torch.randn(1, 4, side, side, side).half() for _ in range(2)]
    kernel = torch.full((4, 1, 3, 3, 3), 1 / 27, device=DEVICE, dtype=torch.half if CUDA else torch.float32)
    turn = iter(range(10**9))

    def smooth(x: torch.Tensor) -> torch.Tensor:
        x = x.to(kernel.dtype)
        for _ in range(2):
            x = 0.5 * x + 0.5 * functional.avg_pool3d(functional.relu(x), 3, 1, 1)
        return x.amax()

    def remedied() -> Step:
        if not CUDA:
            return lambda: smooth(given[next(turn) % 2].to(DEVICE))
        pinned, there = [one.pin_memory() for one in given], torch.cuda.Stream()
        ahead: list[torch.Tensor] = []

        def fetch() -> None:
            with torch.cuda.stream(there):
                ahead.append(pinned[next(turn) % 2].to(DEVICE, non_blocking=True))

        def step() -> None:
            here = torch.cuda.current_stream()
            here.wait_stream(there)
            x = ahead.pop()
            x.record_stream(here)
            fetch()
            smooth(x)

        fetch()
        return step

    return lambda: smooth(given[next(turn) % 2].to(DEVICE)), remedied


def gates() -> Made:
    """Wide gated layers with norms by hand, 8,192 rows; then compiled."""
    width, count = (1536, 8192) if not SMALL else (16, 8)
    weights = [
        [
            torch.randn(a, b, device=DEVICE, dtype=HALF) / math.sqrt(a)
            for a, b in ((width, 4 * width), (2 * width, width))
        ]
        for _ in range(6)
    ]

    def forward(x: torch.Tensor) -> torch.Tensor:
        for up, down in weights:
            y = x.float()
            y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
            one, other = (y @ up).chunk(2, -1)
            x = x + (functional.softplus(one) * torch.tanh(other)) @ down
        return x

    return compiled(forward, torch.randn(count, width, device=DEVICE, dtype=HALF))


def towers() -> Made:
    """Layers of a transformer with norms and activations by hand, trained on 8,192 rows; then compiled."""
    width, count = (1024, 8192) if not SMALL else (16, 8)
    net = Blocks(width, 6 if not SMALL else 1, by_hand=True).to(DEVICE, HALF)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-4, fused=CUDA)
    x = torch.randn(count, width, device=DEVICE, dtype=HALF)

    def train(run: Callable[..., torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        run(x).float().pow(2).mean().backward()
        optimizer.step()

    return partial(train, net), lambda: partial(train, torch.compile(net) if CUDA else net)


WORKLOADS: dict[str, Workload] = {
    "textures": Workload(textures, "graph", "ConvNeXt, two pictures"),
    "windows": Workload(windows, "graph", "attention in windows, as Swin has it"),
    "pictures": Workload(pictures, "graph", "a latent is decoded into a picture"),
    "bodies": Workload(bodies, "graph", "bodies that draw each other"),
    "points": Workload(points, "graph", "neighbours of points, gathered and pooled"),
    "tables": Workload(tables, "graph", "rows of a table as tokens"),
    "memory": Workload(memory, "graph", "a linear recurrence with gates"),
    "matching": Workload(matching, "graph", "two towers trained to match, with Adam"),
    "beams": Workload(beams, "graph", "five beams, read by the host"),
    "market": Workload(market, "graph", "prices in numpy and a net that trades"),
    "rows": Workload(rows, "workers", "lines parsed in Python, training; then 6 workers"),
    "volumes": Workload(volumes, "overlap", "volumes from pageable memory; then pinned and a step ahead"),
    "gates": Workload(gates, "compile", "wide gated layers, norms by hand"),
    "towers": Workload(towers, "compile", "layers by hand, trained; then compiled"),
}
