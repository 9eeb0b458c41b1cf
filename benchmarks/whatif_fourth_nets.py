"""The models of whatif_fourth.py: one of transformers' own, others in plain torch, with random weights."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from transformers import ConvNextConfig, ConvNextModel
from whatif_models import DEVICE, HALF, SMALL


def convnext() -> nn.Module:
    """A small ConvNeXt."""
    sizes = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 6, 2]} if not SMALL else {}
    small = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    return ConvNextModel(ConvNextConfig(**(sizes or small))).to(DEVICE, HALF).eval().requires_grad_(False)


def swin() -> nn.Module:
    """Attention in windows."""
    return Windows(128 if not SMALL else 16, 6 if not SMALL else 1).to(DEVICE, HALF)


class Windows(nn.Module):
    """Layers whose attention stays in windows of 7 x 7, shifted in every second one."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 8, 8) if not SMALL else nn.Conv2d(3, width, 4, 4, 0)
        self.size, self.heads = 7 if not SMALL else 4, 4
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(layers)
        )
        self.bias = nn.Parameter(torch.zeros(self.heads, self.size**2, self.size**2))
        self.requires_grad_(False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = self.enter(pictures).permute(0, 2, 3, 1)
        for i, (mixed, out, mlp) in enumerate(zip(self.mixed, self.out, self.mlp, strict=True)):
            y = torch.roll(x, (-(self.size // 2),) * 2, (1, 2)) if i % 2 else x
            rows, side, _, width = y.shape
            count = side // self.size
            y = y.view(rows, count, self.size, count, self.size, width).transpose(2, 3).reshape(-1, self.size**2, width)
            parts = mixed(functional.layer_norm(y, (width,))).view(len(y), -1, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            near = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + self.bias, -1)
            y = out((near @ value).transpose(1, 2).reshape(len(y), -1, width))
            y = y.view(rows, count, count, self.size, self.size, width).transpose(2, 3).reshape(x.shape)
            x = x + (torch.roll(y, (self.size // 2,) * 2, (1, 2)) if i % 2 else y)
            x = x + mlp(x)
        return x.mean((1, 2))


class Decoded(nn.Module):
    """From a latent to a picture, as an autoencoder's second half does it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for _ in range(12))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(12))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            if i in (4, 8):
                x = functional.interpolate(x, scale_factor=2)
            x = x + convolution(functional.silu(norm(x)))
        return torch.tanh(self.leave(x))


class Points(nn.Module):
    """Each point's sixteen nearest are gathered and pooled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(one, width), nn.ReLU(), nn.Linear(width, width))
            for one in (6, 2 * width, 2 * width)
        )
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for net in self.nets:
            apart = (x * x).sum(-1, keepdim=True) - 2 * x @ x.transpose(1, 2) + (x * x).sum(-1)[:, None]
            near = apart.topk(16, largest=False).indices.flatten(1)
            found = x.gather(1, near[..., None].expand(-1, -1, x.shape[-1])).unflatten(1, (-1, 16))
            here = x[:, :, None].expand_as(found)
            x = net(torch.cat((here, found - here), -1)).amax(2)
        return x.amax(1)


class Table(nn.Module):
    """A transformer over the fields of a row."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.field, self.place = nn.Parameter(torch.randn(24, width)), nn.Parameter(torch.randn(24, width))
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)) for _ in range(layers)
        )
        self.requires_grad_(False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        x = values[..., None] * self.field + self.place
        for mixed, mlp in zip(self.mixed, self.mlp, strict=True):
            query, key, value = mixed(functional.layer_norm(x, x.shape[-1:])).chunk(3, -1)
            x = x + torch.softmax(query @ key.transpose(1, 2) / math.sqrt(x.shape[-1]), -1) @ value
            x = x + mlp(functional.layer_norm(x, x.shape[-1:]))
        return x.mean(1)


class Recurrence(nn.Module):
    """A state that decays by a gate and takes in products, moment by moment."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.parts, self.out = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key, value, gate, read = self.parts(x).chunk(4, -1)
        gate, state, result = torch.sigmoid(gate + 2), torch.zeros_like(x[0]), []
        for moment in range(len(x)):
            state = gate[moment] * state + (1 - gate[moment]) * key[moment] * value[moment]
            result.append(functional.silu(read[moment]) * state)
        return self.out(torch.stack(result))


class Blocks(nn.Module):
    """Norm, wide, narrow, added: layer after layer."""

    def __init__(self, width: int, layers: int, *, by_hand: bool = False) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.wide = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            if self.by_hand:
                y = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5)
                z = wide(y)
                z = z * 0.5 * (1 + torch.erf(z * 0.7071))
            else:
                z = functional.gelu(wide(functional.layer_norm(x, x.shape[-1:])))
            x = x + narrow(z)
        return x
