"""A run folder: what was finished, whatever happened to the process that wrote it.

    run.json                  schema version, argv, config, environment: written once, atomically
    samples-<worker>.jsonl    append-only, one line a sample, flushed and fsynced, never rewritten
    failures-<worker>.jsonl   the same for what could not be measured
    subtraction-<worker>.jsonl  only with --method subtract|both
    session-<worker>.jsonl    how each session of measuring ended
    worker-<worker>.jsonl     a sweep's: each start of this worker, with its environment
    summary.json              derived; deleting it loses nothing

A line counts once its newline is on the disk. A process killed in the middle of a write leaves a tail without
one: readers leave it out and name the file in `Run.dropped_tails`. One run at a time is written to a folder.
Reading and writing stand in one file because both keep to this.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

import msgspec

from laptime.data.columns import SampleColumns
from laptime.data.file_kinds import what_it_is
from laptime.data.files import FolderLock, write_whole
from laptime.data.json_text import readable_json
from laptime.data.line_file import LineFile
from laptime.data.outside import DAMAGE, read_part, read_regular
from laptime.data.percentiles import asked_percentiles, percentiles
from laptime.data.record import (
    SCHEMA_VERSION,
    Environment,
    Failure,
    Sample,
    Scalar,
    SessionEnd,
    Subtraction,
    UnixMs,
    WorkerStart,
)
from laptime.data.shown import Shown
from laptime.data.subtraction import summarise_subtraction
from laptime.data.summary import Summary, summarise
from laptime.data.usable import REPEATED_KEY
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: what was asked, on what machine."""

    schema_version: int
    created_unix_ms: UnixMs
    laptime: str
    argv: list[str]
    config: dict[str, Scalar]
    environment: Environment
    session: dict[str, Scalar] = {}  # how it was measured: method, precision asked for, limits


class Run(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run folder holds. `dropped_tails` names the files whose half-written last line was left out."""

    ROWS: ClassVar[str] = "samples"

    path: str
    info: RunInfo
    samples: list[Sample]
    failures: list[Failure]
    subtractions: list[Subtraction]
    sessions: list[SessionEnd]
    workers: list[WorkerStart]
    dropped_tails: list[str]

    @property
    def summary(self) -> Summary:
        """The summary of all samples, computed at each access."""
        return summarise(self.samples)

    def _table(self, name: str) -> polars.DataFrame:
        """Of samples: texts and gaps between tokens too, laptime.data.columns.ORDER, then `config.*`."""
        if name != "samples":
            return Shown._table(self, name)
        columns = SampleColumns(bulky=True)
        columns.add(self.samples)
        return columns.frame()


Line = TypeVar("Line", Sample, Failure, Subtraction, SessionEnd, WorkerStart)

FILES: dict[type, str] = {
    Sample: "samples",
    Failure: "failures",
    Subtraction: "subtraction",
    SessionEnd: "session",
    WorkerStart: "worker",
}


def read_info(path: str | Path) -> RunInfo:
    """run.json of a folder. Raises LaptimeError when there is none, it is damaged, or a newer laptime wrote it."""
    file = Path(path) / "run.json"
    try:
        raw = read_regular(file)
    except (FileNotFoundError, NotADirectoryError):
        if not Path(path).exists():
            raise LaptimeError(f"{path}: no such file or folder") from None
        mend = what_it_is(Path(path)) or "name a folder that laptime wrote"
        raise LaptimeError(f"{path} holds no run (no run.json there); {mend}") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(raw, type=_Version).schema_version
        if version > SCHEMA_VERSION:
            raise LaptimeError(
                f"{file}: schema version {version}, this laptime reads up to {SCHEMA_VERSION}; upgrade laptime"
            )
        return msgspec.json.decode(raw, type=RunInfo)
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not a run's description ({error})") from error


def load_run(path: str | Path) -> Run:
    """Read a run folder: every finished line of every worker, half-written last lines left out.

    Raises LaptimeError for a folder without a run, a newer schema, or a damaged line (with file and line number).
    """
    folder = Path(path)
    info = read_info(folder)
    dropped: list[str] = []
    return Run(
        path=str(folder),
        info=info,
        samples=with_repeated_keys_flagged(_read_lines(folder, Sample, dropped)),
        failures=_read_lines(folder, Failure, dropped),
        subtractions=_read_lines(folder, Subtraction, dropped),
        sessions=_read_lines(folder, SessionEnd, dropped),
        workers=_read_lines(folder, WorkerStart, dropped),
        dropped_tails=dropped,
    )


def read_failures(path: str | Path) -> list[Failure]:
    """What a run folder could not measure. Raises LaptimeError for a damaged line."""
    return _read_lines(Path(path), Failure, [])


def read_workers(path: str | Path) -> list[WorkerStart]:
    """Each start of each worker of a sweep; empty for a run without. Raises LaptimeError for a damaged line."""
    return _read_lines(Path(path), WorkerStart, [])


def read_sessions(path: str | Path) -> list[SessionEnd]:
    """How each session that wrote into a run folder ended. Raises LaptimeError for a damaged line."""
    return _read_lines(Path(path), SessionEnd, [])


def profile_json(run: Run) -> bytes:
    """What `profile --json` and `report --json` print: schema laptime.profile/1."""
    return readable_json(
        {
            "schema": "laptime.profile/1",
            "run": run.path,
            "config": run.info.config,
            "session": run.info.session,
            "sessions": run.sessions,
            "environment": run.info.environment,
            "fingerprint": run.info.environment.fingerprint(),
            "summary": run.summary,
            "percentiles": percentiles(run.samples, asked_percentiles(run.info.session)),
            "subtraction": summarise_subtraction(run.subtractions),
        }
    ).rstrip()


class _Version(msgspec.Struct):
    schema_version: int


def _read_lines(folder: Path, type_: type[Line], dropped: list[str]) -> list[Line]:
    decoder = msgspec.json.Decoder(type_)
    lines: list[Line] = []
    for file in sorted(folder.glob(f"{FILES[type_]}-*.jsonl")):
        content = read_part(file)
        finished = content.rfind(b"\n") + 1
        if finished < len(content):
            dropped.append(file.name)
        try:
            lines += decoder.decode_lines(content[:finished])
        except DAMAGE as error:
            number = _first_bad_line(decoder, content[:finished])
            raise LaptimeError(f"{file}, line {number}: not a record of laptime ({error}); remove that line") from error
    return lines


def with_repeated_keys_flagged(samples: list[Sample]) -> list[Sample]:
    """The samples with a flag on each whose key an earlier one has, so that every key counts once."""
    if len({sample.key for sample in samples}) == len(samples):
        return samples
    seen: set[tuple[str, str, int]] = set()
    flagged: list[Sample] = []
    for sample in samples:
        again = sample.key in seen and REPEATED_KEY not in sample.flags
        seen.add(sample.key)
        flagged.append(msgspec.structs.replace(sample, flags=[*sample.flags, REPEATED_KEY]) if again else sample)
    return flagged


def _first_bad_line(decoder: msgspec.json.Decoder[Line], content: bytes) -> int:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            decoder.decode(line)
        except DAMAGE:  # noqa: PERF203 - only on the way to an error
            return number
    return len(lines)


WORKER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
LEFTOVER = re.compile(r"\..+\.\d+\.tmp")
"""What a process killed within write_whole leaves behind."""


class RunFolder:
    """The writing end of a run: opened for one worker, appends, never rewrites. Use it as a context manager.

    run.json is written by the first append (or by `begin`). A run that measured nothing leaves nothing behind.
    """

    def __init__(
        self,
        path: str | Path,
        info: RunInfo,
        worker: str = "0",
        *,
        resume: bool = False,
        lock: FolderLock | None = None,
    ) -> None:
        """Check that `path` can hold this run, and keep other writers out of it.

        lock: the lock of this folder, if the caller holds it already.
        Raises LaptimeError when it is not writable, holds another run (unless `resume`), is no folder, or when another
        process writes there.
        """
        if not WORKER.fullmatch(worker):
            raise LaptimeError(f"worker name {worker!r}: use letters, digits, '.', '_' and '-', at most 64")
        self.path = Path(path)
        self.info = info
        self.worker = worker
        self._files: dict[str, LineFile] = {}
        self._begun = False
        self._lock = None if lock else locked_for_run(self.path, resume=resume)
        if lock:
            check_free(self.path, resume=resume)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Make the folder and run.json, unless they are there."""
        if self._begun:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / "run.json").exists():
                write_whole(self.path / "run.json", readable_json(self.info))
        except OSError as error:
            raise LaptimeError(f"{self.path}: {error.strerror}; choose another folder (`out`)") from error
        self._begun = True

    def append(self, line: Sample | Failure | Subtraction | SessionEnd | WorkerStart) -> None:
        """Put one finished record on the disk. When this returns, a power cut can't take it back."""
        self.append_all([line])

    def append_all(self, lines: Sequence[Sample | Failure | Subtraction | SessionEnd | WorkerStart]) -> None:
        """Put several finished records on the disk: one write for those of a kind."""
        self.begin()
        kinds: dict[str, list[bytes]] = {}
        for line in lines:
            kinds.setdefault(FILES[type(line)], []).append(msgspec.json.encode(line))
        for kind, encoded in kinds.items():
            file = self._files.get(kind)
            if file is None:
                file = self._files[kind] = LineFile(self.path / f"{kind}-{self.worker}.jsonl")
            file.append(b"\n".join(encoded))

    def write_summary(self) -> Summary:
        """(Re)build summary.json from all workers' samples."""
        run = load_run(self.path)
        summary = run.summary
        write_whole(self.path / "summary.json", readable_json(summary))
        return summary

    def close(self) -> None:
        """Close the files and let other writers in. May be called twice."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            self._lock.close()


def locked_for_run(path: str | Path, *, resume: bool = False) -> FolderLock:
    """Keep other writers out of a folder that a run can be written to: worth it before a model is loaded.

    Raises LaptimeError as `check_free` does, and when another process writes there.
    """
    check_free(path, resume=resume)
    lock = FolderLock(Path(path))
    try:
        check_free(path, resume=resume)  # another run may have been written until the lock was there
    except LaptimeError:
        lock.close()
        raise
    return lock


def check_free(path: str | Path, *, resume: bool = False) -> None:
    """Raise LaptimeError unless a run can be written to `path`."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise LaptimeError(f"{folder} is a file; name a folder for the run (`out`)")
    names = _names(folder)
    if "run.json" in names:
        if not resume:
            raise LaptimeError(f"{folder} already holds a run; choose another folder (`out`) or remove it")
        read_info(folder)
    elif not all(LEFTOVER.fullmatch(name) for name in names):
        raise LaptimeError(f"{folder} is not empty and holds no run; choose another folder (`out`)")
    probe = folder
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK | os.X_OK):
        raise LaptimeError(f"{folder}: not writable; choose another folder (`out`)")


def _names(folder: Path) -> set[str]:
    """What is in the folder at one moment: another process may be writing it."""
    try:
        return {entry.name for entry in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def new_info(
    argv: Sequence[str],
    config: Mapping[str, Scalar],
    environment: Environment,
    session: Mapping[str, Scalar] | None = None,
) -> RunInfo:
    """The RunInfo of a run that starts now."""
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        created_unix_ms=time.time() * 1e3,
        laptime=environment.laptime,
        argv=list(argv),
        config=dict(config),
        environment=environment,
        session=dict(session or {}),
    )
