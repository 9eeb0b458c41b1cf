"""The progress of long work on stderr: a bar on a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from laptime.cli.streams import console

if TYPE_CHECKING:
    from laptime.sweeps.ledger import Standing


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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(phase: str, done: int, of: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=of)
            bars.update(tasks[phase], completed=done)  # type: ignore[arg-type]

        yield report


@contextmanager
def _lines() -> Iterator[Report]:
    last = 0.0
    begun: dict[str, tuple[float, int]] = {}  # by phase: when it was first heard of, and how much was done then

    def report(phase: str, done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        first_s, first_done = begun.setdefault(phase, (now, done))
        if done == of or now - last > LINE_EVERY_S:
            last = now
            left = time_left(now - first_s, done - first_done, of - done)
            print(f"{phase} {done}/{of}{left}", file=sys.stderr, flush=True)  # noqa: T201

    yield report


def time_left(took_s: float, done: int, left: int) -> str:
    """The most that the rest takes at the pace so far, as the end of a line; "" where no pace is known."""
    from laptime.report.kit.numbers import duration

    return f", about {duration(took_s / done * left)} left at most" if done > 0 and left > 0 and took_s > 0 else ""


BAR_EVERY_S = 0.1

Show = Callable[["Standing"], None]
Say = Callable[[str], None]


@contextmanager
def sweep_progress() -> Iterator[tuple[Show, Say]]:
    """Two functions: the first shows how far the sweep is, the second prints a line for the user."""
    with _sweep_bar() if sys.stderr.isatty() else _sweep_lines() as both:
        yield both


def sweep_words(standing: Standing) -> str:
    """How far the sweep is, and how long it still takes, as a line."""
    from laptime.report.kit.numbers import count, duration

    failed = f", {count(standing.failed)} failed" if standing.failed else ""
    left = f", {duration(standing.seconds_left)} left" if standing.seconds_left else ""
    return f"{count(standing.measured)}/{count(standing.of)} measured{failed}{left}"


@contextmanager
def _sweep_bar() -> Iterator[tuple[Show, Say]]:
    from rich.progress import BarColumn, Progress, TextColumn

    printer = console(stderr=True)
    with Progress(BarColumn(), TextColumn("{task.description}"), console=printer, auto_refresh=False) as bars:
        task = bars.add_task("starting", total=None)
        last = 0.0

        def show(standing: Standing) -> None:
            nonlocal last
            done = standing.measured + standing.failed
            if done == standing.of or time.monotonic() - last > BAR_EVERY_S:
                last = time.monotonic()
                bars.update(task, description=sweep_words(standing), completed=done, total=standing.of, refresh=True)

        yield show, lambda line: printer.print(line, markup=False, highlight=False)


@contextmanager
def _sweep_lines() -> Iterator[tuple[Show, Say]]:
    last = 0.0
    shown = ""

    def show(standing: Standing) -> None:
        nonlocal last, shown
        complete = standing.measured + standing.failed == standing.of
        line = sweep_words(standing)
        if line != shown and (complete or time.monotonic() - last > LINE_EVERY_S):
            last, shown = time.monotonic(), line
            say(line)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    yield show, say
