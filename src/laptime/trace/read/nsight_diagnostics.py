"""What Nsight Systems itself noted about a capture: events that it lost, a driver that it doesn't know.

Its texts hold paths and process names, so they are recognised and said in words of our own, never passed on.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Literal

from laptime.data.finding import Finding
from laptime.errors import LaptimeError
from laptime.trace.read.nsight_names import DIAGNOSTICS
from laptime.trace.read.nsight_tables import NsightExport
from laptime.trace.read.sqlite_columns import database

Severity = Literal["info", "warning", "severe"]

KNOWN: tuple[tuple[str, Severity, re.Pattern[str], str], ...] = tuple(
    (code, severity, re.compile(pattern, re.IGNORECASE), message)  # type: ignore[misc]
    for code, severity, pattern, message in (
        (
            "lost-records",
            "severe",
            r"not all cuda events|cupti events might be missing|cu(?:da|pti)[^.]{0,80}(?:dropped|lost|discarded)",
            "Nsight Systems noted that CUDA events may be missing: what lacks is not in any figure",
        ),
        (
            "lost-ranges",
            "warning",
            r"not all nvtx events",
            "Nsight Systems noted that NVTX ranges may be missing",
        ),
        (
            "driver-not-supported",
            "warning",
            r"cuda driver version \(?(?P<version>[\d.]{1,12})\)? is not supported",
            "Nsight Systems noted that it does not support the installed CUDA driver ({version}); capture with a newer"
            " Nsight Systems",
        ),
        (
            "cuda-not-collected",
            "warning",
            r"no cuda events collected|cuda profiling might have not been started",
            "Nsight Systems noted that it collected no CUDA event; trace with -t cuda,nvtx and see that the program"
            " uses the GPU while it is traced",
        ),
    )
)
"""Finding code, severity, what shows it, and the message."""

_COLLECTED = re.compile(r"number of cuda events collected:\s{0,9}[1-9]", re.IGNORECASE)
"""What Nsight Systems notes of each process of which it has CUDA events."""

ROWS, LONGEST = 10_000, 2_000


def diagnostics(export: NsightExport) -> Iterator[Finding]:
    """The findings that an export's own notes give, each once with how often it was noted."""
    if "text" not in export.columns.get(DIAGNOSTICS, ()):
        return
    try:
        with database(export.path) as db:
            texts = _texts(db)
    except LaptimeError:
        return
    for code, severity, pattern, message in KNOWN:
        found = [match for match in map(pattern.search, texts) if match is not None]
        if found and code == "cuda-not-collected" and any(map(_COLLECTED.search, texts)):
            said = "Nsight Systems collected no CUDA event of some processes; those of others are in the file"
            yield Finding(code="processes-without-cuda", severity="info", message=said)
        elif found:
            said = message.format(**found[0].groupdict())
            yield Finding(code=code, severity=severity, message=said, count=len(found))


def _texts(db: sqlite3.Connection) -> list[str]:
    rows = db.execute(f"SELECT substr(text, 1, {LONGEST}) FROM {DIAGNOSTICS} LIMIT {ROWS}").fetchall()  # noqa: S608
    return [text for (text,) in rows if isinstance(text, str)]
