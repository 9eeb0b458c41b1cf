"""The band of token gaps: position by position, over the samples that got so far."""

from __future__ import annotations

import msgspec
import pytest

from laptime.data.summary import itl_band
from tests.report.sample_runs import sample


def test_each_position_has_its_own_median_and_spread() -> None:
    gaps = [[1.0, 10.0], [2.0, 20.0], [3.0]]
    band = itl_band([msgspec.structs.replace(sample(1), itl_ms=row) for row in gaps])
    assert band is not None
    assert band.position == [2, 3]
    assert band.n == [3, 2]
    assert band.median == [2.0, 15.0]
    assert band.p5 == pytest.approx([1.1, 10.5])
    assert band.p95 == pytest.approx([2.9, 19.5])


def test_without_gaps_there_is_no_band() -> None:
    assert itl_band([]) is None
    assert itl_band([sample(1, per_token=False), msgspec.structs.replace(sample(2), itl_ms=[])]) is None
