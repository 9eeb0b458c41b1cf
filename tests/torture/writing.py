"""Tries on what laptime writes: kills and signals at random instants, two writers, a full disk, another day.

After each try the place that was written holds the old artefact or the new one, whole, and nothing beside it but what
the next writer takes away; and every finished line is there as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.torture.forked import run_forked, waited

VERBS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("fit", ("fit", "SWEEP", "--out", "OUT", "--force"), "OUT"),
    ("report", ("report", "SWEEP", "--html", "OUT.html", "--force"), "OUT.html"),
    ("audit page", ("audit", "SWEEP", "--html", "OUT.html", "--force"), "OUT.html"),
    ("export", ("export", "SWEEP", "--to", "OUT.parquet", "--force"), "OUT.parquet"),
    ("export older JSON", ("export", "SWEEP", "--format", "legacy-json", "--to", "OUT", "--force"), "OUT"),
    ("merge", ("merge", "SWEEP", "--out", "OUT"), "OUT"),
)  # fmt: skip
"""(name, words, what is written) of verbs that write an artefact."""


def digest(place: Path) -> str | None:
    """What an artefact holds; None when it isn't there, or is an empty folder: a lock was taken there."""
    if not os.path.lexists(place):
        return None
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    if not files:
        return None
    whole = hashlib.sha256()
    for file in files:
        whole.update(str(file.relative_to(place.parent)).encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()


class Writers:
    """Verbs with their artefacts as they come out undisturbed: each try must leave one of these, or none."""

    def __init__(self, world: Path, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.seconds: dict[str, float] = {}

    def words(self, verb: tuple[str, ...], other: bool) -> list[str]:
        known = {"SWEEP": str(self.world / ("sweep2" if other else "sweep"))}
        return [known.get(word, str(self.folder / word) if word.startswith("OUT") else word) for word in verb]

    def started(self, verb: tuple[str, ...], other: bool, before: Callable[[], None] = lambda: None) -> int:
        """Start a verb in a fork; its process id."""
        child = os.fork()
        if child == 0:
            code = 71
            try:
                null = os.open(os.devnull, os.O_RDWR)
                for standard in (0, 1):
                    os.dup2(null, standard)
                said = os.open(self.folder.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
                os.dup2(said, 2)
                import sys

                sys.stdout = open(1, "w", closefd=False)
                sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)
                from laptime.cli.main import run
                from laptime.cli.stop import STATE, watch_signals

                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                STATE.begin()
                watch_signals()
                before()
                code = run(self.words(verb, other))
                sys.stderr.flush()
            finally:
                os._exit(code)
        return child

    def said(self) -> str:
        return (self.folder.parent / "said").read_text(errors="replace")


def tries(world: Path, folder: Path, chance: random.Random, count: int) -> Iterator[tuple[str, str | None]]:
    """(kind, what is wrong or None) of `count` tries."""
    shutil.copytree(world / "sweep", world / "sweep2")
    lines = (world / "sweep2" / "samples-0.jsonl").read_bytes().splitlines(keepends=True)
    (world / "sweep2" / "samples-0.jsonl").write_bytes(b"".join(lines[:-6]))
    writers = Writers(world, folder / "out")
    good: dict[str, set[str | None]] = {}
    for name, words, out in VERBS:
        good[name] = {None}
        for other in (False, True):
            shutil.rmtree(writers.folder, ignore_errors=True)
            writers.folder.mkdir(parents=True)
            begin = time.monotonic()
            waited(writers.started(words, other), 120)
            writers.seconds[name] = time.monotonic() - begin
            good[name].add(digest(writers.folder / out))
    for _ in range(count):
        name, words, out = chance.choice(VERBS)
        kind, wrong = chance.choice([_kill, _kill, _signal, _two, _full])(writers, name, words, out, chance, good[name])
        yield f"{kind} of {name}", wrong


def _fresh(writers: Writers, words: tuple[str, ...], chance: random.Random) -> None:
    """An empty folder, or one with the artefact of the other sweep."""
    shutil.rmtree(writers.folder, ignore_errors=True)
    writers.folder.mkdir(parents=True)
    if "--force" in words and chance.random() < 0.5:
        waited(writers.started(words, True), 120)


def _kill(
    writers: Writers, name: str, words: tuple[str, ...], out: str, chance: random.Random, good: set[str | None]
) -> tuple[str, str | None]:
    _fresh(writers, words, chance)
    child = writers.started(words, False)
    time.sleep(chance.random() * writers.seconds[name])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if digest(writers.folder / out) not in good:
        return "kill -9", f"half an artefact: {sorted(file.name for file in writers.folder.rglob('*'))}"
    code = waited(writers.started(words, False), 120)  # the next one isn't disturbed by what is left
    if code != 0 and not (words[0] == "merge" and code == 2):
        return "kill -9", f"then exit code {code}: {writers.said()[-200:]}"
    return "kill -9", None if digest(writers.folder / out) in good - {None} else "then half an artefact"


def _signal(
    writers: Writers, name: str, words: tuple[str, ...], out: str, chance: random.Random, good: set[str | None]
) -> tuple[str, str | None]:
    _fresh(writers, words, chance)
    number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    child = writers.started(words, False)
    time.sleep(chance.random() * writers.seconds[name])
    for _ in range(chance.choice([1, 1, 2])):
        os.kill(child, number)
        time.sleep(chance.random() * 0.05)
    code = waited(child, 120)
    kind = signal.Signals(number).name
    if code == 71 and not writers.said():  # in the fork, before laptime's first line ran
        return kind, None
    if code not in (0, 1, 128 + number, -number):  # -number: before the first line of laptime ran in this fork
        return kind, f"exit code {code}: {writers.said()[-300:]}"
    if "Traceback" in writers.said():
        return kind, "traceback"
    if digest(writers.folder / out) not in good:
        return kind, "half an artefact"
    left = [file.name for file in writers.folder.iterdir() if file.name.endswith(".tmp")]
    return kind, f"leaves {left[0]}" if left and code in (0, 1) else None


def _two(
    writers: Writers, name: str, words: tuple[str, ...], out: str, chance: random.Random, good: set[str | None]
) -> tuple[str, str | None]:
    _fresh(writers, words, chance)
    children = [writers.started(words, other) for other in (False, True)]
    codes = [waited(child, 120) for child in children]
    if not set(codes) <= {0, 1, 2}:
        return "two writers", f"exit codes {codes}"
    return "two writers", None if digest(writers.folder / out) in good - {None} else "a mixed artefact"


def _full(
    writers: Writers, name: str, words: tuple[str, ...], out: str, chance: random.Random, good: set[str | None]
) -> tuple[str, str | None]:
    """A disk that is full: no file may grow beyond a few bytes (RLIMIT_FSIZE), as where mounts aren't allowed."""
    _fresh(writers, words, chance)
    before = digest(writers.folder / out)
    most = chance.choice([0, 1, 100, 1000, 5000, 20000])

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    code = waited(writers.started(words, False, limited), 120)
    if code not in (0, 1, 2):
        return "full disk", f"exit code {code}: {writers.said()[-200:]}"
    after = digest(writers.folder / out)
    if code == 2 and after != before:
        return "full disk", "the old artefact is gone"
    left = [file.name for file in writers.folder.iterdir() if file.name.endswith(".tmp")]
    return "full disk", f"leaves {left[0]}" if left else None if after in good else "half an artefact"


def line_tries(folder: Path, chance: random.Random, count: int) -> Iterator[tuple[str, str | None]]:
    """Runs whose writer is killed between and within lines, again and again, and resumed on another day."""
    for number in range(count):
        place = folder / "lines"
        shutil.rmtree(place, ignore_errors=True)
        yield "a writer of lines, killed and resumed on other days", _killed_lines(place, chance, number)


def _killed_lines(place: Path, chance: random.Random, number: int) -> str | None:
    from tests.samples import sample

    keys = [f"{n:04d}" for n in range(24)]
    day = 86_400_000.0
    seen: dict[str, bytes] = {}
    for start in range(4):
        child = os.fork()
        if child == 0:
            try:
                _write_missing(place, keys, 1.7e12 + start * day * chance.choice([1, 30, -1]))
            finally:
                os._exit(0)
        if start < 3:
            time.sleep(chance.random() * 0.02)
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        file = place / "samples-0.jsonl"
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1].splitlines()
        now = {json.loads(line)["sample_id"]: line for line in whole}
        if len(now) != len(whole):
            return "a key twice"
        if any(now.get(key) != line for key, line in seen.items()):
            return "a finished line changed or lost"
        seen = now
    if sorted(seen) != keys:
        return "a key is missing"
    del sample

    def read() -> int:
        from laptime.cli.main import run

        return run(["report", str(place), "--html", str(place / "page.html"), "--force"])

    if number % 10 == 0:
        ended = run_forked(read)
        if ended.code != 0:
            return f"report: exit code {ended.code}: {ended.err[-200:]}"
    return None


def _write_missing(place: Path, keys: list[str], started: float) -> None:
    from laptime.data.run_folder import RunFolder, load_run, new_info
    from tests.samples import environment, sample

    done = set()
    if (place / "run.json").exists():
        done = {one.sample_id for one in load_run(place).samples}
    with RunFolder(place, new_info([], {}, environment()), resume=True) as run:
        run.begin()
        for number, key in enumerate(keys):
            if key not in done:
                run.append(msgspec.structs.replace(sample(number, started_unix_ms=started + number), sample_id=key))


def counted(results: Iterator[tuple[str, str | None]]) -> tuple[Counter[str], Counter[str]]:
    """How many tries there were of each kind, and how many of them went wrong in which way."""
    kinds: Counter[str] = Counter()
    wrongs: Counter[str] = Counter()
    for kind, wrong in results:
        kinds[kind] += 1
        if wrong:
            wrongs[f"{kind}: {wrong}"] += 1
            print(f"  new: {kind}: {wrong}", flush=True)
    return kinds, wrongs
