"""The trace files of several ranks: in a folder, given one by one, or in a .tar or .zip."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from laptime.data.file_kinds import what_it_is
from laptime.errors import LaptimeError
from laptime.trace.read.nsight_names import is_parquet_export

SUFFIXES = (".json", ".json.gz", ".sqlite")
REPORTS = (".nsys-rep", ".qdrep")
FILES = 4_096
"""Files that one analysis may have."""
RANKS = 65_536
"""A file that states more ranks than this, or a rank that they don't have, is not believed."""

_RANK = re.compile(r"(?:rank|worker|gpu)[-_]?(\d{1,6})(?!\d)", re.IGNORECASE)


def _may_be_trace(place: Path) -> bool:
    """Whether this is more than a file that laptime itself keeps in its folders."""
    own = place.name in {"run.json", "summary.json", "plan.json", "estimator.json"}
    return place.is_dir() or (place.name.endswith(SUFFIXES) and not own)


@contextmanager
def trace_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """The trace files that paths stand for, by name; an archive is unpacked for as long as this is open.

    Raises:
        LaptimeError: a path holds no trace, a trace is given twice, or an archive is damaged or unpacks to far more
            than it should. Errors raised inside name an archive's file as archive.tar!file.
    """
    with ExitStack() as open_folders:
        files: list[Path] = []
        unpacked: dict[str, Path] = {}
        for path in paths:
            if is_parquet_export(path):
                found = [path]
            elif path.is_dir():
                if (kind := what_it_is(path)) and not any(map(_may_be_trace, path.iterdir())):
                    raise LaptimeError(f"{path}: no trace in it; {kind}")
                found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
            elif path.name.endswith(SUFFIXES):
                found = [path]
            else:
                found, folder = _perhaps_unpacked(path, open_folders)
                unpacked |= {folder: path} if folder else {}
            if not found and (reports := _reports(path)):
                raise LaptimeError(reports)
            if not found:
                raise LaptimeError(
                    f"{path}: no trace in it, or it is cut short; name files that end in {', '.join(SUFFIXES)}"
                )
            files += found
        if len(files) > FILES:
            raise LaptimeError(f"{paths[0]}: {len(files)} files are too many; at most {FILES} ranks are read at once")
        try:
            _refuse_twice(files)
            yield files
        except LaptimeError as error:
            text = str(error)
            for folder, path in unpacked.items():
                named = f"{path}!".replace("\\", "\\\\")
                text = re.sub(rf"{re.escape(folder)}/\d+/", named, text)
            raise LaptimeError(text) from error


def _reports(path: Path) -> str:
    """What must be done with a folder of Nsight Systems reports; empty where it is none."""
    found = sorted(file for file in path.rglob("*") if file.suffix in REPORTS) if path.is_dir() else []
    if not found:
        return ""
    which = f"only Nsight Systems reports ({found[0].name}{', …' if len(found) > 1 else ''})"
    return f"{path}: {which}; export each where nsys is installed: nsys export --type sqlite {found[0].name}"


def _perhaps_unpacked(path: Path, open_folders: ExitStack) -> tuple[list[Path], str | None]:
    """What an archive holds, and the folder that has it now; of any other file that file."""
    import tempfile  # what reads archives is imported for archives only: start-up counts

    from laptime.trace.read.archives import is_archive, unpacked

    if not is_archive(path):
        return [path], None
    folder = open_folders.enter_context(tempfile.TemporaryDirectory(prefix="laptime-"))
    return sorted(unpacked(path, Path(folder), SUFFIXES, FILES), key=lambda file: file.name), folder


def _refuse_twice(files: Sequence[Path]) -> None:
    """Raise LaptimeError where one trace is there twice: it would be taken for two ranks that never wait."""
    by_size: dict[int, list[Path]] = {}
    for file in files:
        if not file.is_file():
            continue
        alike = by_size.setdefault(file.stat().st_size, [])
        if (first := next((one for one in alike if _same(one, file)), None)) is not None:
            raise LaptimeError(f"{file}: the same trace as {first}; name each rank's trace once")
        alike.append(file)


def _same(one: Path, other: Path) -> bool:
    from filecmp import cmp  # for files of one size only: start-up counts

    return cmp(one, other, shallow=False)


def rank_in_name(name: str) -> int | None:
    """The rank that a file's name states (`rank3`, `worker0_step_12`), or None."""
    match = _RANK.search(name)
    return None if match is None else stated_rank(int(match[1]))


def stated_rank(number: int | None) -> int | None:
    """The rank that a file states as its own; None where no run has such a one."""
    return number if number is not None and 0 <= number < RANKS else None
