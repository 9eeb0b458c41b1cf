"""Files that lines are appended to: what was finished stays, whatever ends the writer."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from laptime.data.files import sync_folder
from laptime.errors import LaptimeError


def open_for_lines(file: Path) -> int:
    """A file that lines are appended to, made if it isn't there; its descriptor.

    Raises OSError, also for a pipe and for a link: with one, somebody could lead lines in a shared folder elsewhere.
    """
    if os.path.lexists(file) and not (file.is_file() and not file.is_symlink()):
        raise OSError(errno.ELOOP, "is a link or no ordinary file, and lines are never written to one; remove it")
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


class LineFile:
    """A file that one process appends lines to. A line counts once its newline is on the disk."""

    def __init__(self, file: Path) -> None:
        """Open the file, cutting off a half-written last line.

        Raises LaptimeError when it can't be opened or another process has it open.
        """
        self.file = file
        try:
            self._descriptor = open_for_lines(file)
        except OSError as error:
            raise LaptimeError(f"{file}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise LaptimeError(f"{file}: another process is writing it; give each worker a name of its own") from None
        os.ftruncate(self._descriptor, _end_of_last_line(self._descriptor))
        sync_folder(file.parent)  # its name may be new

    def append(self, line: bytes) -> None:
        """Put a line on the disk. When this returns, a power cut can't take it back.

        Raises LaptimeError when it can't be written whole. Nothing of it is then left in the file.
        """
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            _write_all(self._descriptor, line + b"\n")
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, start)  # the disk is full
            raise LaptimeError(f"{self.file.parent}: {error.strerror}; what was finished before is kept") from error

    def close(self) -> None:
        """Close the file, so that another process may open it."""
        os.close(self._descriptor)


def _end_of_last_line(descriptor: int) -> int:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    step = 1 << 16
    while end > 0:
        begin = max(0, end - step)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
