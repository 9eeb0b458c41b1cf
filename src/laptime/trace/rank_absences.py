"""Ranks of a run whose traces aren't here: the others may wait for them, which no file among these can show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from laptime.data.finding import Finding
from laptime.trace.read.rank_files import RANKS


class Stated(Protocol):
    """What one file says of its run."""

    @property
    def rank(self) -> int:
        """Its own number, -1 where it isn't known."""

    @property
    def world_size(self) -> int | None:
        """How many ranks the run has, where the file says it."""

    @property
    def groups(self) -> list[str]:
        """Of each collective its process group, a JSON list of name, ranks, operation; or empty."""


class Absent(msgspec.Struct, frozen=True):
    """How many ranks of the run aren't here.

    `world`: how many the run has, 0 where that isn't known. `ranks`: which are absent, where the files state theirs.
    `shares`: whether those that are here may run collectives with them.
    """

    count: int = 0
    world: int = 0
    ranks: tuple[int, ...] = ()
    shares: bool = False

    def findings(self) -> Iterator[Finding]:
        """Says that they are absent, and what can't be known without them."""
        if self.count:
            many = self.count > 1
            shown = ", ".join(map(str, self.ranks[:8])) + (", …" if len(self.ranks) > 8 else "")
            which = f"{'ranks' if many else 'rank'} {shown}" if shown else f"{self.count} rank{'s' if many else ''}"
            message = f"the run has {self.world} ranks, and the trace{'s' if many else ''} of {which} "
            message += "are not here" if many else "is not here"
            message += f": waiting for {'them' if many else 'it'} can't be told from sending" if self.shares else ""
            yield Finding(code="absent-ranks", severity="warning", message=message)


def absent_ranks(files: Sequence[Stated]) -> Absent:
    """Which ranks of the run have no file among these, as far as the files say how many ranks it has."""
    sizes = {file.world_size for file in files if file.world_size}
    numbers = [file.rank for file in files]
    world = max(sizes, default=0)
    if len(sizes) != 1 or not len(files) < world <= RANKS:
        return Absent()
    if -1 in numbers or len(set(numbers)) < len(numbers) or max(numbers) >= world:
        return Absent(world - len(files), world, shares=True)
    gone = tuple(sorted(set(range(world)) - set(numbers)))
    return Absent(len(gone), world, gone, _shared_with(files, set(gone)))


def too_many(files: Sequence[Stated]) -> Iterator[Finding]:
    """Says that there are more files than ranks, where all state the same number of ranks."""
    sizes = {file.world_size for file in files}
    world = sizes.pop() if len(sizes) == 1 else None
    if world is not None and 0 < world < len(files):
        message = (
            f"{len(files)} traces are here, and each states that its run has {world} rank{'s' if world > 1 else ''}:"
            " they may be of several runs"
        )
        yield Finding(code="more-than-ranks", severity="warning", message=message, count=len(files) - world)


def _shared_with(files: Sequence[Stated], gone: set[int]) -> bool:
    """Whether a collective may be shared with absent ranks: one of these is in its group, or its group isn't known."""
    if not all(file.groups for file in files):
        return True
    members = (msgspec.json.decode(group)[1] if group else None for group in {g for file in files for g in file.groups})
    return any(own is None or not gone.isdisjoint(own) for own in members)
