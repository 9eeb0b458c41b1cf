"""One door for every trace format: the content, not the name, says which reader is asked.

Each reader is imported for its own files only: start-up counts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from msgspec.structs import replace

from laptime.errors import LaptimeError
from laptime.trace.read.nsight_names import is_parquet_export
from laptime.trace.read.timeline import GpuTimeline

_SQLITE_MAGIC = b"SQLite format 3\0"
_GZIP_MAGIC = b"\x1f\x8b"
_NSYS_REPORT_MARKS = (b"QDSTRM", b"QDREP", b"QuadD", b"Nsight Systems")
_HEAD_BYTES = 1 << 16
_OTHERS = (
    (b"pk\x03\x04", "an archive, which laptime trace and laptime.read_ranks read"),
    (b"\x80", "a pickle, such as a memory snapshot of torch: it has no device work, and a pickle is never loaded"),
    (b"<!doctype html", "a web page, such as a memory timeline of torch.profiler: it has no device work"),
    (b"<html", "a web page, such as a memory timeline of torch.profiler: it has no device work"),
    (b"<?xml", "an XML file, such as a session of the Visual Profiler: it has no device work"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; unpack it first"),
    (b"\xfd7zxz", "compressed by xz; unpack it first"),
    (b"bzh", "compressed by bzip2; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"rar!", "a RAR archive; unpack it first"),
    (b"par1", "one Parquet table; name the folder that nsys export --type parquetdir wrote"),
)
"""What other files begin with, and what they are."""

_KEPT_BYTES = 8 << 20


def read_timeline(path: str | Path, *, details: bool = True) -> GpuTimeline:
    """Read a trace: a PyTorch profiler .json or .json.gz, an Nsight Systems .sqlite, Parquet folder or report.

    details: also what says who worked how much: operators' shapes, autograd's numbers, memory. Without them a Kineto
        file's host ranges have times, and no names (-1) or threads.

    Raises:
        LaptimeError: one line saying what is wrong with the file and how to mend it.
    """
    path = Path(path)
    _keep_freed_memory()
    if is_parquet_export(path):
        from laptime.trace.read.nsight_other import from_parquet

        with from_parquet(path) as sqlite:
            return _nsight(sqlite, path)
    try:
        if path.is_dir():
            raise LaptimeError(
                f"{path}: a folder; name one .json, .json.gz or .sqlite file, or read all ranks with laptime.read_ranks"
            )
        if path.exists() and not path.is_file():
            raise LaptimeError(f"{path}: not a regular file; save the trace to one first")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise LaptimeError(f"{path}: can't be opened ({error.strerror or error})") from None
    if head.startswith(_SQLITE_MAGIC):
        return _nsight(path, path)
    text = head.startswith(_GZIP_MAGIC) or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"")
    if path.suffix in (".nsys-rep", ".qdrep") or (not text and any(mark in head for mark in _NSYS_REPORT_MARKS)):
        from laptime.trace.read.nsight_other import exported

        with exported(path) as sqlite:
            return _nsight(sqlite, path)
    if not head:
        raise LaptimeError(f"{path}: empty; capture the trace again")
    if text:
        from laptime.trace.read import kineto

        return kineto.read(path, details=details)
    for mark, what in _OTHERS:
        if head.lower().startswith(mark):
            raise LaptimeError(f"{path}: {what}; name a PyTorch profiler .json/.json.gz or Nsight Systems .sqlite")
    if path.suffix == ".ncu-rep":
        raise LaptimeError(
            f"{path}: an Nsight Compute report, of single kernels and without a timeline; capture with nsys profile"
        )
    if path.name.endswith(".xplane.pb"):
        raise LaptimeError(
            f"{path}: a file of XLA's profiler (JAX, TensorFlow); trace the program with nsys profile -t cuda,nvtx"
        )
    raise LaptimeError(
        f"{path}: not a trace that is known here: PyTorch profiler .json/.json.gz or Nsight Systems .sqlite"
    )


def import_reader(path: Path) -> None:
    """Import what reads a file of this name, once for the processes that are to read several."""
    if path.suffix == ".sqlite":
        from laptime.trace.read import nsight  # noqa: F401
    else:
        from laptime.trace.read import kineto  # noqa: F401


@cache  # a second block of this size would come from what was kept, and be filled with zeros
def _keep_freed_memory() -> None:
    """Let glibc keep freed memory, up to twice the largest block that was ever freed: one of this size.

    Else each block of a file and each large array gets fresh pages from the system, which takes a tenth of the time.
    """
    bytes(_KEPT_BYTES)


def _nsight(sqlite: Path, path: Path) -> GpuTimeline:
    """What an export holds, under the name of the file that the user named."""
    from laptime.trace.read import nsight

    timeline = nsight.read(sqlite)
    return timeline if sqlite is path else replace(timeline, source=replace(timeline.source, file=str(path)))
