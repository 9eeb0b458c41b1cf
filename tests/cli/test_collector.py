"""The collector of garbage rests while the command starts, and a verb has it again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from laptime.cli.collector import COLLECTOR
from laptime.cli.verbs import as_verb


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    gc.unfreeze()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        COLLECTOR.rests = False


def measures() -> bool:
    return gc.isenabled()


def trace() -> bool:
    return gc.isenabled()


def test_a_verb_has_the_collector_that_rested() -> None:
    COLLECTOR.rest()
    assert not gc.isenabled()
    assert as_verb(measures)() is True
    assert gc.isenabled()


def test_what_was_imported_is_never_looked_through_again() -> None:
    COLLECTOR.rest()
    as_verb(measures)()
    assert gc.get_freeze_count() > 1000


def test_reading_a_trace_needs_none() -> None:
    COLLECTOR.rest()
    assert as_verb(trace)() is False


def test_who_calls_a_verb_from_python_keeps_the_collector_as_it_is() -> None:
    assert as_verb(trace)() is True
    gc.disable()
    assert as_verb(measures)() is False
    assert gc.get_freeze_count() == 0
