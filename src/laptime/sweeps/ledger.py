"""What a sweep has and what it still has to do. One process keeps it, and writes every line of the run folder.

That is why every key is in it once, whatever happens to the workers: a record counts when the ledger wrote it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from laptime.data.record import Failure, Sample
from laptime.data.run_folder import FILES, RunFolder, RunInfo, load_run
from laptime.sweeps.plan import Key, SweepPlan
from laptime.sweeps.schedule import Failed, Measured, Message, Started, Visit, remaining


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sweep is. `seconds_left` is learned from finished visits; None before the first."""

    measured: int
    failed: int
    of: int
    seconds_left: float | None


class Ledger:
    """The queue of visits and the open files of one run folder."""

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        plan: SweepPlan,
        order: Iterable[Visit],
        *,
        lock: int | None = None,
        retry_failures: bool = False,
        time_limit_s: float | None = None,
        shield: Callable[[Callable[[], None]], None] = lambda write: write(),
        show: Callable[[Standing], None] = lambda standing: None,
    ) -> None:
        """Read what is there.

        order: the visits that this ledger is for. lock: what keeps others out of the folder. shield: runs a write
        undisturbed. show: told after every record.
        """
        self.folder, self.plan = folder, plan
        self._lock = lock
        self._info, self._shield, self._show = info, shield, show
        self._files: dict[str, RunFolder] = {}
        self._until = None if time_limit_s is None else time.monotonic() + time_limit_s
        order = list(order)
        self._mine = {key for visit in order for key in visit.keys}
        self._seen, failed = read_keys(folder)
        self._failed: set[Key] = set() if retry_failures else failed - self._seen
        self._broken: dict[str, tuple[str, str]] = {}  # configuration -> (worker that found out, why)
        self._queue = deque(remaining(order, self._seen | self._failed, self._seen))
        self._out: list[Visit] = []
        self._workers: set[str] = set()
        self._measured_here = len(self._mine & self._seen)
        self._failed_here = len(self._mine & self._failed)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._seconds_left: float | None = None

    def take(self) -> Visit | None:
        """The next visit, handed out; None when there is none (now) or the time is up."""
        if not self._queue or (self._until is not None and time.monotonic() > self._until):
            return None
        visit = self._queue.popleft()
        self._out.append(visit)
        return visit

    def write(self, worker: str, message: Message) -> None:
        """Put a worker's message on the disk. A key that is there already is not written again."""
        if isinstance(message, Started):
            self._workers.add(worker)
            self._append(worker, message.start)
        elif isinstance(message, Measured):
            key = message.sample.key
            if key not in self._seen:
                self._append(worker, message.sample)
                self._seen.add(key)
                self._measured_here += key in self._mine
                self._failed_here -= key in self._mine and key in self._failed
                self._failed.discard(key)
        elif isinstance(message, Failed):
            key = _key(message.failure)
            if key not in self._seen and key not in self._failed:
                self._append(worker, message.failure)
                self._failed.add(key)
                self._failed_here += key in self._mine
            if message.config_failed:
                self._broken.setdefault(message.failure.config_id, (worker, message.failure.error))
        else:
            self._seconds[message.config_id].append(message.seconds)
        self._show(self.standing)

    def finished(self, visit: Visit) -> None:
        """This visit is over. If its configuration can't be measured, no later round tries it."""
        self._out.remove(visit)
        self._drop_broken()
        self._expect()
        self._show(self.standing)

    def give_back(self, visit: Visit) -> None:
        """The worker of this visit is gone: what it had not measured goes to the next."""
        self._out.remove(visit)
        self._queue.extendleft(reversed(remaining([visit], self._seen | self._failed, self._seen)))
        self._drop_broken()

    def give_up(self, visit: Visit, worker: str, why: str) -> None:
        """Record what is left of a visit as failed, and its configuration as one that can't be measured."""
        self._out.remove(visit)
        for left in remaining([visit], self._seen | self._failed, self._seen):
            self._fail(left, why, worker)
        self._broken[visit.config_id] = (worker, why)
        self._drop_broken()

    def measured_of(self, visit: Visit) -> int:
        """How many of the visit's pairs are written."""
        return sum(key in self._seen for key in visit.keys)

    @property
    def standing(self) -> Standing:
        """How far this ledger's part of the sweep is."""
        return Standing(
            measured=self._measured_here,
            failed=self._failed_here,
            of=len(self._mine),
            seconds_left=self._seconds_left,
        )

    @property
    def waiting(self) -> int:
        """Visits not yet handed out."""
        return len(self._queue)

    @property
    def timed_out(self) -> bool:
        """Whether visits are left because the time was up."""
        return bool(self._queue) and self._until is not None and time.monotonic() > self._until

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def forget(self) -> None:
        """In a copy of this process: let go of files and lock, which are the original's."""
        self.close()
        if self._lock is not None:
            os.close(self._lock)

    def _drop_broken(self) -> None:
        """Write down as failed what waits of configurations that can't be measured: a resumed sweep knows it then."""
        if not self._broken:
            return
        for visit in [visit for visit in self._queue if visit.config_id in self._broken]:
            self._queue.remove(visit)
            worker, why = self._broken[visit.config_id]
            self._fail(visit, why, worker)

    def _fail(self, visit: Visit, why: str, worker: str) -> None:
        for sample_id, repeat in visit.pairs:
            failure = Failure(
                config_id=visit.config_id,
                sample_id=sample_id,
                repeat=repeat,
                worker=worker,
                config=visit.config,
                error=why,
                started_unix_ms=time.time() * 1e3,
            )
            self.write(worker, Failed(failure, config_failed=False))

    def _append(self, worker: str, line: object) -> None:
        file = self._files.get(worker)
        if file is None:
            file = self._files[worker] = RunFolder(self.folder, self._info, worker, resume=True)
        self._shield(lambda: file.append(line))  # type: ignore[arg-type]

    def _expect(self) -> None:
        """How long what is left will take, by the visits that are over: a configuration's own, else all of them."""
        known = [second for seconds in self._seconds.values() for second in seconds]
        if known:
            mean = sum(known) / len(known)
            own = {config: sum(seconds) / len(seconds) for config, seconds in self._seconds.items()}
            left = sum(own.get(visit.config_id, mean) for visit in [*self._queue, *self._out])
            self._seconds_left = left / max(1, min(len(self._workers), len(self._queue) + len(self._out)))


def read_keys(folder: Path) -> tuple[set[Key], set[Key]]:
    """The keys of all samples and of all failures in a run folder; none where there is no folder yet.

    Only keys are decoded: a million samples take seconds. Raises LaptimeError for a damaged line.
    """
    found: list[set[Key]] = []
    decoder = msgspec.json.Decoder(_KeyLine)
    for kind in (Sample, Failure):
        keys: set[Key] = set()
        for file in sorted(folder.glob(f"{FILES[kind]}-*.jsonl")):
            content = file.read_bytes()
            try:
                lines = decoder.decode_lines(content[: content.rfind(b"\n") + 1])
            except (msgspec.DecodeError, UnicodeDecodeError):
                load_run(folder)  # says file and line
                raise
            keys.update((line.config_id, line.sample_id, line.repeat) for line in lines)
        found.append(keys)
    return found[0], found[1]


class _KeyLine(msgspec.Struct, gc=False):
    config_id: str
    sample_id: str
    repeat: int


def _key(failure: Failure) -> Key:
    return (failure.config_id, failure.sample_id, failure.repeat)
