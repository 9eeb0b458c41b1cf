"""The models of whatif_workloads.py: plain torch, random weights, single operators as model code writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import IterableDataset

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
HALF = torch.bfloat16 if CUDA else torch.float32
SMALL = not CUDA
"""Without a GPU everything is small: only whether it runs is of interest."""

Step = Callable[[], Any]
Batch = tuple[torch.Tensor, ...]


def fetched(stored: Iterator[Batch], use: Callable[..., Any]) -> Step:
    """A step whose batch was copied from pinned memory during the step before, on a stream of its own."""
    if not CUDA:
        return lambda: use(*next(stored))
    beside, ahead = torch.cuda.Stream(), []

    def fetch() -> None:
        with torch.cuda.stream(beside):
            ahead.append([part.to(DEVICE, non_blocking=True) for part in next(stored)])

    def step() -> None:
        here = torch.cuda.current_stream()
        here.wait_stream(beside)
        batch = ahead.pop()
        for part in batch:
            part.record_stream(here)
        fetch()
        use(*batch)

    fetch()
    return step


class Norm(nn.Module):
    """RMS norm in single operators, as model code writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


class Layer(nn.Module):
    """A decoder layer with a cache of fixed size."""

    def __init__(self, width: int, heads: int, rows: int, positions: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm, self.norm_mlp = Norm(width), Norm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 3 * width, bias=False)
        self.down = nn.Linear(3 * width, width, bias=False)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(rows, heads, positions, self.size))

    def project(self, x: torch.Tensor, at: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """The query, after keys and values were written to the cache."""
        x = self.norm(x)
        rows, count, _ = x.shape

        def apart(y: torch.Tensor) -> torch.Tensor:
            return y.view(rows, count, self.heads, self.size).transpose(1, 2)

        cos, sin = turn
        query, key = apart(self.query(x)), apart(self.key(x))
        query, key = query * cos + turned(query) * sin, key * cos + turned(key) * sin
        self.keys.index_copy_(2, at, key)
        self.values.index_copy_(2, at, apart(self.value(x)))
        return query

    def attend(self, query: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Attention over the cache."""
        return functional.scaled_dot_product_attention(query, self.keys, self.values, attn_mask=mask)

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Output projection and MLP."""
        rows, _, count, _ = attended.shape
        x = x + self.out(attended.transpose(1, 2).reshape(rows, count, -1))
        y = self.norm_mlp(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


def turned(x: torch.Tensor) -> torch.Tensor:
    """Half of the rotation of rotary embeddings."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((-other, one), dim=-1)


class Decoder(nn.Module):
    """A small language model that decodes greedily; token, position and cache stay where they are."""

    def __init__(self, layers: int = 24, *, width: int = 1024, rows: int = 1, positions: int = 512) -> None:
        super().__init__()
        if SMALL:
            layers, width, positions = 2, 64, 128
        self.vocabulary = 32_000 if not SMALL else 256
        self.embedding = nn.Embedding(self.vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, 16, rows, positions) for _ in range(layers))
        self.norm, self.head = Norm(width), nn.Linear(width, self.vocabulary, bias=False)
        self.to(DEVICE, HALF).requires_grad_(False)
        self.token = torch.zeros(rows, 1, dtype=torch.long, device=DEVICE)
        self.position = torch.full((1,), positions // 8, dtype=torch.long, device=DEVICE)
        self.places = torch.arange(positions, device=DEVICE)
        size = width // 16
        self.frequency = 1e4 ** (-torch.arange(0, size, 2, device=DEVICE).float() / size)

    def begin(self) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Embedding, rotation and mask."""
        angle = torch.cat((self.position[:, None] * self.frequency,) * 2, dim=-1)
        mask = (self.places <= self.position)[None, None, None, :]
        return self.embedding(self.token), (angle.cos().to(HALF), angle.sin().to(HALF)), mask

    def end(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.norm(x))[:, -1]

    def logits(self) -> torch.Tensor:
        """One decode forward."""
        x, turn, mask = self.begin()
        for layer in self.layers:
            x = layer.finish(x, layer.attend(layer.project(x, self.position, turn), mask))
        return self.end(x)

    def advance(self) -> None:
        """One greedy token. The position stays within the cache."""
        self.token.copy_(self.logits().argmax(-1, keepdim=True))
        self.position.copy_((self.position + 1) % len(self.places))


class Pictures(IterableDataset):  # type: ignore[type-arg]
    """Pictures that take the processor a while each."""

    def __iter__(self) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        chance, i = np.random.default_rng(0), 0
        size = 160 if not SMALL else 16
        while True:
            raw = chance.integers(0, 255, (3, size, size), dtype=np.uint8).astype(np.float32) / 255
            flipped = raw[:, :, ::-1] if i % 2 else raw
            noisy = flipped * np.float32(1.1) + np.sqrt(flipped + np.float32(0.01))
            yield np.ascontiguousarray((noisy - noisy.mean((1, 2), keepdims=True)) / noisy.std()), i % 10
            i += 1


def residual_net(width: int, blocks: int) -> nn.Module:
    """A small convolutional classifier."""
    parts: list[nn.Module] = [nn.Conv2d(3, width, 7, 4, 3), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(blocks):
        parts += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)).to(DEVICE)


class Block(nn.Module):
    """A residual block of a denoising network."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList((nn.GroupNorm(8, one), nn.GroupNorm(8, other)))
        self.convolutions = nn.ModuleList((nn.Conv2d(one, other, 3, padding=1), nn.Conv2d(other, other, 3, padding=1)))
        self.time, self.skip = nn.Linear(128, other), nn.Conv2d(one, other, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        y = self.convolutions[0](functional.silu(self.norms[0](x))) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.convolutions[1](functional.silu(self.norms[1](y)))
