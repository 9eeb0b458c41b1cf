"""Everything a decode step reads and writes, allocated once: token, position, cache, ids, the rows that have ended.

A step finds its place in these buffers on the device and moves it on itself, so that the same step, captured once,
can be replayed for every token. Each row has a length of its own: padding is left out of the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laptime.decoder.plan import DecodePlan

MOST_EOS = 8
"""Ids that may end a row."""


@dataclass(frozen=True, eq=False)
class DecodeState:
    """Buffers of a batch of B rows and a capacity of T positions.

    token (B,): the newest token. position (B,): the cache slot that it goes to, its row's length so far.
    begin (B,): the slot of the first new token. shift (B,): rope position minus slot. ended (B,): 1 after EOS.
    ids (B, T): the new tokens. keys and values: one (B, kv_heads, T, D) a layer. cos and sin: (T, D / 2), float32.
    bias (V,): added to the logits, minus infinity where a token is suppressed. eos (MOST_EOS,): -1 where free.
    """

    token: torch.Tensor
    position: torch.Tensor
    begin: torch.Tensor
    shift: torch.Tensor
    ended: torch.Tensor
    ids: torch.Tensor
    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    cos: torch.Tensor
    sin: torch.Tensor
    logits: torch.Tensor
    eos: torch.Tensor
    pad: torch.Tensor
    bias: torch.Tensor

    @property
    def batch(self) -> int:
        return self.token.shape[0]

    @property
    def capacity(self) -> int:
        return self.ids.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        rest = (self.token, self.ids, self.cos, self.sin, self.logits, self.bias)
        return sum(t.nbytes for t in (*self.keys, *self.values, *rest))


def new_state(plan: DecodePlan, batch: int, capacity: int) -> DecodeState:
    """Buffers for `batch` rows of `capacity` positions, empty."""
    device = plan.device

    def numbers(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=device)

    def cache() -> tuple[torch.Tensor, ...]:
        shape = (batch, plan.kv_heads, capacity, plan.head_dim)
        return tuple(torch.zeros(shape, dtype=plan.dtype, device=device) for _ in plan.layers)

    cos, sin = rope_table(plan, capacity)
    return DecodeState(
        token=numbers(batch),
        position=numbers(batch),
        begin=numbers(batch),
        shift=numbers(batch),
        ended=numbers(batch),
        ids=numbers(batch, capacity),
        keys=cache(),
        values=cache(),
        cos=cos,
        sin=sin,
        logits=torch.zeros(batch, plan.head.shape[0], device=device),
        eos=numbers(MOST_EOS) - 1,
        pad=numbers(1),
        bias=torch.zeros(plan.head.shape[0], device=device),
    )


def rope_table(plan: DecodePlan, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of the first positions, (positions, D / 2), as the model's own rotary module gives them.

    They are rounded to the model's dtype as the model rounds them, and kept in float32.
    """
    at = torch.arange(positions, device=plan.device)[None]
    if plan.streams > 1:
        at = at.expand(plan.streams, 1, -1)  # a text token has one position in all streams
    like = torch.empty(0, dtype=plan.dtype, device=plan.device)
    cos, sin = plan.rotary(like, at)
    half = plan.head_dim // 2
    return cos[0, :, :half].float().contiguous(), sin[0, :, :half].float().contiguous()
