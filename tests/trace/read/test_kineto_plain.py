"""The fast way of reading events and the one for everything give the same columns, or the fast one gives none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.trace.read.kineto_columns import Batch, columns_of
from laptime.trace.read.kineto_events import decode
from laptime.trace.read.kineto_plain import decode_plain, plain_columns

KERNEL_ARGS = '{"queued": 0, "device": 0, "context": 1, "stream": 7, "correlation": 5, "bytes": 64, "graph node id": 3}'
NCCL_ARGS = '{"device": 1, "stream": 9, "correlation": 6, "Process Group Name": "0", "Process Group Ranks": "[0, 1]"}'
SIZED_ARGS = NCCL_ARGS.replace("}", ', "Collective name": "allreduce", "In msg nelems": 8, "dtype": "BFloat16"}')
OPERATOR_ARGS = '{"Sequence number": 4, "Fwd thread id": 1, "Input Dims": [[2, 3]], "Input type": ["float"]}'
MEMORY_ARGS = '{"Total Allocated": 9, "Bytes": -4, "Addr": 5, "Device Id": 0, "Device Type": 1}'
PLAIN = {
    "kernel": ["kernel", "gpu_memcpy", "gpu_memset"],
    "call": ["cuda_runtime", "cuda_driver"],
    "range": ["cpu_op", "user_annotation", "python_function", "overhead", "ac2g", "Trace"],
}


def event(cat: str, args: str | None, **changed: str) -> str:
    """One event as the profiler writes it; `changed` values are JSON text, and empty ones are left out."""
    values = {"ph": '"X"', "cat": json.dumps(cat), "name": '"aten::mm"', "pid": "397", "tid": "398"}
    values |= {"ts": "4368548121105.618", "dur": "16.059"} | changed
    if args is not None:
        values["args"] = args
    return "{" + ", ".join(f'"{key}": {value}' for key, value in values.items() if value) + "}"


MEMORY = event("cpu_instant_event", MEMORY_ARGS, ph='"i"', name='"[memory]"', dur="")
REGULAR = [
    *[event(cat, args) for cat in PLAIN["kernel"] for args in (KERNEL_ARGS, NCCL_ARGS, SIZED_ARGS)],
    *[event(cat, '{"cbid": 211, "correlation": 5}') for cat in PLAIN["call"]],
    event("cuda_runtime", '{"correlation": 5, "kernel": "gemm"}'),
    *[event(cat, args) for cat in PLAIN["range"] for args in (None, OPERATOR_ARGS, "{}")],
    event("ac2g", None, ph='"s"', pid='"a"', dur=""),
    event("ac2g", None, ph='"f"', dur=""),
    '{"name": "process_name", "ph": "M", "ts": 4.5, "pid": "x", "args": {"name": "python"}}',
    MEMORY,
    event("cpu_op", None, name='"[memory]"'),
    event("Trace", '{"Op count": 0}', name='"PyTorch Profiler (0)"', pid='"Spans"', tid='"PyTorch Profiler"'),
    '{"name": "Record Window End", "ph": "i", "s": "g", "pid": "", "tid": "", "ts": 4368548121105.618}',
]

numbers = st.sampled_from(
    [
        "0",
        "-1",
        "7",
        '"stream 7"',
        "7.0",
        "7.5",
        "null",
        "",
        "true",
        '"x"',
        "9007199254740993",
        "1e3",
        "99999999999999999999",
    ]
)
times = st.one_of(
    st.sampled_from(["", "null", '"16.059"', "-0.5", "-0", "1e3", "1e-3", "12.0005", "12.0015", "5e11", "true", "[1]"]),
    st.integers(0, 4 * 10**18).map(lambda ns: f"{ns // 1000}.{ns % 1000:03}"),
    st.integers(0, 10**16).map(str),
    st.floats(0, 1e13).map(repr),
)
odd = st.builds(
    event,
    st.sampled_from([*PLAIN["kernel"], *PLAIN["call"], *PLAIN["range"], "Kernel", "Operator", ""]),
    st.sampled_from([None, "null", "{}", '{"device": "0"}', '{"stream": null}', KERNEL_ARGS, OPERATOR_ARGS]),
    ph=st.sampled_from(['"X"', '"X"', '"i"', '"B"', "null", ""]),
    name=st.sampled_from(['"k"', '""', "null", "", "3", '"[memory]"']),
    pid=numbers,
    tid=numbers,
    ts=times,
    dur=times,
)


def as_lists(batch: Batch) -> dict[str, Any]:
    values = {name: getattr(batch, name) for name in Batch.__struct_fields__}
    return {
        name: {column: list(map(int, numbers)) for column, numbers in value.items()}
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }


def both(events: list[str], *, details: bool) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    text = f"[{', '.join(events)}]".encode()
    plain, general = decode_plain(text), decode(text)
    assert general is not None
    batch = None if plain is None else plain_columns(plain, details=details)
    if batch is not None:
        assert general[1] == 0
    return None if batch is None else as_lists(batch), as_lists(columns_of(general[0], details=details))


@pytest.mark.parametrize("details", [True, False])
@settings(max_examples=100, deadline=None)
@given(events=st.lists(st.sampled_from(REGULAR), max_size=12))
def test_what_the_profiler_writes_today_is_read_the_fast_way(events: list[str], details: bool) -> None:
    plain, general = both(events, details=details)
    assert plain == general


@settings(max_examples=500, deadline=None)
@given(events=st.lists(st.sampled_from(REGULAR), max_size=2), last=odd)
def test_an_odd_event_is_read_alike_or_left(events: list[str], last: str) -> None:
    plain, general = both([*events, last], details=True)
    assert plain is None or plain == general


@settings(max_examples=500, deadline=None)
@given(ts=times, dur=times, cat=st.sampled_from(["cpu_op", "kernel"]))
def test_odd_times_are_read_alike_or_left(ts: str, dur: str, cat: str) -> None:
    plain, general = both([REGULAR[0], event(cat, KERNEL_ARGS, ts=ts, dur=dur)], details=True)
    assert plain is None or plain == general


def test_arrays_of_both_ways_are_of_one_type() -> None:
    text = f"[{', '.join(REGULAR)}]".encode()
    plain, general = decode_plain(text), decode(text)
    assert plain is not None and general is not None
    one, other = plain_columns(plain), columns_of(general[0])
    assert one is not None
    for table in ("activities", "calls", "ranges", "memory"):
        for column, values in getattr(one, table).items():
            assert values.dtype == getattr(other, table)[column].dtype == np.int64, column


def test_what_a_collective_was_given_is_read_in_bytes() -> None:
    """Eight elements of two bytes; a file that names a group alone says no size, nor does a type that isn't known."""
    unknown = SIZED_ARGS.replace("BFloat16", "Quaternion")
    plain, general = both([event("kernel", args) for args in (SIZED_ARGS, NCCL_ARGS, unknown)], details=True)
    assert plain == general
    assert general["activities"]["bytes"] == [16, -1, -1]
