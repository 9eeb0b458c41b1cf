"""One decode step in plain torch, for any device and dtype. The Triton steps are tested against it."""

from __future__ import annotations

import torch
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from laptime.decoder.plan import DecodePlan, Dense, Layer, Routed
from laptime.decoder.state import DecodeState


def decode_one_token(plan: DecodePlan, state: DecodeState, reach: int | None = None) -> torch.Tensor:
    """The logits (B, V) that follow `state.token`. Its keys and values are in the cache afterwards.

    reach: attend to this many cache positions only; at least each row's length with this token. None: to all.
    """
    rows = torch.arange(state.batch, device=plan.device)
    slot = state.position.long()
    place = slot + state.shift
    cos, sin = state.cos[place][:, None].to(plan.dtype), state.sin[place][:, None].to(plan.dtype)
    seen = torch.arange(reach or state.capacity, device=plan.device) <= slot[:, None]
    x = plan.embedding[state.token.long()]
    for layer, keys, values in zip(plan.layers, state.keys, state.values, strict=True):
        q, k, v = project(plan, layer, normed(x, layer.input_norm, plan.eps))
        keys[rows, :, slot] = rotated(k, cos, sin)
        values[rows, :, slot] = v
        attended = scaled_dot_product_attention(
            rotated(q, cos, sin)[:, :, None],
            keys[:, :, :reach],
            values[:, :, :reach],
            attn_mask=seen[:, None, None],
            scale=plan.scale,
            enable_gqa=plan.heads != plan.kv_heads,
        )
        x = x + linear(attended.reshape(state.batch, -1), layer.o, layer.o_bias)
        x = x + _feed_forward(layer.mlp, normed(x, layer.post_norm, plan.eps))
    return linear(normed(x, plan.final_norm, plan.eps), plan.head)


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm over the last dimension, rounded as transformers rounds it."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of (B, heads, D) by (B, 1, D / 2); the first half is paired with the second."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def project(plan: DecodePlan, layer: Layer, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v as (B, heads, D). q and k are normed if the block norms them, over a head or over all heads."""
    d = plan.head_dim
    q, k, v = linear(x, layer.qkv, layer.qkv_bias).split([plan.heads * d, plan.kv_heads * d, plan.kv_heads * d], dim=-1)
    q, k = (
        part if norm is None else normed(part.unflatten(-1, (-1, norm.shape[0])), norm, plan.eps).flatten(-2)
        for part, norm in ((q, layer.q_norm), (k, layer.k_norm))
    )
    return q.unflatten(-1, (-1, d)), k.unflatten(-1, (-1, d)), v.unflatten(-1, (-1, d))


def gated(mlp: Dense, x: torch.Tensor) -> torch.Tensor:
    """What a dense MLP adds to x."""
    gate, up = linear(x, mlp.gate_up).chunk(2, dim=-1)
    return linear(silu(gate) * up, mlp.down)


def routed(mlp: Routed, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The experts of each row and their shares: (shares, chosen), (rows, top_k) each; shares in float32."""
    chances = torch.softmax(linear(x, mlp.router), dim=-1, dtype=torch.float)
    shares, chosen = torch.topk(chances, mlp.top_k, dim=-1)
    return (shares / shares.sum(dim=-1, keepdim=True) if mlp.normalised else shares), chosen


def over_all(mlp: Routed, shares: torch.Tensor, chosen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The shares of all experts, (rows, E); 0 for those that a row didn't choose."""
    return shares.new_zeros(len(shares), mlp.router.shape[0]).scatter_(1, chosen, shares).to(dtype)


def _feed_forward(mlp: Dense | Routed, x: torch.Tensor) -> torch.Tensor:
    if isinstance(mlp, Dense):
        return gated(mlp, x)
    shares, chosen = routed(mlp, x)
    if chosen.numel() >= mlp.router.shape[0]:
        return _all_experts(mlp, x, over_all(mlp, shares, chosen, x.dtype))
    gate, up = torch.einsum("bh,bkih->bki", x, mlp.gate_up[chosen]).chunk(2, dim=-1)
    each = torch.einsum("bki,bkhi->bkh", silu(gate) * up, mlp.down[chosen])
    return (each * shares.to(x.dtype)[..., None]).sum(dim=1)


def _all_experts(mlp: Routed, x: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Every expert on every row, times its share (B, E). For batches that reach most experts: no weights are copied."""
    gate, up = torch.matmul(x, mlp.gate_up.transpose(1, 2)).chunk(2, dim=-1)  # (E, B, I)
    return torch.matmul(silu(gate) * up * shares.T[..., None], mlp.down.transpose(1, 2)).sum(dim=0)
