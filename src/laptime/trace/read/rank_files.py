"""The trace files of several ranks: in a folder, given one by one, or in a .tar or .zip."""

from __future__ import annotations

import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from filecmp import cmp
from pathlib import Path, PurePosixPath
from typing import IO

from laptime.data.file_kinds import what_it_is
from laptime.errors import LaptimeError
from laptime.trace.read.nsight_other import is_parquet_export

SUFFIXES = (".json", ".json.gz", ".sqlite")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
FILES = 4_096
"""Files that one analysis may have."""

BOMB_BYTES, BOMB_RATIO = 64 << 20, 300  # real traces pack to a tenth or a twentieth

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
            elif _is_archive(path):
                folder = open_folders.enter_context(tempfile.TemporaryDirectory(prefix="laptime-"))
                unpacked[folder] = path
                found = sorted(_unpacked(path, Path(folder)), key=lambda file: file.name)
            else:
                found = [path]
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


def _refuse_twice(files: Sequence[Path]) -> None:
    """Raise LaptimeError where one trace is there twice: it would be taken for two ranks that never wait."""
    by_size: dict[int, list[Path]] = {}
    for file in files:
        if not file.is_file():
            continue
        alike = by_size.setdefault(file.stat().st_size, [])
        if (first := next((one for one in alike if cmp(one, file, shallow=False)), None)) is not None:
            raise LaptimeError(f"{file}: the same trace as {first}; name each rank's trace once")
        alike.append(file)


def rank_in_name(name: str) -> int | None:
    """The rank that a file's name states (`rank3`, `worker0_step_12`), or None."""
    match = _RANK.search(name)
    return None if match is None else int(match[1])


def _is_archive(path: Path) -> bool:
    """Whether the content is a .zip or a .tar (packed or not), or was meant to be one. A gzipped trace is none."""
    try:
        if not path.is_file() or path.name.endswith(SUFFIXES):
            return False
        named = path.name.lower().endswith(ARCHIVES)
        return named or _begins_as_zip(path) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unpacked(path: Path, folder: Path) -> Iterator[Path]:
    """Write an archive's traces below a folder, each under its own name and nothing but its name."""
    room = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    try:
        for number, (name, content) in enumerate(_members(path)):
            if number >= FILES:
                raise LaptimeError(f"{path}: more than {FILES} files in it; unpack it and name those to read")
            target = folder / str(number) / PurePosixPath(name.replace("\\", "/")).name
            target.parent.mkdir()
            with content, target.open("wb") as file:
                while block := content.read(1 << 20):
                    room -= len(block)
                    if room < 0:
                        raise LaptimeError(
                            f"{path}: unpacks to over {BOMB_RATIO} times its size, as no trace does; check its origin"
                        )
                    file.write(block)
            yield target
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise LaptimeError(f"{path}: the archive is damaged or can't be unpacked ({reason}); pack it again") from None


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each regular file in an archive that a trace can be in."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for info in packed.infolist():
                if not info.is_dir() and info.filename.endswith(SUFFIXES):
                    yield info.filename, packed.open(info)
        return
    if _begins_as_zip(path) or not tarfile.is_tarfile(path):
        raise EOFError("it is cut short, or no archive")
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() and member.name.endswith(SUFFIXES) else None
            if content is not None:
                yield member.name, content
        if archive.fileobj is not None and archive.fileobj.tell() <= archive.offset:
            raise EOFError("it is cut short: its end mark is missing")
