"""Beam search over one level for each block: whether it runs (1 or 0), or how many experts a token is sent to in it.

The search begins with the whole model and lowers one block by one level at a time. At every total of the levels the
best few settings stay, and the next total is reached from them. No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from laptime.errors import LaptimeError

Setting = tuple[int, ...]
"""One level for each block, first to last."""


class Beam(msgspec.Struct, frozen=True, kw_only=True):
    """How wide a search is.

    width: how many settings stay at each total. tries: how many of those that one step reaches are asked the questions,
    the closest to the whole model first.

    Raises LaptimeError for less than one of either.
    """

    width: int = 3
    tries: int = 8

    def __post_init__(self) -> None:
        if self.width < 1 or self.tries < 1:
            raise LaptimeError(f"beam: width {self.width}, tries {self.tries}; use at least 1 of each")


class Scores(NamedTuple):
    """How a setting is judged: both from a setting, both the better the higher.

    close: how close its outputs are to the whole model's; cheap. right: how right its answers are, 0 to 1; dear.
    """

    close: Callable[[Setting], float]
    right: Callable[[Setting], float]


class Kept(NamedTuple):
    """A setting that stayed, with what it was judged by."""

    right: float
    close: float
    setting: Setting


def beam_search(
    lowest: Setting,
    highest: Setting,
    totals: Iterable[int],
    scores: Scores,
    beam: Beam,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[int, Kept]:
    """The best setting that was seen at each of `totals` (sums of levels).

    lowest, highest: the levels that each block may take. Of settings whose answers are equally right, the closer one
    to the whole model is better, then the one that lowers later blocks.

    Raises LaptimeError for a total that no setting has.
    """
    wanted = sorted(set(totals), reverse=True)
    least, most = sum(lowest), sum(highest)
    for total in wanted:
        if not least <= total <= most:
            raise LaptimeError(f"search: a total of {total}; the model can take {least} to {most}")
    found: dict[int, Kept] = {}
    kept = [Kept(scores.right(highest), scores.close(highest), highest)]
    steps = most - min(wanted, default=most)
    for total in range(most, most - steps - 1, -1):
        if total < most:
            reached = _lowered(kept, lowest)
            closest = sorted(((scores.close(one), one) for one in reached), reverse=True)[: beam.tries]
            judged = [Kept(scores.right(one), close, one) for close, one in closest]
            kept = sorted(judged, reverse=True)[: beam.width]
            progress(most - total, steps)
        if total in wanted:
            found[total] = kept[0]
    return found


def _lowered(kept: Sequence[Kept], lowest: Setting) -> list[Setting]:
    """Every setting that is one level below one of these at one block."""
    return sorted(
        {
            (*one.setting[:block], level - 1, *one.setting[block + 1 :])
            for one in kept
            for block, level in enumerate(one.setting)
            if level > lowest[block]
        }
    )
