"""API calls of CUDA and HIP: names without version suffixes, what each is for, counts and times."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import ApiCalls
from laptime.trace.result import ApiCall

CAUSES: tuple[str, ...] = (
    "host-not-launching",
    "launch-overhead",
    "graph-launch",
    "memcpy",
    "synchronize",
    "allocation",
    "free",
    "module-load",
    "graph-capture",
    "other-api",
    "profiler-overhead",
    "queued",
    "unknown",
    "start-up",
)
"""What the launching thread can have been doing during a gap; docs/trace-causes.md says what each means."""

HOST, LAUNCH, GRAPH_LAUNCH, MEMCPY, SYNCHRONIZE, ALLOCATION, FREE = range(7)
MODULE_LOAD, GRAPH_CAPTURE, OTHER_API, PROFILER, QUEUED, UNKNOWN, START_UP = range(7, 14)

_SUFFIX = re.compile(r"(_v\d+|_ptsz|_ptds|_spt)+$")

# In this order: the first pattern in a name decides.
_PURPOSES: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (purpose, re.compile(pattern, re.IGNORECASE))
    for purpose, pattern in (
        (GRAPH_LAUNCH, r"graph_?launch"),
        (GRAPH_CAPTURE, r"graph(instantiate|exec|add|create|clone|upload|kernelnode|destroy)|(begin|end)capture"),
        (SYNCHRONIZE, r"synchronize|eventquery|streamquery|queuesync|syncdevice"),
        (MEMCPY, r"memcpy|memset"),
        (FREE, r"^(cu|cuda|hip)(mem)?(host)?free|memunmap|memrelease|memaddressfree|mempooltrim|hostunregister"),
        (
            ALLOCATION,
            r"malloc|memalloc|hostalloc|memcreate|memmap|memaddressreserve|memsetaccess|mempoolcreate|hostregister",
        ),
        (MODULE_LOAD, r"(module|library|linkcomplete|linkadd|link).*(load|create|complete|add|getkernel)|nvrtc|hiprtc"),
        (LAUNCH, r"launch|invokekernel"),
    )
)


def plain_name(name: str) -> str:
    """The function's name without version and default-stream suffixes: cudaLaunchKernel_v7000 -> cudaLaunchKernel."""
    return _SUFFIX.sub("", name)


@lru_cache(maxsize=4_096)
def purpose(name: str) -> int:
    """Index into CAUSES of what a call of this name counts as."""
    for cause, pattern in _PURPOSES:
        if pattern.search(name):
            return cause
    return OTHER_API


def purposes(names: npt.NDArray[np.int32], strings: tuple[str, ...]) -> npt.NDArray[np.int8]:
    """`purpose` of each name id; each distinct string is looked at once."""
    known = np.zeros(len(strings), dtype=np.int8)
    for i in np.flatnonzero(np.bincount(names)).tolist():
        known[i] = purpose(strings[i])
    return known[names]


def api_calls(calls: ApiCalls, strings: tuple[str, ...]) -> list[ApiCall]:
    """Count and time of each API function over all threads, longest first."""
    counts, spent = np.bincount(calls.name, minlength=len(strings)), np.zeros(len(strings), dtype=np.int64)
    np.add.at(spent, calls.name, np.maximum(calls.end_ns - calls.start_ns, 0))
    totals: dict[str, tuple[int, int]] = {}
    for i in np.flatnonzero(counts).tolist():
        name = plain_name(strings[i])
        count, total = totals.get(name, (0, 0))
        totals[name] = (count + int(counts[i]), total + int(spent[i]))
    rows = [ApiCall(name, count, total, CAUSES[purpose(name)]) for name, (count, total) in totals.items()]
    return sorted(rows, key=lambda row: (-row.total_ns, row.name))
