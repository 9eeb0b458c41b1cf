"""How the gap before each token changes along the output: median and spread over samples, position by position."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from laptime.data.record import Sample
from laptime.data.stats import quantile


class ItlBand(msgspec.Struct, frozen=True):
    """Columns of one length: gap before output token `position` (from 2), over the `n` samples that got so far."""

    position: list[int]
    p5: list[float]
    median: list[float]
    p95: list[float]
    n: list[int]


def itl_band(samples: Sequence[Sample]) -> ItlBand | None:
    """The band over the samples measured per token; None when there is none."""
    rows = [sample.itl_ms for sample in samples if sample.itl_ms]
    longest = max(map(len, rows), default=0)
    if longest == 0:
        return None
    columns = [[row[i] for row in rows if len(row) > i] for i in range(longest)]
    return ItlBand(
        position=list(range(2, longest + 2)),
        p5=[quantile(column, 0.05) for column in columns],
        median=[quantile(column, 0.5) for column in columns],
        p95=[quantile(column, 0.95) for column in columns],
        n=[len(column) for column in columns],
    )
