"""Tries on serve-bench: its client is killed with kill -9 at any instant, and resumed on another day.

The server is a known one on loopback, whose answers break off now and then. In the end every request stands there once,
with its sample or its failure, and no finished line has changed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from benchmarks.sweep_faults import FaultySweep, ForkServer

from tests.engines.known_server import Plan, running
from tests.torture.forked import run_try
from tests.torture.places import Place, keep_copy
from tests.torture.portions import Fault, Tried
from tests.torture.tries import Try, complaint

ASKED, WARM_UPS = 40, 2
LOADS = (("--concurrency", "2"), ("--rate", "60", "--arrivals", "poisson"), ("--concurrency", "1,4"))
DAYS = (-3, -1, 1, 2, 30, 400)
PATIENCE_S = 300.0


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    server = ForkServer()
    try:
        for number in numbers:
            chance = random.Random(f"serving:{seed}:{number}")
            folder = place.empty("serving")
            load = LOADS[number % len(LOADS)]
            kind = f"serve-bench {load[0]} {load[1]}"
            broken = chance.choice([0, 0, 7])  # every seventh answer breaks off
            with running(lambda n, every=broken: _plan(n, every)) as answering:
                client = _Client(server, folder, answering.url, load, chance)
                fault = client.tried()
            fault = fault or _read(folder / "run")
            if fault:
                keep_copy(folder, place.keep / f"serving-{seed}-{number}")
                fault = Fault(fault.sort, f"{kind}: {fault.what}")
            yield Tried(number, kind, fault, client.kills, client.resumes)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        server.close()


def _plan(number: int, every: int) -> Plan:
    return Plan(first_s=0.004, gap_s=0.001, hang_up_after=1 if every and number % every == 0 else None)


class _Client:
    """One client, with what kills it."""

    def __init__(
        self, server: ForkServer, folder: Path, url: str, load: tuple[str, ...], chance: random.Random
    ) -> None:
        self._server, self._chance = server, chance
        self._levels = len(load[1].split(","))
        self._run = FaultySweep(server, folder / "run", folder / "none", chance)
        self._run.arguments = ["serve-bench", url, *load, "--requests", str(ASKED), "--warmup", str(WARM_UPS),
                               "--prompt-tokens", "8", "--new-tokens", "4", "--out", str(folder / "run")]  # fmt: skip
        self.kills = self.resumes = 0

    def tried(self) -> Fault | None:
        day, more = 0, []
        for _ in range(self._chance.choice([1, 2, 3])):
            ended = self._killed(day, more)
            if (self._run.folder / "run.json").exists():
                more = ["--resume"]
            fault = self._checked()
            if fault or ended:
                return fault or self._complete()
            day += self._chance.choice(DAYS)
        self._start(day, more)
        self.resumes += bool(more)
        code = self._waited()
        if code is None:
            return Fault("hangs", "a resumed client hangs")
        if code not in (0, 1):
            return Fault("other", f"a resumed client ends with {code}: {self._said()}")
        return self._checked() or self._complete()

    def _killed(self, day: int, more: list[str]) -> bool:
        """Start and kill the client: while it starts, or as it writes. Whether it had ended by itself."""
        self._start(day, more)
        self.resumes += bool(more)
        if self._chance.random() < 0.3:
            time.sleep(self._chance.random())
        else:
            self._run.wait_for_growth(self._run.size(), PATIENCE_S)
            time.sleep(self._chance.random() * self._chance.choice([0.002, 0.05, 0.4]))
        if not self._run.alive():
            self._waited()
            return True
        with suppress(ProcessLookupError):
            os.kill(self._run.pid, signal.SIGKILL)
        self._waited()
        self.kills += 1
        return False

    def _start(self, day: int, more: list[str]) -> None:
        self._run.pid = self._server.start([*self._run.arguments, *more], self._run.said, day * 86_400.0)

    def _waited(self) -> int | None:
        until = time.monotonic() + PATIENCE_S
        while self._run.alive():
            if time.monotonic() > until:
                os.kill(self._run.pid, signal.SIGKILL)
                self._server.wait()
                return None
            time.sleep(0.005)
        return self._server.wait()

    def _checked(self) -> Fault | None:
        if "Traceback" in self._run.said.read_text(errors="replace"):
            return Fault("tracebacks", f"traceback: {self._said()}")
        try:
            self._run.check()
        except AssertionError as error:
            return Fault("lost or doubled keys", str(error).rpartition(": ")[2])
        return None

    def _complete(self) -> Fault | None:
        """Every request once, and a sample or a failure for each."""
        from laptime.data.run_folder import load_run
        from laptime.engines.request import read_requests

        run = load_run(self._run.folder)
        keys = [one.key for one in run.samples] + [(f.config_id, f.sample_id, f.repeat) for f in run.failures]
        requests = read_requests(self._run.folder)
        asked = sum(key[2] >= 0 for key in keys)
        if len(keys) != len(set(keys)) or asked != ASKED * self._levels:
            return Fault("lost or doubled keys", f"{asked} of {ASKED * self._levels} requests, {len(set(keys))} keys")
        measured = sum(one.repeat >= 0 for one in requests)
        return None if measured == asked else Fault("lost or doubled keys", f"{measured} requests of {asked} samples")

    def _said(self) -> str:
        return (self._run.said.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1][:200]


def _read(run: Path) -> Fault | None:
    """The engine's report and the audit of what is there."""
    if not (run / "run.json").exists():
        return None
    for words in (
        ["engine", str(run)],
        ["report", str(run), "--html", str(run / "page.html"), "--force"],
        ["audit", str(run)],
    ):
        fault = complaint(Try("a run", words, run), run_try(Try("a run", words, run)))
        if fault:
            return Fault(fault.sort, f"{words[0]}: {fault.what}")
    return None
