"""What to do when a worker dies: its visit goes to another worker, or is given up when workers keep dying at it."""

from __future__ import annotations

from collections.abc import Callable

from laptime.sweeps.ledger import Ledger
from laptime.sweeps.schedule import Visit

DEATHS = 3
"""A worker, or a visit, is given up after this many deaths in a row without a sample."""


class WorkerDeaths:
    """Counts the deaths of workers that measured nothing, and decides who may try again."""

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._say = ledger, say
        self._starts: dict[str, int] = {}
        self._visits: dict[tuple[str, int], int] = {}

    def forget(self, worker: str) -> None:
        """Forget earlier deaths of a worker that has just ended a visit."""
        self._starts.pop(worker, None)

    def may_replace(self, worker: str, visit: Visit | None, how: str) -> bool:
        """Whether a dead worker should be replaced. Its visit is passed on or given up.

        visit: what it was at; None at its start. how: it died, for the user ("was killed by SIGKILL").
        """
        if visit is not None:
            self._pass_on(visit, worker, how)
            return True
        self._starts[worker] = self._starts.get(worker, 0) + 1
        if self._starts[worker] < DEATHS:
            return True
        self._say(f"worker {worker} {how}, {DEATHS} times before it measured anything: given up")
        return False

    def _pass_on(self, visit: Visit, worker: str, how: str) -> None:
        at = (visit.config_id, visit.round)
        deaths = self._visits[at] = 1 if self._ledger.measured_of(visit) else self._visits.get(at, 0) + 1
        if deaths < DEATHS:
            self._say(f"worker {worker} {how}; what is left of its visit goes to another")
            self._ledger.give_back(visit)
        else:
            self._say(f"worker {worker} {how}, the {DEATHS}rd time at configuration {visit.config_id}: given up")
            self._ledger.give_up(visit, worker, f"the worker {how}, {DEATHS} times at this configuration")
