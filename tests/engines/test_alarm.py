"""A wait ends after its instant and never before, whichever timer the system has."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from laptime.engines.alarm import Alarm


@pytest.mark.parametrize("platform", [sys.platform, "other"])
def test_no_wait_ends_early_and_none_is_lost(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)

    async def waits() -> list[int]:
        over = []
        with Alarm() as alarm:
            for wait_ns in (-1, 0, 50_000, 1_300_000, 700):
                due = time.perf_counter_ns() + wait_ns
                await alarm.until(due)
                over.append(time.perf_counter_ns() - due)
        return over

    assert min(asyncio.run(waits())) >= 0


def test_a_wait_that_is_given_up_does_not_ring_in_the_next_one():
    async def given_up() -> int:
        with Alarm() as alarm:
            first = asyncio.create_task(alarm.until(time.perf_counter_ns() + 2_000_000))
            await asyncio.sleep(0)
            first.cancel()
            due = time.perf_counter_ns() + 20_000_000
            await alarm.until(due)
            return time.perf_counter_ns() - due

    assert asyncio.run(given_up()) >= 0
