"""Tries on a writer of lines: killed between and within lines, again and again, and resumed on other days."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from laptime.data.run_folder import RunFolder, load_run, new_info
from tests.samples import environment, sample
from tests.torture.forked import run_forked
from tests.torture.places import Place
from tests.torture.portions import Fault, Tried

KEYS = [f"{number:04d}" for number in range(24)]
STARTS = 4
"""How often the writer is started. All but the last time it is killed."""
DAY_MS = 86_400_000.0


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    for number in numbers:
        chance = random.Random(f"lines:{seed}:{number}")
        folder = place.folder / "lines"
        shutil.rmtree(folder, ignore_errors=True)
        fault = _killed_lines(folder, chance) or (_reported(folder) if number % 10 == 0 else None)
        yield Tried(number, "lines of a run, killed and resumed", fault, kills=STARTS - 1, resumes=STARTS - 1)


def _killed_lines(folder: Path, chance: random.Random) -> Fault | None:
    seen: dict[str, bytes] = {}
    for start in range(STARTS):
        child = os.fork()
        if child == 0:
            try:
                _write_missing(folder, 1.7e12 + start * DAY_MS * chance.choice([1, 30, -1]))
            finally:
                os._exit(0)
        if start < STARTS - 1:
            time.sleep(chance.random() * 0.02)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        file = folder / "samples-0.jsonl"
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1].splitlines()
        now = {json.loads(line)["sample_id"]: line for line in whole}
        if len(now) != len(whole):
            return Fault("lost or doubled keys", "a key twice")
        if any(now.get(key) != line for key, line in seen.items()):
            return Fault("lost or doubled keys", "a finished line changed or lost")
        seen = now
    return None if sorted(seen) == KEYS else Fault("lost or doubled keys", "a key is missing")


def _reported(folder: Path) -> Fault | None:
    def read() -> int:
        from laptime.cli.main import run

        return run(["report", str(folder), "--html", str(folder / "page.html"), "--force"])

    ended = run_forked(read)
    return Fault("other", f"report: exit code {ended.code}: {ended.err[-200:]}") if ended.code else None


def _write_missing(folder: Path, started: float) -> None:
    done = set()
    if (folder / "run.json").exists():
        done = {one.sample_id for one in load_run(folder).samples}
    with RunFolder(folder, new_info([], {}, environment()), resume=True) as run:
        run.begin()
        for number, key in enumerate(KEYS):
            if key not in done:
                run.append(msgspec.structs.replace(sample(number, started_unix_ms=started + number), sample_id=key))
