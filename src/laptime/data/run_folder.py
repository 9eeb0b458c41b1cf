"""A run folder as its reader sees it: what was finished, whatever happened to the process that wrote it.

    run.json                  schema version, argv, config, environment: written once, atomically
    samples-<worker>.jsonl    append-only, one line a sample, flushed and fsynced, never rewritten
    failures-<worker>.jsonl   the same for what could not be measured
    subtraction-<worker>.jsonl  only with --method subtract|both
    session-<worker>.jsonl    how each session of measuring ended
    worker-<worker>.jsonl     a sweep's: each start of this worker, with its environment
    summary.json              derived; deleting it loses nothing

A line counts once its newline is on the disk. A process killed in the middle of a write leaves a tail without
one: it is dropped here and named in `Run.dropped_tails`. laptime.data.run_folder_writing writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from laptime.data.record import (
    SCHEMA_VERSION,
    Environment,
    Failure,
    Sample,
    Scalar,
    SessionEnd,
    Subtraction,
    WorkerStart,
)
from laptime.data.summary import Summary, summarise, summarise_subtraction
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: what was asked, on what machine."""

    schema_version: int
    created_unix_ms: float
    laptime: str
    argv: list[str]
    config: dict[str, Scalar]
    environment: Environment
    session: dict[str, Scalar] = {}  # how it was measured: method, precision asked for, limits


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run folder holds. `dropped_tails` names the files whose half-written last line was left out."""

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
        """The summary of all samples, made anew."""
        return summarise(self.samples)

    def frame(self) -> polars.DataFrame:
        """One row a sample, texts and gaps between tokens too: laptime.data.sample_columns.ORDER, then `config.*`."""
        from laptime.data.columns import SampleColumns

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
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise LaptimeError(f"{path} holds no run (no run.json there); name a folder that laptime wrote") from None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(raw, type=_Version).schema_version
        if version > SCHEMA_VERSION:
            raise LaptimeError(
                f"{file}: schema version {version}, this laptime reads up to {SCHEMA_VERSION}; upgrade laptime"
            )
        return msgspec.json.decode(raw, type=RunInfo)
    except msgspec.DecodeError as error:
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
        samples=_read_lines(folder, Sample, dropped),
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
            "subtraction": summarise_subtraction(run.subtractions),
        }
    ).rstrip()


class _Version(msgspec.Struct):
    schema_version: int


def _read_lines(folder: Path, type_: type[Line], dropped: list[str]) -> list[Line]:
    decoder = msgspec.json.Decoder(type_)
    found: list[Line] = []
    for file in sorted(folder.glob(f"{FILES[type_]}-*.jsonl")):
        content = file.read_bytes()
        finished = content.rfind(b"\n") + 1
        if finished < len(content):
            dropped.append(file.name)
        try:
            found += decoder.decode_lines(content[:finished])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            number = _first_bad_line(decoder, content[:finished])
            raise LaptimeError(f"{file}, line {number}: not a record of laptime ({error}); remove that line") from error
    return found


def _first_bad_line(decoder: msgspec.json.Decoder[Line], content: bytes) -> int:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):  # noqa: PERF203 - only on the way to an error
            return number
    return len(lines)


def readable_json(value: Any) -> bytes:
    """A value as indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
