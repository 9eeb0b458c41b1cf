"""The buffers of a decode step, allocated once, and the choice of the next token in them.

The position lies on the device and the step itself moves it on. So one captured step can be replayed for every token.
Each row has its own length: padding is left out of the cache. All functions are torch operations on these buffers that
never wait for the device, so they may be captured with the step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from laptime.decoder.plan import DecodePlan

MOST_EOS = 8
"""Ids that may end a row."""


@dataclass(frozen=True, eq=False)
class DecodeState:
    """Buffers of a batch of B rows and a capacity of T positions.

    token (B,): the newest token. position (B,): the cache slot that it goes to, which is its row's length so far.
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

    def of_layers(self, layers: int) -> DecodeState:
        """The same buffers for a step of fewer blocks: the first caches."""
        return replace(self, keys=self.keys[:layers], values=self.values[:layers])


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


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. Greedy unless `draw`. top_k 0 and top_p 1 leave everything in."""

    draw: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


def choose(logits: torch.Tensor, sampling: Sampling, noise: torch.Generator | None) -> torch.Tensor:
    """The next token of each row, (B,), from float logits (B, V): the best, or one drawn with `noise`.

    Drawn by the exponential race: the token whose probability over an exponential variate is largest.
    """
    if not sampling.draw:
        return logits.argmax(dim=-1)
    scaled, tokens = logits / sampling.temperature, None
    if 0 < sampling.top_k < logits.shape[-1]:
        scaled, tokens = torch.topk(scaled, sampling.top_k, dim=-1)
    elif sampling.top_p < 1:
        scaled, tokens = torch.sort(scaled, dim=-1, descending=True)
    chances = torch.softmax(scaled, dim=-1)
    if sampling.top_p < 1:
        before = chances.cumsum(dim=-1) - chances
        chances = chances.masked_fill(before >= sampling.top_p, 0.0)  # the best is always kept
    race = torch.empty_like(chances).exponential_(generator=noise)
    drawn = (chances / race).argmax(dim=-1)
    return drawn if tokens is None else tokens.gather(-1, drawn[:, None])[:, 0]


def take(state: DecodeState, token: torch.Tensor) -> None:
    """Make `token` (B,) the newest of each row. A row that has ended gets pad instead; EOS ends a row."""
    token = torch.where(state.ended > 0, state.pad, token.to(torch.int32))
    state.ids.scatter_(1, (state.position - state.begin).long()[:, None], token[:, None])
    state.ended.copy_(state.ended | (token[:, None] == state.eos).any(dim=1))
    state.token.copy_(token)


def advance(state: DecodeState, logits: torch.Tensor, sampling: Sampling, noise: torch.Generator | None) -> None:
    """End a step: move each row one position on and take the token that its logits give."""
    state.position.add_(1)
    take(state, choose(logits.float() + state.bias, sampling, noise))
