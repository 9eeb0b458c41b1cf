"""A row of the table of kernels: a name that no other row has, and how often it runs in a step."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from laptime.report.trace.kernel_rows import per_step, told_apart
from laptime.report.trace.page import trace_page
from laptime.report.trace.terminal import trace_report
from laptime.trace.analysis import analyse
from laptime.trace.kernel_names import short_name
from laptime.trace.result import Kernel
from tests.trace.build_timeline import build
from tests.trace.write_traces import ActivityRow, CallRow


def a_kernel(name: str, short: str | None = None, **fields: int | None) -> Kernel:
    times = dict.fromkeys(("total_ns", "mean_ns", "p50_ns", "p95_ns", "max_ns"), 5)
    made = {"count": 1, "share": 0.5, "per_step": None, **times, **fields}
    return msgspec.convert(
        {"device": 0, "name": name, "short_name": short or short_name(name), "family": "x"} | made, Kernel
    )


def test_kernels_of_one_short_name_are_told_apart() -> None:
    names = [f"nvjet_tst_8x64_64x16_{one}_h_bz_TNT" for one in ("1x4", "4x1")] + ["rms_norm"]
    shown = told_apart(a_kernel(name) for name in names)
    assert [shown[name] for name in names] == ["nvjet 8x64 64x16 1x4", "nvjet 8x64 64x16 4x1", "rms_norm"]


@given(st.lists(st.text("ab1_<,", min_size=1, max_size=12), unique=True, max_size=6))
def test_no_two_kernels_have_one_name(names: list[str]) -> None:
    shown = told_apart(a_kernel(name, "gemm") for name in names)
    assert len(set(shown.values())) == len(names)


@pytest.mark.parametrize(("in_step", "count", "said"), [(None, 9, "–"), (0, 3, "<1"), (0, 40, "0"), (2, 12, "2")])
def test_a_kernel_that_is_not_in_the_step(in_step: int | None, count: int, said: str) -> None:
    assert per_step(a_kernel("k", per_step=in_step, count=count), steps=6) == said


@pytest.mark.parametrize("devices", [1, 2])
def test_kernels_of_several_devices_have_a_column_of_it(devices: int) -> None:
    rows = [ActivityRow(9_000 * i, 9_000 * i + 4_000, "k", correlation=i + 1, device=i % devices) for i in range(8)]
    analysis = analyse(
        build(rows, [CallRow(r.start_ns - 3_000, r.start_ns - 1_000, correlation=r.correlation) for r in rows])
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(trace_report(analysis))
    table = console.file.getvalue().split("\nKernels")[1]  # type: ignore[attr-defined]
    assert (" GPU " in table) == (devices > 1)
    whose = "row's own GPU" if devices > 1 else "device's busy time"
    assert whose in " ".join(table.split())
    assert whose in trace_page(analysis).replace("&#x27;", "'").replace("&#39;", "'")
