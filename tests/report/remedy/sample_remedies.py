"""A report of remedies as a GPU gives it, to draw."""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.data.record import Environment, Interval
from laptime.remedy.result import AnswerTime, Promise, RemedyReport, RemedyRow, StageFigures, headline, recommend


def interval(value: float, spread: float = 0.02) -> Interval:
    """An interval of six values about `value`."""
    return Interval(value, value * (1 - spread), value * (1 + spread), 6)


def a_row(name: str, title: str, tpot: float | None, low: float | None, high: float | None, **more: Any) -> RemedyRow:
    """A row with a promise from low to high, kept if `tpot` lies between them; without `tpot` a failed one."""
    promise = None
    if low is not None and high is not None:
        promise = Promise(low_ms=low, high_ms=high, source="trace, graph", assumptions=["0.2 to 1.5 µs stay"])
    if tpot is None:
        return RemedyRow(name=name, title=title, parts=["graph"], promise=promise, failed=more.pop("failed"), **more)
    return RemedyRow(
        name=name,
        title=title,
        parts=["buffers", "graph"],
        promise=promise,
        tpot_ms=interval(tpot),
        speedup=None if name == "eager" else interval(27.4 / tpot),
        call_ms=interval(tpot * 64),
        kept=None if promise is None else promise.low_ms <= tpot <= promise.high_ms,
        kernels_per_step=182,
        launches_per_step=1,
        gap_share=0.13,
        allocations_per_step=0.0,
        gb_per_s=8300 / tpot,
        bandwidth_share=min(1.95 / tpot, 1.0),
        prepare_s=None if name == "eager" else 0.8,
        pays_after_tokens=None if name == "eager" else 32,
        memory_bytes=120_000_000,
        tokens_same=None if name == "eager" else True,
        **more,
    )


def a_report(**changes: Any) -> RemedyReport:
    """One with a kept promise, a missed one, none, a failed remedy, and different tokens."""
    environment = msgspec.convert(
        {
            "laptime": "0.1.0",
            "python": "3.12",
            "platform": "Linux",
            "cpu": "a CPU",
            "cpu_count": 16,
            "memory_bytes": 2**37,
            "torch": "2.11",
            "torch_threads": 16,
            "transformers": "5.17",
            "device": "cuda:0",
            "gpu": "NVIDIA H200",
        },
        Environment,
    )
    prefill = Promise(low_ms=5.4, high_ms=8.7, source="operations and bytes", assumptions=["1.1 to 1.55 times"])
    different = msgspec.structs.replace(
        a_row("fast", "laptime's FastDecoder", 2.37, 2.2, 2.84),
        tokens_same=False,
        first_difference=3,
        logit_gap=0.25,
        bf16_steps=2.0,
        stages=[
            StageFigures(stage="prefill", measured=interval(6.98), promise=prefill, floor_ms=4.7, kept=True),
            StageFigures(stage="decode", measured=interval(149.0)),
        ],
    )
    rows = [
        a_row("eager", "transformers, eager, dynamic cache", 27.4, None, None),
        a_row("buffers", "preallocated cache", 27.8, 25.4, 28.7),
        a_row("static", "transformers' static cache", 33.1, None, None),
        a_row("graph", "static cache, forward captured", 11.3, 6.9, 10.2),
        a_row("compiled", "static cache, auto-compiled", None, 5.2, 8.9, failed="RuntimeError: it did not compile"),
        different,
    ]
    report = RemedyReport(
        model="preset:qwen3-4b",
        headline=headline(rows),
        config={"prompt_tokens": 512, "new_tokens": 64, "batch": 1},
        environment=environment,
        copy_gb_per_s=4250.0,
        weight_bytes=8_040_000_000,
        cache_bytes=80_000_000,
        floor_ms=1.93,
        rounds=6,
        rows=rows,
        recommendations=recommend(rows, 64),
        notes=["outside what was promised: graph"],
        answers=[
            AnswerTime(tokens=n, remedy=name, ms=ms, measured=n == 64, baseline_ms=1500.0, pays_after_answers=pays)
            for n in (2, 64)
            for name, ms, pays in (("eager", 1500.0, None), ("fast", 170.5, 17))
        ],
    )
    return msgspec.structs.replace(report, **changes)
