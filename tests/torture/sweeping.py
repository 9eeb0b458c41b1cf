"""Tries on real measuring: sweeps by each executor and profiles, killed with kill -9 and resumed on another day.

A sweep is killed once or twice, at any instant from its start on, and resumed each time on another day than before.
Then every key of its plan is there once, no finished line has changed, and report and audit answer.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.sweep_faults import FaultySweep, ForkServer, judge

from tests.torture.forked import run_try
from tests.torture.places import Place, keep_copy
from tests.torture.portions import Fault, Tried
from tests.torture.tries import Try, complaint

CONFIG = """model: preset:tiny-llm
device: cpu
seed: {seed}
workload: {{samples: 3}}
knobs: {{blocks: [2, 4], new_tokens: 2, prompt_tokens: 8}}
measure: {{repeats: 3, rounds: 3, warmups: 2}}
"""
WAYS: dict[str, tuple[str, ...]] = {
    "sweep, one worker": (),
    "sweep, three workers": ("--workers", "3"),
    "sweep, torchrun": ("--executor", "torchrun"),
    "sweep, Ray": ("--executor", "ray", "--workers", "2"),
    "profile": (),
}
"""Words of each way to measure."""
TURNS = ("sweep, one worker", "sweep, three workers", "profile", "sweep, one worker", "sweep, three workers",
         "sweep, torchrun", "sweep, one worker", "sweep, three workers", "profile", "sweep, Ray")  # fmt: skip
DAYS = (-3, -1, 1, 2, 30, 400)
PATIENCE_S = 900.0
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    server = ForkServer()
    try:
        for number in numbers:
            chance = random.Random(f"sweeping:{seed}:{number}")
            folder = place.empty("sweeping")
            name = TURNS[number % len(TURNS)]
            one = _Measuring(server, folder, name, chance)
            fault = one.tried()
            if fault:
                keep_copy(folder, place.keep / f"sweeping-{seed}-{number}")
                fault = Fault(fault.sort, f"{name}: {fault.what}")
            yield Tried(number, name, fault, one.kills, one.resumes)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        server.close()


class _Measuring:
    """One sweep or profile, with what kills it."""

    def __init__(self, server: ForkServer, folder: Path, name: str, chance: random.Random) -> None:
        self._server, self._name, self._chance = server, name, chance
        config = folder / "sweep.yaml"
        config.write_text(CONFIG.format(seed=chance.randrange(1000)))
        self._sweep = FaultySweep(server, folder / "run", config, chance)
        self._words = ["sweep", str(config), "--out", str(folder / "run"), "--resume", *WAYS[name]]
        if name == "profile":
            self._words = ["profile", "preset:tiny-llm", "--samples", "6", "--repeats", "40", "--precision", "1e-6",
                           "--new-tokens", "2", "--prompt-tokens", "8", "--max-warmups", "2", "--out",
                           str(folder / "run")]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.kills = self.resumes = 0

    def tried(self) -> Fault | None:
        day, fault = 0, None
        for _ in range(1 if self._name == "profile" else self._chance.choice([1, 2])):
            self._start(day)
            ended = self._killed_at_any_instant()
            fault = fault or self._checked()
            day += self._chance.choice(DAYS)
            if ended:
                break
        if self._name != "profile":
            fault = fault or self._finished(day)
        return fault or self._read()

    def _finished(self, day: int) -> Fault | None:
        self._start(day, "--retry-failures")
        self.resumes += 1
        code = self._waited()
        if code is None:
            return Fault("hangs", "a resumed sweep hangs")
        if code:
            return Fault("other", f"a resumed sweep ends with {code}: {self._said()}")
        try:
            judge(self._sweep.folder)
        except AssertionError as error:
            return Fault("lost or doubled keys", str(error))
        return self._checked()

    def _checked(self) -> Fault | None:
        if "Traceback" in self._sweep.said.read_text(errors="replace"):
            return Fault("tracebacks", f"traceback: {self._said()}")
        try:
            self._sweep.check()
        except AssertionError as error:
            return Fault("lost or doubled keys", str(error).rpartition(": ")[2])
        return None

    def _read(self) -> Fault | None:
        """The page and the audit of what is there."""
        run = self._sweep.folder
        if not (run / "run.json").exists():  # killed before there was anything
            return None
        for words in (["report", str(run), "--html", str(run / "page.html"), "--force"], ["audit", str(run)]):
            fault = complaint(Try("a run", words, run), run_try(Try("a run", words, run)))
            if fault:
                return fault
        return None

    def _start(self, day: int, *more: str) -> None:
        words, shift_s = [*self._words, *more], day * 86_400.0
        if self._name not in ("sweep, torchrun", "sweep, Ray"):
            self._sweep.pid = self._server.start(words, self._sweep.said, shift_s)
            return
        launch: Sequence[str] = LAUNCH if self._name == "sweep, torchrun" else ()
        paths = [str(Path(__file__).with_name("another_day")), *filter(None, [os.environ.get("PYTHONPATH")])]
        with self._sweep.said.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, *launch, "-m", "laptime", *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LAPTIME_TORTURE_SHIFT_S": str(shift_s)},
            )  # fmt: skip
        self._sweep.pid = self._process.pid

    def _killed_at_any_instant(self) -> bool:
        """Kill what runs: while it starts, or when it has written something. Whether it had ended by itself."""
        if self._chance.random() < 0.2:
            time.sleep(self._chance.random() * 5)
        else:
            self._sweep.wait_for_growth(self._sweep.size(), PATIENCE_S)
            time.sleep(self._chance.random() * self._chance.choice([0.002, 0.2, 1.0]))
        if not self._sweep.alive():
            self._waited()
            return True
        with suppress(ProcessLookupError):
            if self._process is not None:  # all processes of torchrun; of Ray the driver, whose watcher ends the rest
                os.killpg(self._sweep.pid, signal.SIGKILL)
            else:
                os.kill(self._sweep.pid, signal.SIGKILL)
        self._waited()
        self.kills += 1
        return False

    def _waited(self) -> int | None:
        until = time.monotonic() + PATIENCE_S
        while self._sweep.alive():
            if time.monotonic() > until:
                os.kill(self._sweep.pid, signal.SIGKILL)
                return None
            time.sleep(0.01)
        return self._process.wait() if self._process is not None else self._server.wait()

    def _said(self) -> str:
        return (self._sweep.said.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1][:200]
