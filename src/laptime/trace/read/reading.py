"""One door for every trace format: the content, not the name, says which reader is asked."""

from __future__ import annotations

from pathlib import Path

from laptime.errors import LaptimeError
from laptime.trace.read.timeline import GpuTimeline

_SQLITE_MAGIC = b"SQLite format 3\0"
_GZIP_MAGIC = b"\x1f\x8b"
_NSYS_REPORT_MAGICS = (b"QDSTRM", b"\x1aQDREP")


def read_timeline(path: str | Path) -> GpuTimeline:
    """Read a trace: a PyTorch profiler .json or .json.gz, an Nsight Systems .sqlite.

    Raises:
        LaptimeError: one line saying what is wrong with the file and how to mend it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise LaptimeError(
                f"{path}: a folder; name one .json, .json.gz or .sqlite file, or read all ranks with laptime.read_ranks"
            )
        if path.exists() and not path.is_file():
            raise LaptimeError(f"{path}: not a regular file; save the trace to one first")
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise LaptimeError(f"{path}: can't be opened ({error.strerror or error})") from None
    if head.startswith(_SQLITE_MAGIC):
        from laptime.trace.read import nsight  # each reader is imported for its own files only: start-up counts

        return nsight.read(path)
    if path.suffix in (".nsys-rep", ".qdrep") or head.startswith(_NSYS_REPORT_MAGICS):
        raise LaptimeError(f"{path}: an Nsight Systems report; export it first: nsys export --type sqlite {path.name}")
    if not head:
        raise LaptimeError(f"{path}: empty; capture the trace again")
    if head.startswith(_GZIP_MAGIC) or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b""):
        from laptime.trace.read import kineto

        return kineto.read(path)
    raise LaptimeError(
        f"{path}: not a trace that is known here: PyTorch profiler .json/.json.gz or Nsight Systems .sqlite"
    )
