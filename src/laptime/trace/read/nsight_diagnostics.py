"""What Nsight Systems itself noted about a capture: events that it lost, a driver that it doesn't know, errors of CUDA.

Its texts hold paths and process names, so they are recognised and said in words of our own, never passed on.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

from laptime.data.finding import Finding
from laptime.errors import LaptimeError
from laptime.trace.read.nsight_names import CALL_TABLES, DIAGNOSTICS
from laptime.trace.read.nsight_tables import NsightExport
from laptime.trace.read.sqlite_columns import database, quoted

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

FEW = 0.05
"""Up to this share of failed launches a run is still the one that was meant."""

CUDA_ERRORS = {
    1: "an argument is not valid",
    2: "out of memory",
    9: "no block or grid of that size can be launched",
    98: "the program has no such function for this GPU",
    209: "the program has no code for this GPU",
    222: "the driver is too old for the program's PTX",
    700: "a kernel reached for memory that is not its own",
    701: "a block needs more registers or shared memory than there are",
    719: "a kernel before it failed",
}
"""What the commonest errors of a launch mean.

Source: cudaError_t and CUresult, whose numbers agree in these.
"""


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


def failed_launches(export: NsightExport, launching: Mapping[int, str], launched: int) -> Iterator[Finding]:
    """Launch calls that CUDA answered with an error: no kernel of theirs ran, and the profiler lost none.

    Args:
        export: the file.
        launching: the names of the calls that launch one kernel each, by their number in the file.
        launched: how many such calls there are.
    """
    failed: Counter[int] = Counter()
    ids = ", ".join(map(str, launching))
    for table in CALL_TABLES:
        if not {"returnValue", "nameId"} <= set(export.columns.get(table, ())):
            continue
        query = (
            f"SELECT returnValue, count(*) FROM {quoted(export.names[table])} "  # noqa: S608
            f"WHERE returnValue <> 0 AND nameId IN ({ids}) GROUP BY returnValue"
        )
        try:
            with database(export.path) as db:
                rows = db.execute(query).fetchall()
        except LaptimeError:
            continue
        for code, count in rows:
            if isinstance(code, int):
                failed[code] += count
    if failed:
        code, count = failed.most_common(1)[0][0], failed.total()
        meaning = f" ({CUDA_ERRORS[code]})" if code in CUDA_ERRORS else ""
        most = "" if len(failed) == 1 else ", most of them"
        yield Finding(
            code="failed-launches",
            severity="severe" if count > FEW * launched else "warning",
            message=f"{count} of {launched} kernel launches failed{most} with CUDA error {code}{meaning}: no kernel of"
            " theirs ran",
            count=count,
        )


def _texts(db: sqlite3.Connection) -> list[str]:
    rows = db.execute(f"SELECT substr(text, 1, {LONGEST}) FROM {DIAGNOSTICS} LIMIT {ROWS}").fetchall()  # noqa: S608
    return [text for (text,) in rows if isinstance(text, str)]
