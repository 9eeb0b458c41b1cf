"""The models of whatif_third.py: transformers' own architectures with random weights, and nets in plain torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaModel,
    ViTConfig,
    ViTModel,
    WhisperConfig,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from whatif_models import DEVICE, HALF, SMALL


def sizes(width: int, layers: int, heads: int) -> dict[str, int]:
    """The names that most configurations have in common."""
    width, layers, heads = (width, layers, heads) if not SMALL else (32, 1, 4)
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


def ready(model: nn.Module) -> nn.Module:
    """For inference on the device."""
    return model.to(DEVICE, HALF).eval().requires_grad_(False)


def bert() -> nn.Module:
    """Half of BERT."""
    return ready(BertModel(BertConfig(vocab_size=1000, **sizes(768, 6, 12)), add_pooling_layer=False))


def bart() -> nn.Module:
    """BART with six layers on each side."""
    width, layers, heads = (512, 6, 8) if not SMALL else (32, 1, 4)
    each: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        each |= {f"{side}_layers": layers, f"{side}_attention_heads": heads, f"{side}_ffn_dim": 4 * width}
    return ready(BartModel(BartConfig(vocab_size=1000, d_model=width, max_position_embeddings=512, **each)))


def mamba() -> nn.Module:
    """Mamba with four layers."""
    width, layers = (512, 4) if not SMALL else (16, 1)
    return ready(MambaModel(MambaConfig(vocab_size=1000, hidden_size=width, num_hidden_layers=layers)))


def vit() -> nn.Module:
    """A ViT with eight layers."""
    side = 224 if not SMALL else 32
    return ready(ViTModel(ViTConfig(image_size=side, **sizes(576, 8, 9)), add_pooling_layer=False))


def whisper() -> nn.Module:
    """Whisper's encoder with four layers."""
    width, layers, heads = (384, 4, 6) if not SMALL else (32, 1, 4)
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        max_source_positions=1500 if not SMALL else 20,
    )
    return ready(WhisperEncoder(config))


def llama() -> nn.Module:
    """A Llama of two layers, to be trained."""
    shape = sizes(1536, 2, 16)
    config = LlamaConfig(vocab_size=8000, num_key_value_heads=shape["num_attention_heads"] // 2, **shape)
    return LlamaForCausalLM(config).to(DEVICE, HALF).train()


def quantised_layers(width: int, layers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights of one byte and a scale per column."""
    return [
        (
            torch.randint(-127, 127, (width, width), dtype=torch.int8, device=DEVICE),
            torch.full((width,), 1 / (73 * math.sqrt(width)), device=DEVICE, dtype=HALF),
        )
        for _ in range(layers)
    ]


class Inverted(nn.Module):
    """A block of a net for phones: wider, by channels, squeezed, narrower."""

    def __init__(self, one: int, other: int, stride: int) -> None:
        super().__init__()
        wide = 4 * one
        self.enter = nn.Sequential(nn.Conv2d(one, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.each = nn.Sequential(
            nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, wide // 4, 1),
            nn.ReLU(),
            nn.Conv2d(wide // 4, wide, 1),
            nn.Hardsigmoid(),
        )
        self.leave = nn.Sequential(nn.Conv2d(wide, other, 1, bias=False), nn.BatchNorm2d(other))
        self.same = one == other and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.each(self.enter(x))
        y = self.leave(y * self.squeeze(y))
        return x + y if self.same else y


class MobileNet(nn.Module):
    """A convolutional net for phones."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 24, 40, 40, 40, 80, 80, 80, 112, 112, 160, 160) if not SMALL else (8, 8, 16)
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.Hardswish()
        )
        self.blocks = nn.Sequential(*(Inverted(one, other, 1 + (one != other)) for one, other in pairwise(widths)))
        self.head = nn.Linear(widths[-1], 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Dit(nn.Module):
    """A diffusion transformer: each layer's norms are shifted and scaled by the moment."""

    def __init__(self) -> None:
        super().__init__()
        width, layers, self.heads = (384, 6, 6) if not SMALL else (32, 1, 4)
        self.enter, self.leave = nn.Linear(16, width), nn.Linear(width, 16)
        self.when = nn.ModuleList(nn.Linear(128, 6 * width) for _ in range(layers))
        self.mixed = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.wide = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(layers))
        self.register_buffer("frequency", torch.linspace(0, 4, 128))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor, moment: float) -> torch.Tensor:
        x, when = self.enter(x), torch.sin(self.frequency * moment * 50)
        for each, mixed, out, wide, narrow in zip(self.when, self.mixed, self.out, self.wide, self.narrow, strict=True):
            shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = each(functional.silu(when)).chunk(6, -1)
            y = functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
            parts = mixed(y).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = functional.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(x.shape)
            x = x + gate * out(y)
            y = functional.layer_norm(x, x.shape[-1:]) * (1 + scale_mlp) + shift_mlp
            x = x + gate_mlp * narrow(functional.gelu(wide(y), approximate="tanh"))
        return self.leave(x)


class Mixer(nn.Module):
    """Layers that mix places and then features, with norms and gates in single operators."""

    def __init__(self, places: int, width: int, layers: int) -> None:
        super().__init__()
        shapes = [(places, 4 * places), (4 * places, places), (width, 4 * width), (4 * width, width)]
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(*shape) for shape in shapes) for _ in range(layers))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for one, two, three, four in self.layers:
            y = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5)
            x = x + two(functional.gelu(one(y.transpose(1, 2)), approximate="tanh")).transpose(1, 2)
            y = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True) + 1e-5)
            z = three(y)
            x = x + four(z * torch.sigmoid(1.702 * z))
        return x


class Graphs(nn.Module):
    """Messages along edges: gathered at one end, weighed by both, added up at the other."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.message = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers))
        self.update = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        for message, update in zip(self.message, self.update, strict=True):
            sent = functional.silu(message(torch.cat((x[ends[0]], x[ends[1]]), -1)))
            got = torch.zeros_like(x).index_add_(0, ends[1], sent)
            x = x + functional.silu(update(torch.cat((x, got), -1)))
        return x


class Router(nn.Module):
    """Tokens sorted by their expert into places of a fixed number, as serving engines lay them out."""

    def __init__(self, width: int, experts: int, layers: int) -> None:
        super().__init__()
        self.width, self.experts = width, experts
        self.choose = nn.ParameterList(torch.randn(width, experts) / math.sqrt(width) for _ in range(layers))
        self.up = nn.ParameterList(torch.randn(experts, width, 2 * width) / math.sqrt(width) for _ in range(layers))
        self.down = nn.ParameterList(torch.randn(experts, 2 * width, width) / math.sqrt(width) for _ in range(layers))
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = 2 * len(x) // self.experts * 2
        for choose, up, down in zip(self.choose, self.up, self.down, strict=True):
            weight, expert = torch.softmax((x @ choose).float(), -1).topk(2)
            order = expert.flatten().argsort(stable=True)
            chosen = expert.flatten()[order]
            first = torch.searchsorted(chosen, torch.arange(self.experts, device=x.device))
            place = torch.arange(len(order), device=x.device) - first[chosen]
            fits = (place < places).to(x.dtype)[:, None]
            slot = chosen * places + place.clamp(max=places - 1)
            laid = torch.zeros(self.experts * places, self.width, device=x.device, dtype=x.dtype)
            laid.index_add_(0, slot, x[order // 2] * fits)
            made = torch.bmm(functional.silu(torch.bmm(laid.view(self.experts, places, -1), up)), down)
            back = made.flatten(0, 1)[slot] * fits * weight.flatten()[order, None].to(x.dtype)
            x = functional.layer_norm(x + torch.zeros_like(x).index_add_(0, order // 2, back), (self.width,))
        return x
