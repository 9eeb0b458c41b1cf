"""What a host range is to its reader (a range, a module, an operator, a Python frame) and its name without numbers.

Ranges that differ by a number only are one line of a table: `ProfilerStep#3` and `ProfilerStep#4`, layers 0 to 35.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from laptime.trace.read.timeline import Int8, Int32, RangeKind, Ranges

KINDS: tuple[str, ...] = ("range", "module", "operator", "frame")
RANGE, MODULE, OPERATOR, FRAME = range(4)

NUMBERED = 6
"""Modules of one class inside one module are told apart up to this many; more of them are layers, and one line."""

_MODULE = re.compile(r"nn\.Module: (?P<cls>.*?)(?:_(?P<number>\d{1,9}))?$", re.DOTALL)
_LAYERWISE = re.compile(r"['\"]Module['\"]\s*:\s*['\"](?P<path>[^'\"]{1,300})['\"]")
_PROFILER_STEP = "ProfilerStep"
_NUMBER = re.compile(r"#?\d+")
_HASH = re.compile(r"(CompiledFxGraph) \w{20,}")
_OUTSIDE_THE_PROGRAM = re.compile(
    r"^<built-in|^<frozen|^<string>|(?:^|/)torch/|(?:^|/)(?:contextlib|threading|runpy|functools|selectors|queue|abc"
    r"|typing|enum|dataclasses|warnings|copy|inspect|_bootstrap\w*)\.py\(|(?:^|/)(?:importlib|asyncio|concurrent"
    r"|multiprocessing|IPython|ipykernel|tornado|traitlets|pytest|_pytest|pluggy|debugpy)/|kernel_launcher\.py\("
)
_LONGEST = 300


class RangeLabels(msgspec.Struct, frozen=True, eq=False):
    """For each row of Ranges its place in `labels` and its kind; -1 where it is left out of what launched."""

    labels: list[str]
    label: Int32
    kind: Int8
    number: Int32  # of a module: its number among those of its class; else -1


def range_labels(ranges: Ranges, strings: Sequence[str]) -> RangeLabels:
    """Name all ranges. Python frames count only where no module is named, and only the program's own."""
    code = ranges.name.astype(np.int64) * len(RangeKind) + ranges.kind
    size = len(strings) * len(RangeKind)
    used = np.flatnonzero(np.bincount(code, minlength=size)) if len(code) else np.zeros(0, dtype=np.int64)
    looked_at = {
        int(i): _looked_at(strings[i // len(RangeKind)], RangeKind(int(i) % len(RangeKind))) for i in used.tolist()
    }
    modules = any(kind == MODULE for kind, _, _ in looked_at.values())
    alike: dict[str, set[str]] = {}
    for kind, name, _ in looked_at.values():
        if kind == RANGE:
            alike.setdefault(_NUMBER.sub("#", name), set()).add(name)
    labels: dict[str, int] = {}
    label_of, kind_of, number_of = (np.full(size, -1, dtype=np.int32) for _ in range(3))
    for i, (kind, name, number) in looked_at.items():
        if kind < 0 or (kind == FRAME and modules):
            continue
        shown = _numberless(name, alike) if kind == RANGE else name
        label_of[i] = labels.setdefault(shown[:_LONGEST], len(labels))
        kind_of[i], number_of[i] = kind, number
    return RangeLabels(list(labels), label_of[code], kind_of[code].astype(np.int8), number_of[code])


def _numberless(name: str, alike: Mapping[str, set[str]]) -> str:
    plain = _NUMBER.sub("#", name)
    return plain if len(alike[plain]) > 1 else name


def _looked_at(name: str, kind: RangeKind) -> tuple[int, str, int]:
    """(kind, name, number of the module); kind -1 for what launches nothing by itself."""
    name = " ".join(name.split())
    if kind == RangeKind.PROFILER:
        return -1, name, -1
    if kind == RangeKind.PYTHON:
        module = _MODULE.match(name)
        if module is not None:
            return MODULE, module["cls"], int(module["number"] or -1)
        return (-1 if _OUTSIDE_THE_PROGRAM.search(name) else FRAME), name, -1
    if kind == RangeKind.CPU_OP and not name.startswith(_PROFILER_STEP):
        return OPERATOR, name, -1
    layerwise = _LAYERWISE.search(name)
    if layerwise is not None:
        return MODULE, _NUMBER.sub("#", layerwise["path"]), -1
    return RANGE, _HASH.sub(r"\1", name).strip("# ") or name, -1
