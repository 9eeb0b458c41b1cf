"""A decode session: the step of one size and way of choosing, and how it is run until all rows have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from laptime.decoder.graph import CapturedStep
from laptime.decoder.settings import GenerationSettings
from laptime.decoder.state import DecodeState

FIRST_LOOKS, LOOK_EVERY = (1, 1, 2), 4
"""Replays between two looks at whether all rows have ended: for the first looks, since many answers are short, and
for later ones. The next replays run while the host looks."""

Mark = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Session:
    """A step for one batch size, one capacity and one way of choosing tokens: its buffers and, on a GPU, its graph."""

    state: DecodeState
    step: Callable[[], None]
    begin: Callable[[], None]
    captured: CapturedStep | None
    noise: torch.Generator | None
    kernels: str


def go_on(
    session: Session, input_ids: torch.Tensor, settings: GenerationSettings, mark: Mark, per_token: bool
) -> tuple[torch.Tensor, int]:
    """Decode after the first token: prompt and new ids, and the number of steps."""
    mark("decode-begin")
    every = per_token or bool(settings.eos)  # which step was the answer's last one is known only afterwards
    steps = _decode(session, settings, mark, every)
    if steps and not every:
        mark("logits")
    return torch.cat([input_ids, _new_ids(session.state, settings, steps + 1)], dim=1), steps


def _decode(session: Session, settings: GenerationSettings, mark: Mark, per_token: bool) -> int:
    """Run the steps after the first token and return how many. With EOS it may stop early, after at most two looks."""
    wanted = settings.new_tokens - 1
    if session.state.ended.device.type != "cuda":
        return _decode_on_host(session, settings, mark, per_token)
    replay = session.captured or session.step
    if not settings.eos:
        for _ in range(wanted):
            replay()
            if per_token:
                mark("logits")
        return wanted
    looks = [
        (torch.empty(session.state.batch, dtype=torch.int32, pin_memory=True), torch.cuda.Event()) for _ in range(2)
    ]
    done = turn = 0
    while True:
        seen, event = looks[turn % 2]
        seen.copy_(session.state.ended, non_blocking=True)
        event.record()
        until_next = FIRST_LOOKS[turn] if turn < len(FIRST_LOOKS) else LOOK_EVERY
        for _ in range(min(until_next, wanted - done)):
            replay()
            done += 1
            if per_token:
                mark("logits")
        event.synchronize()  # waits for the copy before these replays; they run meanwhile
        if done == wanted or bool(seen.all()):
            return done
        turn += 1


def _decode_on_host(session: Session, settings: GenerationSettings, mark: Mark, per_token: bool) -> int:
    """The same on a device without streams: every step is done when its call returns."""
    for done in range(settings.new_tokens - 1):
        if settings.eos and bool(session.state.ended.all()):
            return done
        session.step()
        if per_token:
            mark("logits")
    return settings.new_tokens - 1


def _new_ids(state: DecodeState, settings: GenerationSettings, tokens: int) -> torch.Tensor:
    """The new ids up to the last row's end, (B, N) int64."""
    ids = state.ids[:, :tokens].long()
    if not settings.eos:
        return ids
    ends = torch.isin(ids, torch.tensor(settings.eos, device=ids.device))
    first = torch.where(ends.any(dim=1), ends.int().argmax(dim=1) + 1, tokens)
    return ids[:, : int(first.max())]
