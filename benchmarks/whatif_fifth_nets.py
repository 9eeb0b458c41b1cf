"""The models of whatif_fifth.py: plain torch, random weights, other architectures than those of the sets before."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional
from whatif_models import DEVICE, HALF, SMALL


class Motion(nn.Module):
    """How a picture moves into the next: all places are compared, then a gated net corrects the motion six times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 2, 1),
        )
        self.gate, self.new = (
            nn.Conv2d(2 * width + 51, width, 3, padding=1),
            nn.Conv2d(2 * width + 51, width, 3, padding=1),
        )
        self.leave = nn.Conv2d(width, 2, 3, padding=1)
        near = torch.linspace(-3, 3, 7)
        self.register_buffer("near", torch.stack(torch.meshgrid(near, near, indexing="xy"), -1)[None])
        self.requires_grad_(False)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        first, second = self.enter(one), self.enter(other)
        _, width, high, wide = first.shape
        alike = (first.flatten(2).transpose(1, 2) @ second.flatten(2) / math.sqrt(width)).view(-1, 1, high, wide)
        rows, columns = torch.arange(high, device=one.device), torch.arange(wide, device=one.device)
        place = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(one.dtype)
        moved, state = torch.zeros_like(place), torch.tanh(first)
        for _ in range(6 if not SMALL else 1):
            around = (place + moved).view(-1, 1, 1, 2) + self.near
            around = 2 * around / max(high - 1, 1) - 1
            seen = functional.grid_sample(alike, around, align_corners=True).view(1, high, wide, 49).permute(0, 3, 1, 2)
            x = torch.cat((state, first, seen, moved.permute(2, 0, 1)[None]), 1)
            gate = torch.sigmoid(self.gate(x))
            state = (1 - gate) * state + gate * torch.tanh(self.new(x))
            moved = moved + self.leave(state)[0].permute(1, 2, 0)
        return moved


class Waves(nn.Module):
    """Long convolutions by Fourier transforms between gated layers."""

    def __init__(self, width: int, length: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.leave = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.long = nn.ParameterList(torch.randn(width, length) / length for _ in range(layers))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        for enter, leave, long in zip(self.enter, self.leave, self.long, strict=True):
            one, other, value = enter(functional.layer_norm(x, x.shape[-1:])).transpose(1, 2).chunk(3, 1)
            heard = torch.fft.rfft((other * value).float(), n=2 * length)
            heard = torch.fft.irfft(heard * torch.fft.rfft(long.float(), n=2 * length), n=2 * length)[..., :length]
            x = x + leave((one * heard.to(x.dtype)).transpose(1, 2))
        return x


class Field(nn.Module):
    """Colour and density of places, asked along rays and added up to pixels."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        sizes = [60, *[width] * layers]
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(sizes))
        self.leave = nn.Linear(width, 4)
        self.register_buffer("pitch", 2.0 ** torch.arange(10))
        self.requires_grad_(False)

    def forward(self, start: torch.Tensor, way: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        places = start[:, None] + way[:, None] * far[None, :, None]
        angle = (places[..., None] * self.pitch).flatten(-2)
        x = torch.cat((angle.sin(), angle.cos()), -1).to(HALF)
        for layer in self.layers:
            x = functional.relu(layer(x))
        made = self.leave(x).float()
        solid = 1 - torch.exp(-functional.softplus(made[..., 3]) * (far[1] - far[0]))
        open_yet = torch.cumprod(torch.cat((torch.ones_like(solid[:, :1]), 1 - solid[:, :-1] + 1e-6), 1), 1)
        return (torch.sigmoid(made[..., :3]) * (solid * open_yet)[..., None]).sum(1)


class Couplings(nn.Module):
    """A normalising flow: one half of the numbers says how the other is scaled and shifted, again and again."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        half = width // 2
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(half, hidden), nn.Tanh(), nn.Linear(hidden, 2 * half)) for _ in range(layers)
        )
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = x.chunk(2, -1)
        volume = torch.zeros_like(one[:, 0])
        for net in self.nets:
            scale, shift = net(one).chunk(2, -1)
            scale = torch.tanh(scale)
            other = other * torch.exp(scale) + shift
            volume = volume + scale.sum(-1)
            one, other = other, one
        return torch.cat((one, other, volume[:, None]), -1)


class Readers(nn.Module):
    """A few vectors read a long input by attention, and then each other."""

    def __init__(self, width: int, given: int, layers: int) -> None:
        super().__init__()
        self.heads, self.own = 8, nn.Parameter(torch.randn(1, 128 if not SMALL else 4, width))
        self.ask, self.given = nn.Linear(width, width), nn.Linear(given, 2 * width)
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers + 1))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers + 1)
        )
        self.requires_grad_(False)

    def apart(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        x = self.own.expand(len(given), -1, -1)
        key, value = self.given(given).chunk(2, -1)
        parts = (self.ask(functional.layer_norm(x, x.shape[-1:])), key, value)
        for i, (out, mlp) in enumerate(zip(self.out, self.mlp, strict=True)):
            if i:
                parts = self.mixed[i - 1](functional.layer_norm(x, x.shape[-1:])).chunk(3, -1)
            y = functional.scaled_dot_product_attention(*(self.apart(part) for part in parts))
            x = x + out(y.transpose(1, 2).flatten(2))
            x = x + mlp(x)
        return x.mean(1)


class Spikes(nn.Module):
    """Neurons that add up what they get and fire; three layers, moment by moment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.requires_grad_(False)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        charge = [torch.zeros_like(given[0]) for _ in self.layers]
        fired = torch.zeros_like(given[0])
        for moment in range(len(given)):
            x = given[moment]
            for i, layer in enumerate(self.layers):
                full = 0.9 * charge[i] + layer(x)
                x = (full > 1).to(full.dtype)
                charge[i] = full - x
            fired = fired + x
        return fired


class Adapted(nn.Module):
    """A transformer whose weights stay; narrow matrices beside queries and values are trained."""

    def __init__(self, width: int, layers: int, words: int) -> None:
        super().__init__()
        self.heads = 8
        self.words, self.head = nn.Embedding(words, width), nn.Linear(width, words, bias=False)
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.wide = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(layers))
        self.to(DEVICE, HALF).requires_grad_(False)
        self.down = nn.ParameterList(torch.randn(width, 8) / 30 for _ in range(2 * layers))
        self.up = nn.ParameterList(torch.zeros(8, width) for _ in range(2 * layers))
        self.to(DEVICE, HALF)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens)
        for i, (mixed, out, wide, narrow) in enumerate(zip(self.mixed, self.out, self.wide, self.narrow, strict=True)):
            y = functional.layer_norm(x, x.shape[-1:])
            query, key, value = mixed(y).chunk(3, -1)
            query = query + y @ self.down[2 * i] @ self.up[2 * i]
            value = value + y @ self.down[2 * i + 1] @ self.up[2 * i + 1]
            parts = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (query, key, value))
            y = functional.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
            x = x + out(y)
            x = x + narrow(functional.relu(wide(functional.layer_norm(x, x.shape[-1:]))).square())
        return self.head(x)


class Codes(nn.Module):
    """Writes four codes of sound at a time; attention and MLP of a layer work beside each other on one norm."""

    def __init__(self, width: int, layers: int, positions: int) -> None:
        super().__init__()
        self.heads, self.codes = 16 if not SMALL else 4, 1024 if not SMALL else 32
        self.given = nn.Parameter(torch.randn(4, self.codes, width))
        self.mixed = nn.ModuleList(nn.Linear(width, 7 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(5 * width, width) for _ in range(layers))
        self.heads_of_codes = nn.Linear(width, 4 * self.codes)
        kept = torch.zeros(layers, 2, 1, self.heads, positions, width // self.heads)
        self.register_buffer("kept", kept)
        self.to(DEVICE, HALF).requires_grad_(False)
        self.token = torch.zeros(4, dtype=torch.long, device=DEVICE)
        self.position = torch.full((1,), positions // 4, dtype=torch.long, device=DEVICE)
        self.places, self.each = torch.arange(positions, device=DEVICE), torch.arange(4, device=DEVICE)

    def advance(self) -> None:
        """One moment of sound; the position stays within what is kept."""
        x = self.given[self.each, self.token].sum(0)[None, None]
        seen = (self.places <= self.position)[None, None, None]
        for i, (mixed, out) in enumerate(zip(self.mixed, self.out, strict=True)):
            width = x.shape[-1]
            parts, wide = mixed(functional.layer_norm(x, (width,))).split((3 * width, 4 * width), -1)
            query, key, value = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in parts.chunk(3, -1))
            keys, values = self.kept[i]
            keys.index_copy_(2, self.position, key)
            values.index_copy_(2, self.position, value)
            y = functional.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
            x = x + out(torch.cat((y.transpose(1, 2).flatten(2), functional.silu(wide)), -1))
        self.token.copy_(self.heads_of_codes(x).view(4, -1).argmax(-1))
        self.position.copy_((self.position + 1) % len(self.places))


class Boards(nn.Module):
    """What to play and who wins: residual convolutions over boards."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2 * blocks))
        self.play, self.win = nn.Conv2d(width, 1, 1), nn.Linear(width, 1)
        self.requires_grad_(False)

    def forward(self, boards: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.enter(boards))
        for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            x = functional.relu(x + other(functional.relu(one(x))))
        play = torch.softmax(self.play(x).flatten(1).float(), -1)
        return torch.cat((play, torch.tanh(self.win(x.mean((2, 3)))).float()), -1)


class Scenes(nn.Module):
    """What each pixel shows: convolutions with holes, seen at four distances at once, and made large again."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(3, width, 7, 4, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=2**i, dilation=2**i, bias=False), nn.BatchNorm2d(width), nn.ELU()
            )
            for i in (j % 3 for j in range(blocks))
        )
        self.far = nn.ModuleList(nn.Conv2d(width, width, 3, padding=i, dilation=i) for i in (1, 4, 8, 12))
        self.leave = nn.Conv2d(4 * width, 21, 1)
        self.requires_grad_(False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.enter(pictures)
        for block in self.blocks:
            x = x + block(x)
        seen = self.leave(torch.cat([functional.relu(far(x)) for far in self.far], 1))
        return functional.interpolate(seen, scale_factor=4, mode="bilinear").softmax(1)


def residual(width: int, blocks: int) -> nn.Module:
    """Residual convolutions with batch norms, to be trained."""
    return Residual(width, blocks).to(DEVICE, memory_format=torch.channels_last)


class Residual(nn.Module):
    """A classifier of pictures, whose norms are of the batch."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2 * blocks))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2 * blocks))
        self.head = nn.Linear(width, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for i in range(0, len(self.norms), 2):
            y = self.convolutions[i](functional.silu(self.norms[i](x)))
            x = x + self.convolutions[i + 1](functional.silu(self.norms[i + 1](y)))
        return self.head(x.mean((2, 3)))


def sound_net(width: int, layers: int, classes: int) -> nn.Module:
    """One-dimensional convolutions in steps of two, then by channel and across."""
    parts: list[nn.Module] = [nn.Conv1d(1, width, 16, 8), nn.ReLU()]
    for i in range(layers):
        parts += [
            nn.Conv1d(width, width, 5, 1 + (i < 3), 2, groups=width),
            nn.Conv1d(width, width, 1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
        ]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, classes)).to(DEVICE)
