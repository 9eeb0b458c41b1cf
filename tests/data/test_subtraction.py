"""How wrong subtraction is: what was clamped, and the errors against the direct decode."""

import pytest

from laptime.data.record import StageTimes, Subtraction
from laptime.data.subtraction import summarise_subtraction


def test_subtraction_counts_what_was_clamped_and_how_wrong_it_is():
    direct = StageTimes.from_ns(vision=10_000_000, prefill=20_000_000, decode=60_000_000, total=100_000_000)

    def subtracted(residual_ms):
        return Subtraction(
            sample_id="0",
            repeat=0,
            vision_ms=0,
            prefill_ms=0,
            total_ms=0,
            residual_ms=residual_ms,
            decode_ms=max(0.0, residual_ms),
            direct=direct,
        )

    summary = summarise_subtraction([subtracted(-30.0), subtracted(66.0)])
    assert (summary.samples, summary.clamped) == (2, 1)
    assert (summary.residual_low_ms, summary.residual_high_ms) == (-30.0, 66.0)
    assert summary.error_mean_ms == pytest.approx(-27.0)
    assert summary.error_relative_mean == pytest.approx(0.55)
    assert summarise_subtraction([]) is None
