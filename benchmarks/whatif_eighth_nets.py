"""Nets of whatif_eighth.py that no library here has, and how a step's batch is fetched a step ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from whatif_models import CUDA, DEVICE, Batch, Step


def pinned(parts: Batch) -> Batch:
    """The same host tensors in pinned memory."""
    return tuple(part.pin_memory() for part in parts) if CUDA else parts


def in_two_places(stored: Iterator[Batch], like: Batch, use: Callable[..., Any]) -> Step:
    """The same with two places on the device that are filled in turn.

    Args:
        stored: the batches in pinned memory.
        like: one of them.
        use: the step.
    """
    if not CUDA:
        return lambda: use(*next(stored))
    beside, count = torch.cuda.Stream(), iter(range(10**9))
    places = [[torch.empty_like(part, device=DEVICE, pin_memory=False) for part in like] for _ in range(2)]
    arrived, free = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))

    def fetch(at: int) -> None:
        with torch.cuda.stream(beside):
            beside.wait_event(free[at])
            for place, part in zip(places[at], next(stored), strict=True):
                place.copy_(part, non_blocking=True)
            arrived[at].record()

    def step() -> None:
        at, here = next(count) % 2, torch.cuda.current_stream()
        fetch(1 - at)
        here.wait_event(arrived[at])
        use(*places[at])
        free[at].record()

    for event in free:
        event.record()
    fetch(0)
    return step


class Spectral(nn.Module):
    """Weights for the low frequencies of a field."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weights = nn.ParameterList(torch.randn(width, width, modes, modes, 2) / width for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        there, n = torch.fft.rfft2(x), self.modes
        made = torch.zeros_like(there)
        for at, weight in zip((slice(0, n), slice(-n, None)), self.weights, strict=True):
            made[:, :, at, :n] = torch.einsum("bixy,ioxy->boxy", there[:, :, at, :n], torch.view_as_complex(weight))
        return torch.fft.irfft2(made, s=x.shape[-2:])


class Fourier(nn.Module):
    """A Fourier neural operator from fields to fields."""

    def __init__(self, fields: int, width: int, modes: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(fields, width, 1)
        self.spectral = nn.ModuleList(Spectral(width, modes) for _ in range(layers))
        self.beside = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.leave = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, fields, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for spectral, beside in zip(self.spectral, self.beside, strict=True):
            x = functional.gelu(spectral(x) + beside(x))
        return self.leave(x)


class Letters(nn.Module):
    """Convolutions and an LSTM in both directions read a line of text, a chance for each letter and column."""

    def __init__(self, width: int, letters: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for one, other, shrink in (
            (1, width, (2, 2)),
            (width, 2 * width, (2, 2)),
            (2 * width, 4 * width, (2, 1)),
            (4 * width, 4 * width, (2, 1)),
            (4 * width, 8 * width, (2, 1)),
        ):
            parts += [nn.Conv2d(one, other, 3, padding=1), nn.BatchNorm2d(other), nn.ReLU(), nn.MaxPool2d(shrink)]
        self.see = nn.Sequential(*parts)
        self.read = nn.LSTM(8 * width, 4 * width, num_layers=2, bidirectional=True)
        self.say = nn.Linear(8 * width, letters)

    def forward(self, lines: torch.Tensor) -> torch.Tensor:
        columns = self.see(lines).squeeze(2).permute(2, 0, 1)
        return self.say(self.read(columns)[0]).log_softmax(-1)


class Patches(nn.Module):
    """A transformer over patches of a cloud of points: each patch is pooled to one vector."""

    def __init__(self, width: int, layers: int, kinds: int) -> None:
        super().__init__()
        middle = width // 3
        self.first = nn.Sequential(
            nn.Conv1d(3, middle, 1), nn.BatchNorm1d(middle), nn.ReLU(), nn.Conv1d(middle, 2 * middle, 1)
        )
        self.second = nn.Sequential(
            nn.Conv1d(4 * middle, width, 1), nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 1)
        )
        self.where = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        layer = nn.TransformerEncoderLayer(width, max(width // 64, 1), 4 * width, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.say = nn.Linear(2 * width, kinds)

    def forward(self, patches: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        rows, count = patches.shape[:2]
        x = self.first(patches.flatten(0, 1).transpose(1, 2))
        x = self.second(torch.cat((x.amax(-1, keepdim=True).expand_as(x), x), 1)).amax(-1)
        x = self.layers(x.view(rows, count, -1) / math.sqrt(2) + self.where(centres))
        return self.say(torch.cat((x.mean(1), x.amax(1)), -1))
