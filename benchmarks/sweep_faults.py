"""Kill a sweep at random instants and see what is left of it.

python benchmarks/sweep_faults.py --kills 100

A sweep of preset:tiny-vlm with 3 workers gets faults: SIGKILL (to a worker, to the driver, to the driver in the instant
in which a file grows), a full disk, a torn last line. It is resumed each time. Between the faults every finished line
must keep its bytes. At the end every key must be there once, and the same keys as in an undisturbed run. One process
imports torch and forks each driver, so that a hundred starts don't take an hour.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

CONFIG = """model: {model}
device: cpu
seed: {seed}
workload: {{samples: {samples}}}
knobs: {{{knobs}, new_tokens: 2, prompt_tokens: 8}}
measure: {{repeats: {repeats}, rounds: {rounds}, warmups: 3}}
"""
VLM = {"model": "preset:tiny-vlm", "knobs": "top_k: [1, 4], blocks: [2, 4], image_size: 336x336"}
LLM = {"model": "preset:tiny-llm", "knobs": "blocks: [2, 4], batch: [1, 2]"}


class ForkServer:
    """A process that has imported torch and runs `laptime` in forked processes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--fork-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line()["ready"]

    def start(self, arguments: list[str], said: Path, shift_s: float = 0.0) -> int:
        """Run `laptime ARGUMENTS`, its output in a file, its calendar `shift_s` seconds off; the process id."""
        assert self._process.stdin is not None
        asked = {"arguments": arguments, "said": str(said), "shift_s": shift_s}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._line()["pid"])

    def wait(self) -> int:
        """The exit code of what was started, negative for a signal."""
        return int(self._line()["code"])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def serve_forks() -> None:
    """Fork a process for each line of stdin, and print how it ended."""
    for module in ("sweeps.worker", "sweeps.prepare", "report.sweep.page", "report.sweep.terminal"):
        importlib.import_module(f"laptime.{module}")  # once, not in every driver
    from laptime.cli.main import main

    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            with Path(asked["said"]).open("ab", buffering=0) as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _shift_calendar(asked["shift_s"])
            try:
                main(asked["arguments"])
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(70)
        print(json.dumps({"pid": pid}), flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code}), flush=True)


def _shift_calendar(shift_s: float) -> None:
    """Let time.time() be some seconds off; clocks that measure go on."""
    if shift_s:
        today = time.time
        time.time = lambda: today() + shift_s


class FaultySweep:
    """A sweep, the faults that it gets, and the checks after each."""

    def __init__(self, server: ForkServer, folder: Path, config: Path, rng: random.Random, *, workers: int = 3) -> None:
        self.server, self.folder, self.rng = server, folder, rng
        self.said = folder.with_name(folder.name + ".said")
        self.arguments = ["sweep", str(config), "--out", str(folder), "--resume", "--workers", str(workers)]
        self.faults: Counter[str] = Counter()
        self.pid = 0
        self._prefixes: dict[str, tuple[int, str]] = {}

    def begin(self, *more: str) -> None:
        self.pid = self.server.start([*self.arguments, *more], self.said)

    def alive(self) -> bool:
        try:
            return b"Z" not in Path(f"/proc/{self.pid}/stat").read_bytes().rsplit(b")", 1)[1][:3]
        except OSError:
            return False

    def size(self) -> int:
        """Bytes of all samples."""
        return sum(file.stat().st_size for file in self.folder.glob("samples-*.jsonl"))

    def wait_for_growth(self, since: int, limit_s: float = 60.0) -> bool:
        """Wait until there are more samples; False when the sweep ended first."""
        until = time.monotonic() + limit_s
        while self.alive() and time.monotonic() < until:
            if self.size() > since:
                return True
            time.sleep(0.0005)
        return False

    def kill_a_worker(self) -> bool:
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return False
        if not children:
            return False
        try:
            os.kill(int(self.rng.choice(children)), signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.faults["worker killed"] += 1
        return True

    def kill_the_driver(self, what: str = "driver killed") -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.server.wait()
        self.faults[what] += 1
        self.check()

    def tear_a_line(self) -> None:
        """Leave the first bytes of a line without an end, as a kill within write() does."""
        files = [file for file in self.folder.glob("samples-*.jsonl") if file.stat().st_size]
        if files:
            file = self.rng.choice(files)
            line = file.read_bytes().splitlines()[-1]
            with file.open("ab") as out:
                out.write(line[: self.rng.randrange(1, len(line))])
            self.faults["line torn"] += 1

    def check(self) -> None:
        """Assert that every line that was finished before is there, byte for byte."""
        for file in self.folder.glob("*.jsonl"):
            content = file.read_bytes()
            size, digest = self._prefixes.get(file.name, (0, _digest(b"")))
            assert _digest(content[:size]) == digest, f"{file}: finished lines changed"
            finished = content[: content.rfind(b"\n") + 1]
            assert len(finished) >= size, f"{file}: finished lines lost"
            self._prefixes[file.name] = (len(finished), _digest(finished))

    def finish(self) -> None:
        """Resume until all is measured."""
        for _ in range(5):
            self.begin("--retry-failures")
            code = self.server.wait()
            self.check()
            if code == 0:
                return
        raise AssertionError(f"the sweep does not finish: {self.said.read_text()[-2000:]}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def keys_of(folder: Path) -> list[tuple[str, str, int]]:
    """The keys of all samples of a run."""
    from laptime.data.run_folder import load_run

    return [sample.key for sample in load_run(folder).samples]


def judge(folder: Path) -> dict[str, int]:
    """Assert that a finished run has every key of its plan once, and count what it has."""
    from laptime.data.run_folder import load_run
    from laptime.sweeps.plan import read_plan

    run, plan = load_run(folder), read_plan(folder)
    keys = [sample.key for sample in run.samples]
    assert len(keys) == len(set(keys)), "a key is there twice"
    assert plan is not None
    assert {key for key in keys if key[2] >= 0} == plan.keys(), "keys are missing or too many"
    return {
        "samples": len(keys),
        "planned": len(plan.keys()),
        "failures": len(run.failures),
        "tails": len(run.dropped_tails),
    }


def inject_faults(sweep: FaultySweep, kills: int, disk: Path | None, pause_s: float = 0.5) -> None:
    """Inject faults at random instants until the sweep is done or has had `kills` of them."""
    sweep.begin()
    sweep.wait_for_growth(0)
    while sweep.alive() and sweep.faults.total() < kills:
        time.sleep(sweep.rng.expovariate(1 / pause_s))
        what = sweep.rng.choices(["worker", "driver", "write", "torn", "full"], [60, 12, 16, 6, 6])[0]
        if not sweep.alive():
            break
        if what == "worker":
            sweep.kill_a_worker()
            continue
        before = sweep.size()
        if what == "full":
            if disk is None or not _fill(sweep, disk):
                continue
        else:
            if what == "write":
                sweep.wait_for_growth(before)
            if not sweep.alive():
                break
            sweep.kill_the_driver("driver killed as a file grew" if what == "write" else "driver killed")
            if what == "torn":
                sweep.tear_a_line()
        sweep.begin()
        sweep.wait_for_growth(sweep.size())
    if sweep.alive():
        sweep.kill_the_driver()
    else:
        sweep.server.wait()


def _fill(sweep: FaultySweep, disk: Path) -> bool:
    """Fill the disk. The sweep must end with one line; then the disk is emptied again."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    with (
        suppress(OSError),
        filler.open("wb") as file,
    ):  # the sweep writes meanwhile, too
        file.write(b"\0" * max(0, room.f_bavail * room.f_frsize - 4096))
    until = time.monotonic() + 60
    while sweep.alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert not sweep.alive(), "a full disk did not end the sweep"
    code = sweep.server.wait()
    filler.unlink()
    sweep.check()
    if code == 0:  # it was just finished
        sweep.begin()
        return False
    last = sweep.said.read_text().splitlines()[-1]
    assert code == 2 and "No space left" in last, (code, last)
    sweep.faults["disk full"] += 1
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fork-server", action="store_true")
    asked = parser.parse_args()
    if asked.fork_server:
        serve_forks()
        return
    from recorded import record

    rng = random.Random(asked.seed)
    rows: list[dict[str, Any]] = []
    faults: Counter[str] = Counter()
    server = ForkServer()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as base, SmallDisk(Path(base) / "disk") as disk:
        while faults.total() < asked.kills:
            number = len(rows)
            config = Path(base) / f"{number}.yaml"
            config.write_text(CONFIG.format(**VLM, seed=number, samples=5, repeats=6, rounds=6))
            calm = FaultySweep(server, Path(base) / f"calm-{number}", config, rng)
            calm.finish()
            folder = (disk or Path(base)) / f"sweep-{number}"
            sweep = FaultySweep(server, folder, config, rng)
            inject_faults(sweep, asked.kills - faults.total(), disk)
            sweep.finish()
            rows.append({**judge(folder), "faults": dict(sweep.faults)})
            measured = {key for key in keys_of(folder) if key[2] >= 0}
            assert measured == {key for key in keys_of(calm.folder) if key[2] >= 0}, "not the keys of a calm run"
            faults.update(sweep.faults)
            print(f"sweep {number}: {rows[-1]}", flush=True)
    server.close()
    import torch

    from laptime.measure.environment import describe

    figures = {"faults": dict(faults), "total": faults.total(), "sweeps": rows, "seconds": time.monotonic() - began}
    print()
    for name, count in sorted(faults.items(), key=lambda item: -item[1]):
        print(f"{count:>5}  {name}")
    print(f"{faults.total():>5}  faults in {len(rows)} sweeps; every key once, no finished line changed")
    print(record("sweep_faults", figures, describe(torch.device("cpu"))))


class SmallDisk:
    """A small tmpfs; None where mounting is not allowed, and then no disk becomes full."""

    def __init__(self, place: Path, size: str = "16m") -> None:
        self._place, self._size = place, size

    def __enter__(self) -> Path | None:
        self._place.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self._place)]
        self._mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        return self._place if self._mounted else None

    def __exit__(self, *_: object) -> None:
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._place)], check=False)


if __name__ == "__main__":
    main()
