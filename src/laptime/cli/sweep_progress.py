"""A sweep's progress on stderr: a bar on a terminal, elsewhere a line every few seconds.

It starts no thread, since workers are forked from this process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laptime.sweeps.ledger import Standing

LINE_EVERY_S = 5.0
BAR_EVERY_S = 0.1

Show = Callable[["Standing"], None]
Say = Callable[[str], None]


@contextmanager
def sweep_progress() -> Iterator[tuple[Show, Say]]:
    """Two functions: the first shows how far the sweep is, the second prints a line for the user."""
    with _bar() if sys.stderr.isatty() else _lines() as both:
        yield both


def words(standing: Standing) -> str:
    """How far the sweep is, and how long it still takes, as a line."""
    from laptime.report.kit.numbers import count, duration

    failed = f", {count(standing.failed)} failed" if standing.failed else ""
    left = f", {duration(standing.seconds_left)} left" if standing.seconds_left else ""
    return f"{count(standing.measured)}/{count(standing.of)} measured{failed}{left}"


@contextmanager
def _bar() -> Iterator[tuple[Show, Say]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console, auto_refresh=False) as bars:
        task = bars.add_task("starting", total=None)
        last = 0.0

        def show(standing: Standing) -> None:
            nonlocal last
            done = standing.measured + standing.failed
            if done == standing.of or time.monotonic() - last > BAR_EVERY_S:
                last = time.monotonic()
                bars.update(task, description=words(standing), completed=done, total=standing.of, refresh=True)

        yield show, lambda line: console.print(line, markup=False, highlight=False)


@contextmanager
def _lines() -> Iterator[tuple[Show, Say]]:
    last = 0.0
    shown = ""

    def show(standing: Standing) -> None:
        nonlocal last, shown
        complete = standing.measured + standing.failed == standing.of
        line = words(standing)
        if line != shown and (complete or time.monotonic() - last > LINE_EVERY_S):
            last, shown = time.monotonic(), line
            say(line)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    yield show, say
