"""Prefill in plain torch, for any device and dtype, over the cache of the decode step. It writes the cache in place.

The Triton prefill is tested against it. It runs in parts: the embedding, each block, the logits. So a program can
decide after an early block which of the others run.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from laptime.decoder.plain_step import gated, normed, over_all, project, rotated, routed
from laptime.decoder.plan import DecodePlan, Dense, Layer, Routed
from laptime.decoder.prompt import Prompt
from laptime.decoder.state import DecodeState


class PlainPrompt:
    """Prefill of one bucket. x (B L, hidden): what the newest block gave."""

    def __init__(self, plan: DecodePlan, state: DecodeState, prompt: Prompt) -> None:
        self.plan, self.state, self.prompt = plan, state, prompt
        self.x = torch.zeros(prompt.batch * prompt.length, plan.hidden, dtype=plan.dtype, device=plan.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that stay between two parts."""
        return self.x.nbytes

    def embed(self) -> None:
        """x = the tokens' embeddings, and image features where they belong."""
        self.x.copy_(embedded(self.plan, self.prompt))

    def block(self, number: int, slot: int, layer: Layer) -> None:
        """Block `number` of the model, whose keys and values go to place `slot` of the cache."""
        plan, state, length = self.plan, self.state, self.prompt.length
        cos, sin = (wave.view(-1, 1, plan.head_dim // 2) for wave in waves(plan, state, self.prompt))
        rows = (self.prompt.batch, length)
        q, k, v = project(plan, layer, normed(self.x, layer.input_norm, plan.eps))
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        q, k, v = (part.unflatten(0, rows).transpose(1, 2) for part in (q, k, v))
        state.keys[slot][:, :, :length] = k
        state.values[slot][:, :, :length] = v
        gqa = plan.heads != plan.kv_heads
        attended = scaled_dot_product_attention(q, k, v, is_causal=True, scale=plan.scale, enable_gqa=gqa)
        attended = attended.transpose(1, 2).reshape(self.x.shape[0], -1)
        self.x.add_(linear(attended, layer.o, layer.o_bias))
        self.x.add_(feed_forward(layer.mlp, normed(self.x, layer.post_norm, plan.eps)))
        add_deep(self.prompt, number, self.x)

    def settle(self) -> None:
        """Bring x up to date: here it always is."""

    def logits(self) -> torch.Tensor:
        """The logits after each row's last token, (B, V)."""
        last = self.x[last_places(self.prompt)]
        return linear(normed(last, self.plan.final_norm, self.plan.eps), self.plan.head)


def embedded(plan: DecodePlan, prompt: Prompt) -> torch.Tensor:
    """The first block's input, (B L, hidden)."""
    x = plan.embedding[prompt.ids.flatten().long()]
    if prompt.features is None:
        return x
    picked = prompt.picked.flatten().long()
    return torch.where((picked > 0)[:, None], prompt.features[(picked - 1).clamp(min=0)], x)


def add_deep(prompt: Prompt, number: int, x: torch.Tensor) -> None:
    """Add the image features that belong behind block `number`, if there are such."""
    if prompt.deep is None or number >= prompt.deep.shape[0]:
        return
    picked = prompt.picked.flatten().long()
    x.add_(prompt.deep[number][(picked - 1).clamp(min=0)] * (picked > 0)[:, None])


def waves(plan: DecodePlan, state: DecodeState, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of every position, (B, L, D / 2), in the model's dtype."""
    if prompt.place is None:
        shape = (prompt.batch, -1, -1)
        cos, sin = (table[: prompt.length].to(plan.dtype).expand(shape) for table in (state.cos, state.sin))
    else:
        like = torch.empty(0, dtype=plan.dtype, device=plan.device)
        cos, sin = (wave[..., : plan.head_dim // 2] for wave in plan.rotary(like, prompt.place))
    return cos.contiguous(), sin.contiguous()


def last_places(prompt: Prompt) -> torch.Tensor:
    """Where each row's last token stands among all positions, (B,)."""
    starts = torch.arange(prompt.batch, device=prompt.ids.device) * prompt.length
    return starts + (prompt.lengths.long() - 1).clamp(min=0)


def feed_forward(mlp: Dense | Routed, x: torch.Tensor) -> torch.Tensor:
    """What the block's MLP or experts add to x, (rows, hidden)."""
    if isinstance(mlp, Dense):
        return gated(mlp, x)
    shares = over_all(mlp, *routed(mlp, x), x.dtype)
    total = torch.zeros_like(x)
    for expert in range(mlp.router.shape[0]):
        rows: torch.Tensor | slice = slice(None)  # every row: a GPU would have to wait for the number of its own
        if x.device.type == "cpu":
            rows = shares[:, expert].nonzero()[:, 0]
        gate, up = linear(x[rows], mlp.gate_up[expert]).chunk(2, dim=-1)
        total[rows] += linear(silu(gate) * up, mlp.down[expert]) * shares[rows, expert, None]
    return total
