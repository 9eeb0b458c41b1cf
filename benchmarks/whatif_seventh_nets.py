"""The models of whatif_seventh.py: published ones with random weights, and nets that no library here has."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from whatif_models import DEVICE, HALF, SMALL, Step
from whatif_workloads import captured


def library(name: str) -> Any:
    """A module of a library that need not be installed; its programs are left out then.

    Raises:
        ModuleNotFoundError: the library isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"left out, because {name.partition('.')[0]} is not installed") from None


def published(kind: str, *, writes: bool = False, attention: str = "eager", **changed: Any) -> Any:
    """A model of transformers in the dtype of the run.

    Args:
        kind: its model type.
        writes: with a head that says the next token.
        attention: how attention is computed.
        changed: what differs from the type's own configuration.
    """
    config = AutoConfig.for_model(kind, **changed)
    config._attn_implementation = attention
    with torch.device(DEVICE):
        model = (AutoModelForCausalLM if writes else AutoModel).from_config(config)
    return model.to(DEVICE, HALF).eval().requires_grad_(False)


def decoder_sizes(width: int, layers: int, heads: int, kept_heads: int) -> dict[str, int]:
    """The configuration of a decoder, small without a GPU."""
    width, layers, heads, kept_heads = (width, layers, heads, kept_heads) if not SMALL else (32, 2, 4, 2)
    return {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kept_heads,
        "head_dim": width // heads,
        "vocab_size": 16_000 if not SMALL else 100,
        "max_position_embeddings": 2048,
    }


def seen_so_far(asked: int, known: int) -> torch.Tensor:
    """What is added to the scores: of `known` places, the last `asked` ask and see none after themselves."""
    places = torch.arange(known, device=DEVICE)
    later = places[None] > places[known - asked :, None]
    return torch.zeros(asked, known, device=DEVICE, dtype=HALF).masked_fill(later, torch.finfo(HALF).min)[None, None]


def piece_by_piece(pieces: list[Step], attentions: list[Step], before: Step, after: Step) -> tuple[Step, Any]:
    """An engine's step whose attention runs between captured pieces, and a function that makes it one graph.

    Args:
        pieces: what is captured by itself, one more than attentions.
        attentions: what runs between two pieces.
        before: the host's part ahead of the step.
        after: its part behind it.
    """

    def whole() -> None:
        for piece, attention in zip(pieces, attentions, strict=False):
            piece()
            attention()
        pieces[-1]()

    replays: list[Step] = []

    def step() -> None:
        before()
        if not replays:
            whole()  # once as it is, so that each piece is captured of what its attention really gives
            replays.extend(captured(piece) for piece in pieces)
        for replay, attention in zip(replays, attentions, strict=False):
            replay()
            attention()
        replays[-1]()
        after()

    def remedied() -> Step:
        one = captured(whole)
        return lambda: (before(), one(), after())

    return step, remedied


class Spread(nn.Module):
    """Pixels look at each other and at words: attention of a latent diffusion net, with a gated MLP."""

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.heads = max(width // 64, 1)
        self.enter, self.leave = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.group = nn.GroupNorm(8, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.asks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.keys = nn.ModuleList(nn.Linear(n, width, bias=False) for n in (width, words))
        self.values = nn.ModuleList(nn.Linear(n, width, bias=False) for n in (width, words))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.wide, self.narrow = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        y = self.enter(self.group(x)).flatten(2).transpose(1, 2)
        for i in range(2):
            asked = self.norms[i](y)
            given = words if i else asked
            parts = (self.asks[i](asked), self.keys[i](given), self.values[i](given))
            apart = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
            seen = functional.scaled_dot_product_attention(*apart)
            y = y + self.outs[i](seen.transpose(1, 2).flatten(2))
        value, gate = self.wide(self.norms[2](y)).chunk(2, -1)
        y = y + self.narrow(value * functional.gelu(gate))
        return x + self.leave(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Noisy(nn.Module):
    """Two convolutions that know the moment."""

    def __init__(self, one: int, other: int, moment: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(8, n) for n in (one, other))
        self.first, self.second = nn.Conv2d(one, other, 3, padding=1), nn.Conv2d(other, other, 3, padding=1)
        self.moment = nn.Linear(moment, other)
        self.skip = nn.Conv2d(one, other, 1) if one != other else nn.Identity()

    def forward(self, x: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        y = self.first(functional.silu(self.norms[0](x)))
        y = y + self.moment(functional.silu(moment))[:, :, None, None]
        return self.skip(x) + self.second(functional.silu(self.norms[1](y)))


class Latents(nn.Module):
    """A latent diffusion net: three sizes, attention to words in the two smaller ones."""

    def __init__(self, widths: tuple[int, int, int], words: int) -> None:
        super().__init__()
        first, middle, last = widths
        self.width, moment = first, 4 * first
        self.moment = nn.Sequential(nn.Linear(first, moment), nn.SiLU(), nn.Linear(moment, moment))
        self.enter = nn.Conv2d(4, first, 3, padding=1)
        self.down = nn.ModuleList(
            Noisy(one, other, moment)
            for one, other in ((first, first), (first, first), (first, middle), (middle, middle), (middle, last))
        )
        self.smaller = nn.ModuleList(nn.Conv2d(n, n, 3, 2, 1) for n in (first, middle))
        self.low = nn.ModuleList(Noisy(last, last, moment) for _ in range(2))
        self.up = nn.ModuleList(
            Noisy(one, other, moment)
            for one, other in (
                (2 * last, last),
                (last + middle, middle),
                (2 * middle, middle),
                (middle + first, first),
                (2 * first, first),
            )
        )
        self.larger = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1) for n in (last, middle))
        self.looks = nn.ModuleList(Spread(n, words) for n in (middle, middle, last, last, last, middle, middle))
        self.leave = nn.Sequential(nn.GroupNorm(8, first), nn.SiLU(), nn.Conv2d(first, 4, 3, padding=1))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor, time: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        rate = torch.exp(-math.log(10_000) * torch.arange(half, device=x.device, dtype=torch.float32) / half)
        angle = time.float()[:, None] * rate
        moment = self.moment(torch.cat((angle.cos(), angle.sin()), -1).to(x.dtype))
        x, looks, kept = self.enter(x), iter(self.looks), []
        for i, block in enumerate(self.down):
            if i in {2, 4}:
                x = self.smaller[i // 2 - 1](x)
            x = block(x, moment)
            x = next(looks)(x, words) if i > 1 else x
            kept.append(x)
        x = self.low[1](next(looks)(self.low[0](x, moment), words), moment)
        for i, block in enumerate(self.up):
            x = block(torch.cat((x, kept.pop()), 1), moment)
            x = next(looks)(x, words) if i in {0, 1, 2} else x
            if i in {0, 2}:
                x = self.larger[i // 2](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.leave(x)


class Joined(nn.Module):
    """A block of a diffusion transformer in which a picture and words attend together, each with weights of its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.shifts = nn.ModuleList(nn.Linear(width, 6 * width) for _ in range(2))
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)) for _ in range(2)
        )
        self.scales = nn.ParameterList(torch.ones(width // heads) for _ in range(4))

    def even(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """RMS norm of each head."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * scale

    def forward(self, both: list[torch.Tensor], moment: torch.Tensor) -> list[torch.Tensor]:
        parts, given = [], []
        for i, x in enumerate(both):
            shifts = self.shifts[i](functional.silu(moment))[:, None].chunk(6, -1)
            y = functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + shifts[1]) + shifts[0]
            query, key, value = self.mixed[i](y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            parts.append((self.even(query, self.scales[2 * i]), self.even(key, self.scales[2 * i + 1]), value))
            given.append(shifts)
        seen = functional.scaled_dot_product_attention(*(torch.cat(pair, 2) for pair in zip(*parts, strict=True)))
        halves = seen.transpose(1, 2).flatten(2).split([x.shape[1] for x in both], 1)
        made = []
        for i, (x, y, shifts) in enumerate(zip(both, halves, given, strict=True)):
            x = x + shifts[2] * self.outs[i](y)
            z = functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + shifts[4]) + shifts[3]
            made.append(x + shifts[5] * self.mlps[i](z))
        return made


def flowing(rows: int, columns: int, moments: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A fluid around a disc by the lattice Boltzmann method with nine ways, some moments of it.

    Args:
        rows: of the lattice.
        columns: of the lattice.
        moments: how many.
    """
    ways = [(0, 0), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
    back = torch.tensor([0, 5, 6, 7, 8, 1, 2, 3, 4], device=DEVICE)
    share = torch.tensor([4 / 9, *(1 / 9, 1 / 36) * 4], device=DEVICE)[:, None, None]
    down, right = (torch.tensor([way[i] for way in ways], device=DEVICE).float()[:, None, None] for i in range(2))
    row, column = torch.arange(rows, device=DEVICE)[:, None], torch.arange(columns, device=DEVICE)[None]
    disc = (row - rows / 2) ** 2 + (column - columns / 4) ** 2 < (rows / 8) ** 2

    def forward(start: torch.Tensor) -> torch.Tensor:
        flow = start
        for _ in range(moments):
            flow = torch.stack([torch.roll(flow[i], way, (0, 1)) for i, way in enumerate(ways)])
            bounced = flow[back]
            density = flow.sum(0)
            one, other = (flow * right).sum(0) / density, (flow * down).sum(0) / density
            along = right * one + down * other
            even = share * density * (1 + 3 * along + 4.5 * along**2 - 1.5 * (one**2 + other**2))
            flow = torch.where(disc, bounced, flow - (flow - even) / 0.6)
        return flow

    return forward
