"""A pause stretches no trend and hides none, and a clock that is set back is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from laptime.audits import audit_measurements, measurements_of
from laptime.data.columns import SampleColumns
from laptime.data.measuring_time import measuring_time
from laptime.data.record import StageTimes
from laptime.sweeps.summary import summarise_sweep
from tests.samples import sample

DAY_MS = 86_400_000.0
ONE = np.zeros(6, dtype=np.int64)


def frame(drift, pause_ms=0.0, back_ms=0.0, calls=120):
    """Calls of 100 ms on 6 inputs under 2 configurations, that become slower by `drift` from the first to the last."""
    draw = np.random.default_rng(0)
    rows, now = [], 1.7e12
    for number in range(calls):
        if number == calls // 2:
            now += pause_ms - back_ms
        ms = 100 * (1 + drift * number / calls) * float(np.exp(draw.normal(0, 0.004)))
        vision, prefill, decode = (round(ms * share * 1e6) for share in (0.1, 0.2, 0.6))
        stages = StageTimes.from_ns(vision=vision, prefill=prefill, decode=decode, total=round(ms * 1e6))
        rows.append(
            sample(
                number % 6, repeat=number // 6, stages=stages, started_unix_ms=now, config={"top_k": number // 6 % 2}
            )
        )
        now += ms + 5
    columns = SampleColumns(bulky=False)
    columns.add(rows)
    return columns.frame()


def finding(frame, code):
    return next((f for f in audit_measurements(measurements_of(frame)).findings if f.code == code), None)


@pytest.mark.parametrize("pause_ms", [0.0, 3_600_000.0, DAY_MS, 30 * DAY_MS])
def test_a_pause_hides_no_drift_and_makes_none(pause_ms):
    found = finding(frame(0.15, pause_ms), "clock-drift")
    assert found is not None
    assert found.severity == "severe"
    assert ("in 2 sessions" in found.reason) == (pause_ms > 0)
    assert finding(frame(0.0, pause_ms), "clock-drift") is None
    drift = summarise_sweep(frame(0.15, pause_ms)).drift
    assert drift.trend.value == pytest.approx(1.15, rel=0.03)
    assert drift.sessions == 1 + (pause_ms > 0)
    assert drift.span_s < 60


def test_a_clock_that_is_set_back_is_said_and_hides_nothing():
    set_back = frame(0.15, back_ms=3_600_000.0)
    assert finding(set_back, "clock-set-back").count == 1
    assert finding(set_back, "clock-drift").severity == "severe"
    assert finding(frame(0.15), "clock-set-back") is None


def test_lines_in_any_order_are_no_clock():
    assert finding(frame(0.0).sample(fraction=1.0, shuffle=True, seed=1), "clock-set-back") is None


def test_sessions_and_idle_time():
    started = np.array([0.0, 110.0, 220.0, 1e9, 1e9 + 110, 1e9 + 220])
    time = measuring_time(started, np.full(6, 100.0), ONE)
    assert time.session.tolist() == [0, 0, 0, 1, 1, 1]
    assert time.at_ms.tolist() == [0.0, 110.0, 220.0, 2320.0, 2430.0, 2540.0]
    assert measuring_time(np.empty(0), np.empty(0), ONE[:0]).sessions == 0
