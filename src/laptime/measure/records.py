"""What a timer has measured: its samples and failures, and the calls whose samples are not built yet.

Building a sample takes a few tenths of a millisecond, which a caller of generate() need not wait for. So a call that
has returned is only kept, and its sample is built before the next call begins or when somebody looks, whichever comes
first. At most one call of each thread waits.
"""

from __future__ import annotations

import warnings
from collections import deque
from contextlib import suppress
from threading import RLock

from laptime.data.record import Failure, Flag, Sample, Scalar, config_id
from laptime.errors import LaptimeError
from laptime.measure.call_sample import RecordedUnder, sample_of, what_ran
from laptime.measure.clock import Clock
from laptime.measure.returned_call import Key, ReturnedCall
from laptime.measure.timed_call import TimedModel

Configs = dict[tuple[tuple[str, Scalar], ...], RecordedUnder]


class Records:
    """Samples and failures in the order of the calls' ends.

    samples, failures, newest: as of the last build(). config: what the samples are recorded under. given: the user has
    named it, so nothing is added of what ran. clocks: where a clock goes when its marks were read.
    """

    def __init__(
        self, timed: TimedModel, config: dict[str, Scalar], *, given: bool, worker: str, clocks: list[Clock]
    ) -> None:
        self.samples: list[Sample] = []
        self.failures: list[Failure] = []
        self.newest: Sample | Failure | None = None
        self.warned = False  # of a failure; who reads `last` after each call gets it from there
        self._timed = timed
        self._under = RecordedUnder(config, config_id(config), worker)
        self._given = given
        self._configs: Configs = {}  # by what ran
        self._clocks = clocks
        self._waiting: deque[ReturnedCall] = deque()
        self._keys: set[Key] = set()
        self._name: str | None = None
        self._repeat = 0
        self.flags: tuple[Flag, ...] = ()  # of the calls that follow
        self._lock = RLock()  # a handler of signals may look at samples while one is built

    def label(self, name: str, repeat: int, flags: tuple[Flag, ...]) -> None:
        """Name the calls that follow (StageTimer.label)."""
        self._name, self._repeat, self.flags = name, repeat, tuple(flags)

    def next_key(self) -> Key:
        """The sample's name and its repeat: no two samples of a run may have both in common."""
        with self._lock:
            name, repeat = self._name, self._repeat
            if name is None:
                name, repeat = str(len(self._keys)), 0
            while (name, repeat) in self._keys:
                repeat += -1 if repeat < 0 else 1
            self._keys.add((name, repeat))
            return name, repeat

    def keep(self, call: ReturnedCall) -> None:
        """Keep a call whose sample is built later."""
        self._waiting.append(call)

    def build(self) -> Records:
        """Build the samples of all calls that were kept."""
        while self._waiting:
            with self._lock:
                if not self._waiting:
                    break
                call = self._waiting[0]
                built: Sample | Exception
                try:
                    built = sample_of(call, self._timed, self._recorded_under(call))
                except Exception as error:
                    built = error
                # Interrupted before this, the call waits on. A signal's handler may have built it meanwhile.
                if not self._waiting or self._waiting[0] is not call:
                    continue
                self._waiting.popleft()
                self._clocks.append(call.clock)
                if isinstance(built, Sample):
                    self.samples.append(built)
                    self.newest = built
                else:
                    self.failed(built, call.around.started_unix_ms, call.key)
        return self

    def failed(self, error: Exception, started_unix_ms: float, key: Key) -> None:
        """Keep why a call that has returned was not measured, and warn of the first one."""
        reason = str(error) if isinstance(error, LaptimeError) else f"{type(error).__name__}: {error}"
        sample_id, repeat = key
        with self._lock:
            self.newest = Failure(
                config_id=self._under.config_id,
                sample_id=sample_id,
                repeat=repeat,
                worker=self._under.worker,
                config=self._under.config,
                error=reason,
                started_unix_ms=started_unix_ms,
            )
            self.failures.append(self.newest)
        if not self.warned:
            self.warned = True
            with suppress(RuntimeWarning):  # where warnings are errors, the result still goes first
                warnings.warn(
                    f"laptime did not measure a generate() call: {reason}. generate() returned its result; "
                    "StageTimer.failures holds the reason of each such call",
                    RuntimeWarning,
                    stacklevel=4,
                )

    def _recorded_under(self, call: ReturnedCall) -> RecordedUnder:
        """The configuration of a call, and its hash, which is made once for each way of calling."""
        if self._given:
            return self._under
        facts = what_ran(call)
        key = tuple(facts.items())
        if key not in self._configs:
            config = {**self._under.config, **facts}
            self._configs[key] = RecordedUnder(config, config_id(config), self._under.worker)
        return self._configs[key]
