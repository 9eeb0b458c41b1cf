"""Several captures of the same ranks among the files: a profiler that repeats its schedule writes one file for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from laptime.data.finding import Finding
from laptime.errors import LaptimeError


class Dated(Protocol):
    """One file's rank, and when its work began."""

    @property
    def file(self) -> str:
        """Its path."""

    @property
    def rank(self) -> int:
        """Its own number, -1 where it isn't known."""

    @property
    def stated(self) -> bool:
        """Whether the file itself states that number, and not only its name."""

    @property
    def start_ns(self) -> int:
        """When its device's work began, on its own clock."""

    @property
    def refused(self) -> str:
        """Why it could not be read; empty when it was."""


Work = TypeVar("Work", bound=Dated)


def one_capture(works: Sequence[Work]) -> tuple[list[Work], Finding | None]:
    """The files of the last capture where each rank has several, and a finding that says so; else all of them.

    A file whose rank stands in its name alone may be of another node that numbers its ranks from 0 too.

    Raises:
        LaptimeError: all files are of one rank, or ranks have unlike numbers of files: which were captured together
            isn't known.
    """
    by_rank: dict[int, list[Work]] = {}
    for work in works:
        by_rank.setdefault(work.rank, []).append(work)
    counts = {len(own) for own in by_rank.values()}
    known = -1 not in by_rank and all(work.stated and not work.refused for work in works)
    if not known or max(counts, default=0) < 2:
        return list(works), None
    if len(by_rank) == 1:
        raise LaptimeError(f"{works[0].file}: all {len(works)} files state rank {works[0].rank}; name one of them")
    if len(counts) > 1:
        most, least = max(by_rank, key=lambda r: len(by_rank[r])), min(by_rank, key=lambda r: len(by_rank[r]))
        raise LaptimeError(
            f"{by_rank[most][0].file}: {len(by_rank[most])} files state rank {most}, and {len(by_rank[least])} rank"
            f" {least}; name the files that were captured together"
        )
    last = {id(max(own, key=lambda work: work.start_ns)) for own in by_rank.values()}
    count = max(counts)
    message = (
        f"the files are {count} captures of {len(by_rank)} ranks: the last one is shown; name the files of another to"
        " see it"
    )
    finding = Finding(code="several-captures", severity="warning", message=message, count=count)
    return [work for work in works if id(work) in last], finding
