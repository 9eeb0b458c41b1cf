"""Files and folders on the disk: replaced whole or not at all, by one writer at a time.

Whoever reads a place sees what was there before or what is there afterwards, never half of either, also when the writer
is killed or the disk is full. Nothing is overwritten unless that was asked for (`--force`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from laptime.errors import LaptimeError

WRITTEN = ("*.json", "*.safetensors", "*.parquet", "trees-*.txt", "*.html", ".*.tmp")
"""What verbs write into the folders that `--force` may replace."""

MARKS = ("run.json", "estimator.json", "policy.json", "features.json", "answers.json")
"""What a folder of laptime's is known by."""
PARTS = ("*.json", "*.jsonl", "*.safetensors", "residuals.parquet", "trees-*.txt")
"""What such a folder consists of."""

PAGE_MARK = b'<meta name="generator" content="laptime">'
"""What a page of laptime has in its head."""
JUNIT_MARK = b'<testsuite name="laptime '
"""What a JUnit file of laptime begins with."""
HEAD_BYTES = 16_384

_EXCHANGE = 2  # renameat2's RENAME_EXCHANGE (linux/fs.h)
_HERE = -100  # AT_FDCWD


def write_whole(file: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file beside its place, then rename it into place. Raises OSError.

    replace: whether it takes the place of a file that is there; FileExistsError otherwise, also when another process
    has just written it.
    """
    temporary = _beside(file)
    try:
        # Opened only if it is new and no link: in a shared folder nobody can lead this elsewhere.
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(opened, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        if replace:
            temporary.replace(file)
        else:
            _put_new(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


def _put_new(temporary: Path, file: Path) -> None:
    """Give a written file its name, which no other process may have taken. Raises OSError."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # no second names on this file system: an empty file holds the place for an instant
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
        try:
            temporary.replace(file)
        except OSError:
            file.unlink(missing_ok=True)
            raise


def check_new_file(file: Path | None, option: str, *, force: bool) -> None:
    """Raise LaptimeError if the file can't be written, or is there and may not be replaced. Ask before long work.

    With `force` a page replaces only a page, a JUnit file only one of laptime's, and no file replaces a part of a run,
    an estimator or a policy.
    option: the option that named the file, for the message ("--html").
    """
    if file is not None and str(file) == "-":
        raise LaptimeError(f"{option} -: what this writes is a file, and - (stdout) is none; name a file")
    if file is None:
        return
    if not os.path.lexists(file):
        _check_writable(file, option)
        return
    if file.is_dir():
        raise LaptimeError(f"{option} {file}: is a folder; name a file")
    if not force:
        raise _is_there(file, option)
    if file.exists() and not file.is_file():
        raise LaptimeError(f"{option} {file}: is no ordinary file, and is never replaced; name another file")
    if _belongs_to_result(file):
        raise LaptimeError(f"{option} {file}: belongs to what laptime measured or learnt there; name another file")
    if option == "--html" and not _is_page(file):
        raise LaptimeError(f"{option} {file}: is no page of laptime, and is never replaced; name another file")
    if option == "--junit" and not _begins_with(file, JUNIT_MARK):
        raise LaptimeError(f"{option} {file}: is no JUnit file of laptime, and is never replaced; name another file")
    _check_writable(file, option)


def _is_there(file: Path, option: str) -> LaptimeError:
    return LaptimeError(f"{option} {file}: is already there; name another file, or add `force` to replace it")


def _check_writable(file: Path, option: str) -> None:
    """Raise LaptimeError where nothing can be made in the folder that the file, or its first new folder, goes into."""
    try:
        place = file
        while not place.parent.exists():
            place = place.parent
        trial = _beside(place)
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        trial.unlink()
    except OSError as error:
        raise LaptimeError(f"{option} {file}: can't be written there ({error.strerror}); name another file") from error


def _belongs_to_result(file: Path) -> bool:
    """Whether a file is one of those that a run, an estimator or a policy consists of."""
    if not any(fnmatch(file.name, pattern) for pattern in PARTS):
        return False
    return any((file.resolve().parent / mark).exists() for mark in MARKS)


def _is_page(file: Path) -> bool:
    """Whether laptime wrote this page, or the file is empty or a link to nothing."""
    return _begins_with(file, PAGE_MARK)


def _begins_with(file: Path, mark: bytes) -> bool:
    """Whether a file has this mark near its beginning, is empty or a link to nothing."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not head or mark in head


def is_own_page(file: Path) -> bool:
    """Whether there is a page that laptime wrote: a newer one may take its place."""
    return file.is_file() and _is_page(file)


def write_new_file(file: Path, content: bytes, option: str, *, force: bool) -> None:
    """Write a file that a user named by `option`. Raises LaptimeError when it may not or can't be written."""
    check_new_file(file, option, force=force)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content, replace=force)
    except OSError as error:
        if not force and os.path.lexists(file):
            raise _is_there(file, option) from None
        raise LaptimeError(f"{option} {file}: {error.strerror}; name another file") from error


def check_new_folder(folder: Path, marks: tuple[str, ...], *, force: bool, option: str = "`out`") -> None:
    """Raise LaptimeError if the folder holds something that may not be replaced.

    marks: names of files of which a folder of the same kind holds one, itself or in a folder of it ("estimator.json",
    or a pattern: "*_rank0.json"). A folder without one, or with something else beside, is never replaced, not even
    with `force`.
    option: the option that named the folder, for the message.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise LaptimeError(f"{option} {folder}: is a file; name a folder")
    if not any(folder.iterdir()):
        return
    if not any(any(folder.glob(mark)) or any(folder.glob(f"*/{mark}")) for mark in marks):
        raise LaptimeError(
            f"{option} {folder}: holds something else (no {' or '.join(marks)}); choose another {option}"
        )
    if not force:
        raise LaptimeError(
            f"{option} {folder}: is already there; choose another {option}, or add `force` to replace it"
        )
    if (foreign := _foreign_entry(folder, marks)) is not None:
        raise LaptimeError(
            f"{option} {folder}: holds {foreign} too, which laptime didn't write; choose another {option}"
        )


def _foreign_entry(folder: Path, marks: tuple[str, ...]) -> str | None:
    """The name of something in the folder that no verb writes there, if there is any."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            own = any(any(entry.glob(mark)) for mark in marks) and _foreign_entry(entry, marks) is None
        else:
            own = any(fnmatch(entry.name, pattern) for pattern in (*marks, *WRITTEN))
        if not own:
            return entry.name
    return None


@contextmanager
def whole_folder(folder: Path, marks: tuple[str, ...], *, force: bool, option: str = "`out`") -> Iterator[Path]:
    """A new folder to write into. It takes the place of `folder` when the block ends without an error.

    An error or a kill inside the block leaves what was there before. Raises LaptimeError as `check_new_folder` does,
    and when the folder can't be written.
    """
    check_new_folder(folder, marks, force=force, option=option)
    temporary = _beside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        _put(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise LaptimeError(f"{option} {folder}: {error.strerror or error}; what was there before is kept") from error
    except LaptimeError as error:  # it names the place that was written into, which nobody asked for
        raise LaptimeError(str(error).replace(str(temporary), str(folder))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_ATTEMPTS = 100
"""How often a folder that vanishes while it is locked is made again."""


class FolderLock:
    """Keeps other writers out of a folder until it is closed. Use it as a context manager.

    The folder is made when it isn't there. If it is still empty at the end, it is removed.
    """

    def __init__(self, folder: Path, *, shared: bool = False, patience_s: float = 0.0) -> None:
        """Take the lock.

        shared: those who share it don't keep each other out. patience_s: how long to wait for another writer to end.
        Raises LaptimeError when another process writes there, or when the folder can't be made.
        """
        self._created: list[Path] = []
        self._descriptor: int | None = None
        try:
            self._descriptor = self._taken(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience_s)
        except OSError as error:
            raise LaptimeError(f"{folder}: {error.strerror}; choose another folder (`out`)") from error
        finally:
            if self._descriptor is None:
                self._remove_what_is_empty()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other writers in. May be called twice."""
        if self._descriptor is not None:
            self._remove_what_is_empty()
            self.let_go()

    def let_go(self) -> None:
        """In a forked copy of the process that took the lock: leave it to that process alone."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _taken(self, folder: Path, kind: int, patience_s: float) -> int:
        until = time.monotonic() + patience_s
        while (descriptor := self._tried(folder, kind)) is None:
            if time.monotonic() >= until:
                raise LaptimeError(
                    f"{folder}: another run is being written there; wait for it, stop it, or choose another folder "
                    "(`out`)"
                )
            time.sleep(0.05)
        return descriptor

    def _tried(self, folder: Path, kind: int) -> int | None:
        """The folder, opened and locked; None when another writer has it.

        A writer that ends just now may remove the folder, or put another one in its place: then it is made again.
        """
        for attempt in range(_ATTEMPTS):
            self._make(folder)
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:  # a link to nowhere is never made
                    raise
                continue
            taken = False
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                taken = os.path.samestat(os.fstat(descriptor), folder.stat())
            except BlockingIOError:
                self._created.clear()  # what was made here is the other writer's now
                return None
            except FileNotFoundError:
                pass
            finally:
                if not taken:
                    os.close(descriptor)
            if taken:
                return descriptor
        return None

    def _make(self, folder: Path) -> None:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        for place in reversed(missing):
            with suppress(FileExistsError):
                place.mkdir()
                self._created.append(place)
                sync_folder(place.parent)

    def _remove_what_is_empty(self) -> None:
        for place in reversed(self._created):
            with suppress(OSError):
                place.rmdir()
        self._created.clear()


def sync_folder(folder: Path) -> None:
    """Make names in this folder last through a power cut. A file system that can't is left as it is."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sync_tree(folder: Path) -> None:
    """Make all files below this folder, and their names, last through a power cut. Raises OSError."""
    for place, _, names in os.walk(folder):
        for name in names:
            opened = os.open(Path(place) / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        sync_folder(Path(place))


def _put(new: Path, place: Path) -> None:
    """Rename `new` to `place`. A folder that is there is exchanged with it in one step where the system can."""
    if not place.exists():
        new.rename(place)
    elif not _exchanged(new, place):  # an old file system: for an instant there is neither
        old = place.with_name(f".{place.name}.{os.getpid()}.old")
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{os.getpid()}.tmp")
