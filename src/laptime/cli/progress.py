"""The progress of long work on stderr: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int], None]
"""Called with the phase of the work, how much of it is done, and how much there is."""

LINE_EVERY_S = 5.0


@contextmanager
def progress() -> Iterator[Report]:
    """A function to call as the work goes on; it shows how far it is."""
    with _bar() if sys.stderr.isatty() else _lines() as report:
        yield report


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(phase: str, done: int, of: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=of)
            bars.update(tasks[phase], completed=done)  # type: ignore[arg-type]

        yield report


@contextmanager
def _lines() -> Iterator[Report]:
    last = 0.0

    def report(phase: str, done: int, of: int) -> None:
        nonlocal last
        if done == of or time.monotonic() - last > LINE_EVERY_S:
            last = time.monotonic()
            print(f"{phase} {done}/{of}", file=sys.stderr, flush=True)  # noqa: T201

    yield report
