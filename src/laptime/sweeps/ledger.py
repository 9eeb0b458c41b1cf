"""What a sweep has measured and what it still has to do.

One process keeps the ledger and writes every line of the run folder. A record counts once the ledger has written it,
so every key is there once, whatever happens to the workers.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from laptime.data.files import FolderLock
from laptime.data.outside import DAMAGE, read_part
from laptime.data.record import Failure, Sample
from laptime.data.run_folder import FILES, RunFolder, RunInfo, load_run
from laptime.errors import LaptimeError
from laptime.sweeps.plan import Key, SweepPlan, read_plan
from laptime.sweeps.schedule import Failed, Measured, Message, Started, Visit, remaining


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sweep is. `seconds_left` comes from the visits that are over; None before the first."""

    measured: int
    failed: int
    of: int
    seconds_left: float | None


@dataclass(frozen=True)
class LedgerOptions:
    """How a ledger works.

    lock: keeps other writers out of the folder. retry_failures: hand out failed keys again.
    time_limit_s: no visit is handed out after it. shield: runs a write so that no signal interrupts it.
    show: called after every record with how far the sweep is.
    """

    lock: FolderLock
    retry_failures: bool = False
    time_limit_s: float | None = None
    shield: Callable[[Callable[[], None]], None] = lambda write: write()
    show: Callable[[Standing], None] = lambda standing: None


class Ledger:
    """The queue of visits and the open files of one run folder."""

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        plan: SweepPlan,
        order: Iterable[Visit],
        options: LedgerOptions,
    ) -> None:
        """Read what the folder holds. order: the visits that this ledger hands out."""
        self.folder, self.plan = folder, plan
        self._lock = options.lock
        self._info, self._shield, self._show = info, options.shield, options.show
        time_limit_s = options.time_limit_s
        self._files: dict[str, RunFolder] = {}
        self._until = None if time_limit_s is None else time.monotonic() + time_limit_s
        order = list(order)
        self._part = {key for visit in order for key in visit.keys}
        self._seen, failed = read_keys(folder)
        self._failed: set[Key] = set() if options.retry_failures else failed - self._seen
        self._broken: dict[str, tuple[str, str]] = {}  # configuration -> (worker that found out, why)
        self._queue = deque(remaining(order, self._seen | self._failed, self._seen))
        self._out: list[Visit] = []
        self._workers: set[str] = set()
        self._measured_here = len(self._part & self._seen)
        self._failed_here = len(self._part & self._failed)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._seconds_left: float | None = None

    def take(self) -> Visit | None:
        """Hand out the next visit. None when no visit is waiting or the time is up."""
        if not self._queue or (self._until is not None and time.monotonic() > self._until):
            return None
        visit = self._queue.popleft()
        self._out.append(visit)
        return visit

    def write(self, worker: str, message: Message) -> None:
        """Write a worker's message to the disk. A key that is there already is not written again."""
        if isinstance(message, Started):
            self._workers.add(worker)
            self._append(worker, message.start)
        elif isinstance(message, Measured):
            key = message.sample.key
            if key not in self._seen:
                self._append(worker, message.sample)
                self._seen.add(key)
                self._measured_here += key in self._part
                self._failed_here -= key in self._part and key in self._failed
                self._failed.discard(key)
        elif isinstance(message, Failed):
            key = _key(message.failure)
            if key not in self._seen and key not in self._failed:
                self._append(worker, message.failure)
                self._failed.add(key)
                self._failed_here += key in self._part
            if message.config_failed:
                self._broken.setdefault(message.failure.config_id, (worker, message.failure.error))
        else:
            self._seconds[message.config_id].append(message.seconds)
        self._show(self.standing)

    def finished(self, visit: Visit) -> None:
        """Mark a visit as over. A configuration that can't be measured is not tried in later rounds."""
        self._out.remove(visit)
        self._drop_broken()
        self._expect()
        self._show(self.standing)

    def give_back(self, visit: Visit) -> None:
        """Put a visit back because its worker died. What it had not measured goes to the next worker."""
        self._out.remove(visit)
        self._queue.extendleft(reversed(remaining([visit], self._seen | self._failed, self._seen)))
        self._drop_broken()

    def give_up(self, visit: Visit, worker: str, why: str) -> None:
        """Record the rest of a visit as failed, and its configuration as one that can't be measured."""
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
            of=len(self._part),
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
        """Close files and lock in a forked process; they belong to its parent."""
        self.close()
        self._lock.let_go()

    def _drop_broken(self) -> None:
        """Record all waiting visits of configurations that can't be measured as failed, so that --resume skips them."""
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
            file = self._files[worker] = RunFolder(self.folder, self._info, worker, resume=True, lock=self._lock)
        self._shield(lambda: file.append(line))  # type: ignore[arg-type]

    def _expect(self) -> None:
        """Estimate the time left from finished visits: those of the same configuration, else the mean of all."""
        known = [second for seconds in self._seconds.values() for second in seconds]
        if known:
            mean = sum(known) / len(known)
            own = {config: sum(seconds) / len(seconds) for config, seconds in self._seconds.items()}
            left = sum(own.get(visit.config_id, mean) for visit in [*self._queue, *self._out])
            self._seconds_left = left / max(1, min(len(self._workers), len(self._queue) + len(self._out)))


def read_keys(folder: Path) -> tuple[set[Key], set[Key]]:
    """The keys of all samples and of all failures in a run folder. Both are empty if there is no folder yet.

    Only the keys are decoded, so a million samples take seconds. Raises LaptimeError for a damaged line.
    """
    keys_of_kind: list[set[Key]] = []
    decoder = msgspec.json.Decoder(_KeyLine)
    for kind in (Sample, Failure):
        keys: set[Key] = set()
        for file in sorted(folder.glob(f"{FILES[kind]}-*.jsonl")):
            content = read_part(file)
            try:
                lines = decoder.decode_lines(content[: content.rfind(b"\n") + 1])
            except DAMAGE as error:
                load_run(folder)  # says the line, if it is one that can't be read as a sample either
                raise LaptimeError(f"{file}: not records of laptime ({error}); remove that line") from error
            keys.update((line.config_id, line.sample_id, line.repeat) for line in lines)
        keys_of_kind.append(keys)
    return keys_of_kind[0], keys_of_kind[1]


def is_complete(folder: Path) -> bool:
    """Whether a sweep's folder holds every key of its plan, measured or failed."""
    plan = read_plan(folder)
    measured, failed = read_keys(folder)
    return plan is not None and plan.keys() <= measured | failed


class _KeyLine(msgspec.Struct, gc=False):
    config_id: str
    sample_id: str
    repeat: int


def _key(failure: Failure) -> Key:
    return (failure.config_id, failure.sample_id, failure.repeat)
