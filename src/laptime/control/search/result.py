"""What a search found, beside simpler ways to choose as much, judged on questions that it didn't see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from laptime.data.record import Interval
from laptime.data.shown import Shown
from laptime.errors import LaptimeError
from laptime.models.block_list import written_blocks, written_experts
from laptime.workload.example import Example
from laptime.workload.scoring import KINDS, check_scorable

LIKELIHOOD = "likelihood"
"""The score that writes no answer: how probable the right one is to the model."""


def check_searchable(kind: str, examples: Iterable[Example]) -> None:
    """Raise LaptimeError for a score that a search doesn't know, or at the first question that can't have it."""
    if kind not in (LIKELIHOOD, *KINDS):
        raise LaptimeError(f"score {kind!r} is unknown: use {LIKELIHOOD}, {', '.join(KINDS)}")
    if kind != LIKELIHOOD:
        check_scorable(kind, examples)
        return
    for example in examples:
        if not example.answers or not example.answers[0].strip():
            raise LaptimeError(f"{example.place}: score {kind!r} needs an answer, and this question has none")


class JudgedSetting(msgspec.Struct, frozen=True, kw_only=True):
    """One way's setting at one total of the levels, on the judged questions.

    way: "beam", "importance", "prefix" or "random" for blocks; "beam", "one for all", "early blocks first" or "random"
    for experts.
    total: how many blocks run, or how many experts a token is sent to over all blocks. levels: for each block.
    right: the mean score; of several random settings the mean over them. found: the score on the questions of the
    search; None for a way that wasn't asked there. less: the way's score less the search's, paired by question; None
    for the search itself. p: of both being equally often right, corrected for all such comparisons.
    """

    way: str
    total: int
    levels: list[int]
    right: Interval
    found: float | None = None
    less: Interval | None = None
    p: float | None = None


class KnobSearch(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Which blocks run, or how many experts each has, chosen by the answers that are then right.

    knob: "blocks" or "experts". score: how answers are scored. searched, judged: the questions of the search, and those
    that every row is judged on. settings: how many settings were asked the questions of the search. whole: the whole
    model's mean score on the judged questions. importance: of each block by cosine similarity, on the search's.
    """

    ROWS: ClassVar[str] = "rows"

    schema: str = "laptime.search/1"
    model: str
    knob: str
    score: str
    searched: int
    judged: int
    width: int
    tries: int
    settings: int
    whole: Interval
    importance: list[float]
    rows: list[JudgedSetting]

    @property
    def totals(self) -> list[int]:
        """The totals that were searched, the largest first."""
        return sorted({row.total for row in self.rows}, reverse=True)

    @property
    def ways(self) -> list[str]:
        """The ways, the search first."""
        return list(dict.fromkeys(row.way for row in self.rows))

    def row(self, way: str, total: int) -> JudgedSetting | None:
        """One way's setting at one total, if it has one there."""
        return next((row for row in self.rows if (row.way, row.total) == (way, total)), None)

    @property
    def experts(self) -> dict[int, str]:
        """How many experts each block has by the search, by their total; empty where blocks were searched."""
        return {} if self.knob != "experts" else _experts_of(self.rows)

    @property
    def active(self) -> dict[int, str]:
        """Which blocks run by the search, for each number of them; empty where experts were searched."""
        if self.knob != "blocks":
            return {}
        return {row.total: written_blocks(_running(row.levels)) for row in self.rows if row.way == "beam"}


def _experts_of(rows: list[JudgedSetting]) -> dict[int, str]:
    return {row.total: written_experts(row.levels) for row in rows if row.way == "beam"}


def _running(levels: list[int]) -> list[int]:
    return [index for index, level in enumerate(levels) if level]
