"""From logits to the next token, and what follows from it: ids written, rows ended, positions moved on.

Torch operations on the state's buffers only, nothing that waits for the device: they may be captured with the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laptime.decoder.state import DecodeState


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
    """Make `token` (B,) each row's newest at its present position: pad where the row has ended; EOS ends it."""
    token = torch.where(state.ended > 0, state.pad, token.to(torch.int32))
    state.ids.scatter_(1, (state.position - state.begin).long()[:, None], token[:, None])
    state.ended.copy_(state.ended | (token[:, None] == state.eos).any(dim=1))
    state.token.copy_(token)


def advance(state: DecodeState, logits: torch.Tensor, sampling: Sampling, noise: torch.Generator | None) -> None:
    """The end of a step: the token that its logits give is the newest, one position further."""
    state.position.add_(1)
    take(state, choose(logits.float() + state.bias, sampling, noise))
