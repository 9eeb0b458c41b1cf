"""Runs a verb, or a function, in a forked copy of this process, which has imported laptime already.

This process must never compute with polars or LightGBM itself: their threads do not survive a fork.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import BinaryIO, NoReturn

from tests.torture.tries import Ended, Try

LIMIT_S = 60.0
"""Of the processor: a machine that is busy with other things is slow, and nothing hangs."""
STUCK_S = 60.0
"""A process that has used no processor for so long waits for something that won't come."""
MEMORY_BYTES = 6 << 30
WANTED = (
    "polars", "lightgbm", "scipy.stats", "scipy.optimize", "rich.console", "rich.table", "laptime.api",
    "laptime.audits", "laptime.comparisons", "laptime.report.results", "laptime.report.sweep.page",
    "laptime.report.profile.page", "laptime.report.audit.page", "laptime.report.trace.page",
    "laptime.report.sweep.terminal", "laptime.report.profile.terminal", "laptime.report.audit.terminal",
    "laptime.report.estimate.terminal", "laptime.report.compare.terminal", "laptime.trace.analysis",
    "laptime.trace.ranks", "laptime.estimate.run_fit", "laptime.sweeps.merge", "laptime.sweeps.ledger",
    "laptime.control.judge.replay", "laptime.control.policies.saved_policy", "laptime.workload.reading",
)  # fmt: skip
"""Imported once here, so that a fork needs milliseconds."""


def import_what_verbs_need() -> None:
    os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    for name in WANTED:
        import_module(name)


def run_try(asked: Try, limit_s: float = LIMIT_S) -> Ended:
    """Run a verb in a fork, its standard streams in files."""

    def verb() -> int:
        from laptime.cli.main import run

        return run(list(asked.arguments))

    return run_forked(verb, asked.environment, limit_s)


def run_forked(
    work: Callable[[], int], environment: Mapping[str, str | None] | None = None, limit_s: float = LIMIT_S
) -> Ended:
    """Run a function in a fork; what it returns is the exit code."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_child(work, environment or {}, out, err)
    code = waited(child, limit_s)
    seconds = time.monotonic() - begin
    texts = []
    for descriptor in (out, err):
        size = os.fstat(descriptor).st_size
        texts.append(os.pread(descriptor, min(size, 4 << 20), 0).decode("utf-8", errors="replace"))
        os.close(descriptor)
    return Ended(code, texts[0], texts[1], seconds)


def waited(child: int, limit_s: float = LIMIT_S) -> int | None:
    """The exit code of a child; None when it took too long, and is killed."""
    descriptor = os.pidfd_open(child)
    used, since = -1.0, time.monotonic()
    try:
        while not (ready := bool(select.select([descriptor], [], [], 3.0)[0])):
            before, used = used, processor_seconds(child)
            if used > before:
                since = time.monotonic()
            if used > limit_s or time.monotonic() - since > STUCK_S:
                break
    finally:
        os.close(descriptor)
    if not ready:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if ready else None


def _ready(pipe: BinaryIO, child: int, limit_s: float) -> bool:
    """Wait until the child has written or ended; False when it is stuck, or has used more of the processor."""
    begin = used = processor_seconds(child)
    since = time.monotonic()
    while not select.select([pipe], [], [], 3.0)[0]:
        before, used = used, processor_seconds(child)
        if used > before:
            since = time.monotonic()
        if used - begin > limit_s or time.monotonic() - since > STUCK_S:
            return False
    return True


def processor_seconds(process: int) -> float:
    """What a process has used of the processor."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _run_child(work: Callable[[], int], environment: Mapping[str, str | None], out: int, err: int) -> NoReturn:
    code = 71
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)
        sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
        os._exit(code)


def each_in_forks(
    numbers: range, work: Callable[[int], str | None], limit_s: float = LIMIT_S
) -> Iterator[tuple[int, str]]:
    """Call work(number) for each in forks, many in each; yield each number and what its call says is wrong, or "".

    A call that ends its process, or takes longer than limit_s of the processor, is yielded with that, and the next fork
    goes on after it.
    """
    begun = numbers.start
    while begun < numbers.stop:
        here, there = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(here)
            _call_each(range(begun, min(numbers.stop, begun + 200)), work, there)
        os.close(there)
        last, stuck = begun - 1, False
        with open(here, "rb", buffering=0) as pipe:
            rest = b""
            while True:
                if not _ready(pipe, child, limit_s):
                    stuck = True
                    break
                block = pipe.read(1 << 16)
                if not block:
                    break
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    number, _, what = line.decode(errors="replace").partition(" ")
                    last = int(number)
                    yield last, what
        if stuck:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        ended_well = not stuck and status == 0
        if not ended_well:
            last += 1
            yield last, "hangs" if stuck else f"ends its process ({os.waitstatus_to_exitcode(status)})"
        begun = last + 1


def _call_each(numbers: range, work: Callable[[int], str | None], there: int) -> NoReturn:
    code = 72
    try:
        devnull = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(devnull, standard)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        for number in numbers:
            what = work(number)
            os.write(there, f"{number} {' '.join((what or '').split())[:300]}\n".encode("utf-8", "replace"))
        code = 0
    finally:
        os._exit(code)


def scratch() -> Path:
    """A folder in memory, where there is one: tens of thousands of tries need no disk."""
    import tempfile

    place = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="laptime-torture-", dir=place if place.is_dir() else None))
