"""Tries on what laptime writes: kills and signals at random instants, two writers, a full disk, a slow disk.

After each try the place that was written holds the old artefact or the new one, whole, and nothing beside it but what
the next writer takes away.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from benchmarks.sweep_faults import SmallDisk

from tests.torture.forked import waited
from tests.torture.places import Place
from tests.torture.portions import Fault, Tried

WRITERS: dict[str, tuple[tuple[str, ...], str]] = {
    "fit": (("fit", "SWEEP", "--out", "OUT", "--force"), "OUT"),
    "report": (("report", "SWEEP", "--html", "OUT.html", "--force"), "OUT.html"),
    "audit": (("audit", "SWEEP", "--html", "OUT.html", "--force"), "OUT.html"),
    "trace": (("trace", "TRACE", "--html", "OUT.html", "--force"), "OUT.html"),
    "export": (("export", "SWEEP", "--to", "OUT.parquet", "--force"), "OUT.parquet"),
    "export older JSON": (("export", "SWEEP", "--format", "legacy-json", "--to", "OUT", "--force"), "OUT"),
    "merge": (("merge", "SWEEP", "--out", "OUT"), "OUT"),
    "policy": (("policy", "POLICY", "OUT"), "OUT"),
    "features": (("features", "FEATURES", "OUT"), "OUT"),
    "answers": (("answers", "ANSWERS", "OUT"), "OUT"),
}
"""Words of what writes an artefact, and where. The last three are what control train, features and ask write with."""

MARKS = {"policy": "policy.json", "features": "features.json", "answers": "answers.json"}
CODES = (0, 1, 2)
FEW_KIB = 24
"""Room on a small disk: some of the artefacts fit, some don't."""


def tried(place: Place, seed: int, numbers: range) -> Iterator[Tried]:
    with SmallDisk(place.folder / "disk", f"{FEW_KIB}k") as disk:
        writers = Writers(place.world, place.folder / "out", disk)
        for number in numbers:
            chance = random.Random(f"writing:{seed}:{number}")
            name = chance.choice([*WRITERS])
            way = chance.choice([killed, killed, killed, signalled, two_at_once, full])
            kind, fault = way(writers, name, chance)
            kills = 1 if way is killed else 0
            yield Tried(number, f"{name}, {kind}", fault and Fault(fault.sort, f"{name}, {kind}: {fault.what}"), kills)


def digest(place: Path) -> str | None:
    """What an artefact holds; None when it isn't there, or is an empty folder: a lock was taken there."""
    if not os.path.lexists(place):
        return None
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    if not files:
        return None
    whole = hashlib.sha256()
    for file in files:
        name = "artefact" if file == place else str(file.relative_to(place))
        whole.update(name.encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()


class Writers:
    """Writers with their artefacts as they come out undisturbed: each try must leave one of these, or none."""

    def __init__(self, world: Path, folder: Path, disk: Path | None) -> None:
        self.world, self.folder, self.disk = world, folder, disk
        self.seconds: dict[str, float] = {}
        self.good: dict[str, set[str | None]] = {}
        self.other = _other_world(world)

    def known(self, name: str) -> set[str | None]:
        """What this writer leaves when nothing disturbs it, of both inputs; and nothing."""
        if name not in self.good:
            good: set[str | None] = {None}
            for other in (False, True):
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True)
                begin = time.monotonic()
                waited(self.started(name, other))
                self.seconds[name] = time.monotonic() - begin
                good.add(digest(self.folder / WRITERS[name][1]))
            assert len(good) == 3, f"{name}: {self.said()}"
            self.good[name] = good
        return self.good[name]

    def fresh(self, name: str, chance: random.Random, folder: Path | None = None) -> Path:
        """An empty folder, or one with the artefact of the other input; the artefact's place."""
        self.known(name)
        folder = folder or self.folder
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if name != "merge" and chance.random() < 0.5:
            waited(self.started(name, True, folder=folder))
        return folder / WRITERS[name][1]

    def started(
        self, name: str, other: bool, before: Callable[[], None] = lambda: None, folder: Path | None = None
    ) -> int:
        """Start a writer in a fork; its process id."""
        child = os.fork()
        if child == 0:
            self._write(name, other, before, folder or self.folder)
        return child

    def said(self) -> str:
        return (self.folder.parent / "said").read_text(errors="replace")

    def _write(self, name: str, other: bool, before: Callable[[], None], folder: Path) -> NoReturn:
        code = 71
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1):
                os.dup2(null, standard)
            said = os.open(self.folder.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(said, 2)
            sys.stdout = open(1, "w", closefd=False)
            sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)
            from laptime.cli.stop import STATE, watch_signals

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            STATE.begin()
            watch_signals()
            before()
            code = _run([self._word(word, other, folder) for word in WRITERS[name][0]])
            sys.stderr.flush()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _word(self, word: str, other: bool, folder: Path) -> str:
        if word.startswith("OUT"):
            return str(folder / word)
        inputs = {"SWEEP": "sweep", "TRACE": "trace.json", "POLICY": "policy", "FEATURES": "features",
                  "ANSWERS": "answers"}  # fmt: skip
        return str((self.other if other else self.world) / inputs[word]) if word in inputs else word


def _other_world(world: Path) -> Path:
    """The same artefacts with something else in them."""
    other = world / "other"
    if not (other / "sweep").exists():
        shutil.copytree(world / "sweep", other / "sweep")
        file = other / "sweep" / "samples-0.jsonl"
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-6]))
        trace = (world / "trace.json").read_bytes()
        (other / "trace.json").write_bytes(trace.replace(b'"k0"', b'"other"'))
    return other


def _run(words: list[str]) -> int:
    """A verb, or what control's verbs write their artefacts with."""
    from laptime.cli.main import run
    from laptime.data.files import whole_folder
    from laptime.errors import LaptimeError

    if words[0] not in MARKS:
        return run(words)
    from laptime.control.policies.saved_policy import read_policy, write_policy
    from laptime.control.tables.answers import read_answers, write_answers
    from laptime.control.tables.feature_table import read_features, write_features

    kind, source, out = words
    try:
        with whole_folder(Path(out), (MARKS[kind],), force=True) as new:
            if kind == "policy":
                write_policy(*read_policy(source), new)
            elif kind == "features":
                write_features(read_features(source), new)
            else:
                write_answers(read_answers(source), new)
    except (LaptimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def slow_disk() -> None:
    """Let every fsync take some hundredths of a second."""
    real = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.03)
        real(descriptor)

    os.fsync = slow


def killed(writers: Writers, name: str, chance: random.Random) -> tuple[str, Fault | None]:
    out = writers.fresh(name, chance)
    slow = chance.random() < 0.3
    child = writers.started(name, False, slow_disk if slow else lambda: None)
    time.sleep(chance.random() * writers.seconds[name] * (1.3 if slow else 1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kind, good = "kill -9 on a slow disk" if slow else "kill -9", writers.known(name)
    if digest(out) not in good:
        names = sorted(file.name for file in writers.folder.rglob("*"))
        return kind, Fault("mixed artefacts", f"half an artefact: {names}")
    code = waited(writers.started(name, False))  # the next one isn't disturbed by what is left
    if code != 0 and not (name == "merge" and code == 2):
        return kind, Fault("other", f"then exit code {code}: {writers.said()[-200:]}")
    return kind, None if digest(out) in good - {None} else Fault("mixed artefacts", "then half an artefact")


def signalled(writers: Writers, name: str, chance: random.Random) -> tuple[str, Fault | None]:
    out = writers.fresh(name, chance)
    number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    child = writers.started(name, False)
    time.sleep(chance.random() * writers.seconds[name])
    for _ in range(chance.choice([1, 1, 2])):
        os.kill(child, number)
        time.sleep(chance.random() * 0.05)
    code = waited(child)
    kind = signal.Signals(number).name
    if code == 71 and not writers.said():  # in the fork, before laptime's first line ran
        return kind, None
    if code is None:
        return kind, Fault("hangs", "hangs")
    if "Traceback" in writers.said():
        return kind, Fault("tracebacks", "traceback")
    if code not in (0, 1, 128 + number, -number):  # -number: before the first line of laptime ran in this fork
        return kind, Fault("other", f"exit code {code}: {writers.said()[-300:]}")
    if digest(out) not in writers.known(name):
        return kind, Fault("mixed artefacts", "half an artefact")
    return kind, _left(out) if code in (0, 1) else None


def two_at_once(writers: Writers, name: str, chance: random.Random) -> tuple[str, Fault | None]:
    out = writers.fresh(name, chance)
    children = [writers.started(name, other) for other in (False, True)]
    codes = [waited(child) for child in children]
    if not set(codes) <= set(CODES):
        return "two writers", Fault("other", f"exit codes {codes}")
    mixed = digest(out) not in writers.known(name) - {None}
    return "two writers", Fault("mixed artefacts", "a mixed artefact") if mixed else _left(out)


def full(writers: Writers, name: str, chance: random.Random) -> tuple[str, Fault | None]:
    """A disk that is full: a tmpfs of some KiB, or no file may grow beyond a few bytes (RLIMIT_FSIZE)."""
    if writers.disk is not None and chance.random() < 0.5:
        return _small_disk(writers, name, chance, writers.disk)
    out = writers.fresh(name, chance)
    most = chance.choice([0, 1, 100, 1000, 5000, 20000])

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    before = digest(out)
    return "files of few bytes", _after_full(writers, name, out, before, waited(writers.started(name, False, limited)))


def _small_disk(writers: Writers, name: str, chance: random.Random, disk: Path) -> tuple[str, Fault | None]:
    for entry in disk.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    out = writers.fresh(name, chance, disk)
    before = digest(out)
    room = os.statvfs(disk)
    free = room.f_bavail * room.f_frsize
    with suppress(OSError):
        (disk / "filler").write_bytes(bytes(chance.randrange(free + 1)))
    code = waited(writers.started(name, False, folder=disk))
    return "full disk", _after_full(writers, name, out, before, code)


def _after_full(writers: Writers, name: str, out: Path, before: str | None, code: int | None) -> Fault | None:
    if code is None:
        return Fault("hangs", "hangs")
    if code not in CODES:
        return Fault("other", f"exit code {code}: {writers.said()[-200:]}")
    if len(writers.said().strip().splitlines()) > 1 and code == 2:  # a limit of no byte holds for the line too
        return Fault("other", f"no single line: {writers.said()[-200:]}")
    after = digest(out)
    if code == 2 and after != before:
        return Fault("mixed artefacts", "the old artefact is gone")
    return _left(out) or (None if after in writers.known(name) else Fault("mixed artefacts", "half an artefact"))


def _left(out: Path) -> Fault | None:
    left = [file.name for file in out.parent.iterdir() if file.name.endswith(".tmp")]
    return Fault("mixed artefacts", "leaves a temporary file") if left else None
