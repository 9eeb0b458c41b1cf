"""Traces in a .tar or .zip: what is one, and its files, unpacked under their own names and never beyond reason."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from laptime.errors import LaptimeError

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it opens no .xz
    LZMAError = EOFError  # type: ignore[misc,assignment]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
BOMB_BYTES, BOMB_RATIO = 64 << 20, 300  # real traces pack to a tenth or a twentieth

LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""
ENCRYPTED = 1
"""The bit of a .zip member's flags that says so (APPNOTE 4.4.4)."""


class Readable(Protocol):
    """Bytes, read in order."""

    def read(self, size: int, /) -> bytes:
        """At most so many of the next ones; none at the end."""


def is_archive(path: Path) -> bool:
    """Whether the content is a .zip or a .tar (packed or not), or was meant to be one."""
    try:
        if not path.is_file():
            return False
        named = path.name.lower().endswith(ARCHIVES)
        return named or _begins_as_zip(path) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def unpacked(path: Path, folder: Path, suffixes: tuple[str, ...], most: int) -> Iterator[Path]:
    """Write an archive's traces below a folder, each under its own name and nothing but its name.

    suffixes: how a trace's name ends. most: files that it may hold. Raises LaptimeError for a damaged archive, and for
    one that unpacks to far more than it should.
    """
    room = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    try:
        for number, (name, content) in enumerate(_members(path, suffixes)):
            if number >= most:
                raise LaptimeError(f"{path}: more than {most} files in it; unpack it and name those to read")
            target = folder / str(number) / PurePosixPath(name.replace("\\", "/")).name
            if len(os.fsencode(target.name)) > LONGEST_NAME:
                raise LaptimeError(
                    f"{path}: a file in it has a name of over {LONGEST_NAME} bytes ({target.name[:40]}…); pack it"
                    " under a shorter one"
                )
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
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, LZMAError, RuntimeError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = " ".join(said.split())[:120]
        raise LaptimeError(f"{path}: the archive is damaged or can't be unpacked ({reason}); pack it again") from None


def _members(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each regular file in an archive that a trace can be in."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for info in packed.infolist():
                if not info.is_dir() and info.filename.endswith(suffixes):
                    if info.flag_bits & ENCRYPTED:
                        raise LaptimeError(f"{path}: it is encrypted; unpack it with its password, and give the folder")
                    yield info.filename, packed.open(info)
        return
    if _begins_as_zip(path) or not tarfile.is_tarfile(path):
        raise EOFError("it is cut short, or no archive")
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() and member.name.endswith(suffixes) else None
            if content is not None:
                yield member.name, content
        if archive.fileobj is not None and archive.fileobj.tell() <= archive.offset:
            raise EOFError("it is cut short: its end mark is missing")
        if archive.fileobj is not None:
            _check_sum(archive.fileobj)


def _check_sum(content: Readable) -> None:
    """Read what is behind a .tar's end mark: a packed one's checksum is compared where its data ends.

    Raises OSError or LZMAError where they differ. What stands behind that, or lacks there, is ignored, as by gzip.
    """
    left = BOMB_BYTES
    try:
        while left > 0 and (block := content.read(1 << 20)):
            left -= len(block)
    except EOFError:
        return
    except OSError as error:
        if "Not a gzipped file" not in str(error):
            raise
