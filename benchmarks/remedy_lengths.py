"""A decode step over batch and cache length: transformers eager and FastDecoder on one roofline; auto-compiled.

No prompt of that length is computed: caches are filled with noise, and both decode on from there, transformers through
its own generate(). So 32 rows of 8,192 positions take seconds, and only one cache is held at a time. A compiled static
cache computes its prompt, and costs a compilation: it has a part of its own.
"""

from __future__ import annotations

import gc
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache

import laptime
from laptime.decoder import FastDecoder
from laptime.decoder.state import Sampling
from laptime.decoder.triton_step import kernels_of
from laptime.errors import LaptimeError
from laptime.models.loading import load_model
from laptime.remedy.floor import copy_gb_per_s
from laptime.remedy.promise import fast_range

CELLS = tuple((batch, positions) for positions in (128, 2048, 8192) for batch in (1, 8, 32))
COMPILED = ((8, 2048),)
"""Cells at which transformers' compiled static cache is measured: each costs a compilation of 30 to 60 s."""
TOKENS, CALLS, SECONDS = 13, 2, 40.0
COMPILED_CALLS = 4

Flush = Callable[[dict[str, Any]], None]


@torch.no_grad()
def lengths(model_name: str, flush: Flush, *, cells: tuple[tuple[int, int], ...] = CELLS) -> dict[str, Any]:
    """Rows of (batch, positions); `flush` gets what there is after each."""
    loaded = load_model(model_name, device="cuda")
    loaded.model.generation_config.eos_token_id = None
    figures: dict[str, Any] = {
        "model": model_name,
        "copy_gb_per_s": copy_gb_per_s(loaded.device) or math.nan,
        "rows": [],
    }
    with FastDecoder(loaded.model) as decoder:
        for batch, positions in cells:
            row: dict[str, Any] = {"batch": batch, "positions": positions, "failed": {}}
            read = decoder.plan.weight_bytes(batch) + decoder.plan.cache_bytes(positions, batch)
            row["floor_ms"] = read / figures["copy_gb_per_s"] / 1e6
            row["kernels"] = kernels_of(decoder.plan, batch)
            row["promised_ms"] = fast_range(row["floor_ms"], row["kernels"], batch)
            ways = {
                "fast": partial(fast_ms, decoder, batch, positions, row),
                "eager": partial(eager_ms, loaded.model, decoder.plan, batch, positions),
            }
            for way, measure in ways.items():
                row[way] = guarded(way, SECONDS, measure, row["failed"])
            fast = row["fast"]
            row["share"] = None if fast is None else row["floor_ms"] / fast
            row["speedup"] = None if fast is None or row["eager"] is None else row["eager"] / fast
            figures["rows"].append(row)
            show(row)
            flush(figures)
    return figures


def compiled(model_name: str, flush: Flush) -> dict[str, Any]:
    """Rows of (batch, positions) by generate(cache_implementation="static"), its own prompt computed.

    Calls are short, and what one does at its first steps would be most of their mean: the last call's steps are given
    one by one, and the mean of every call.
    """
    model = load_model(model_name, device="cuda").model
    model.generation_config.eos_token_id = None
    timer = laptime.StageTimer(model, per_token=True)
    figures: dict[str, Any] = {"model": model_name, "rows": []}
    for batch, positions in COMPILED:
        ids = torch.randint(10, 1000, (batch, positions), device=next(model.parameters()).device)
        call = {"attention_mask": torch.ones_like(ids), "cache_implementation": "static", "do_sample": False}
        row: dict[str, Any] = {"batch": batch, "positions": positions, "calls_ms": []}
        figures["rows"].append(row)
        for _ in range(COMPILED_CALLS):
            with timer:
                model.generate(ids, **call, max_new_tokens=TOKENS)
            row["calls_ms"].append(timer.last.tpot_ms)
            row["steps_ms"] = timer.last.itl_ms
            row["compiled"] = median(timer.last.itl_ms or [math.nan])
            flush(figures)
    return figures


def guarded(way: str, seconds: float, measure: Callable[[], float], failed: dict[str, str]) -> float | None:
    """The figure, or None and the reason under the way's name: no room, too slow, whatever a compiler throws."""
    began = time.monotonic()
    try:
        with within(seconds):
            return measure()
    except torch.OutOfMemoryError:
        failed[way] = "out of memory"
    except (LaptimeError, RuntimeError, TimeoutError) as error:
        failed[way] = (str(error).splitlines() or [type(error).__name__])[0][:200]
    except Exception as error:  # a compiler's own
        failed[way] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    finally:
        gc.collect()
        torch.cuda.empty_cache()
        if time.monotonic() - began > seconds / 2:
            print(f"  ({way} took {time.monotonic() - began:.0f} s)", flush=True)
    return None


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """TimeoutError when the body takes longer."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fast_ms(decoder: FastDecoder, batch: int, positions: int, row: dict[str, Any]) -> float:
    """A replay of FastDecoder's captured step, its cache full of noise. The row gets the experts that it used."""
    session = decoder.session(batch, positions + 64, Sampling())
    try:
        for cache in (*session.state.keys, *session.state.values):
            cache.normal_()
        times, used = [], []
        for _ in range(3):
            times.append(replays_ms(session.captured, session.state, positions))
            used.append(int((session.step.shares > 0).any(0).sum()))  # type: ignore[attr-defined]
        if decoder.plan.top_k:
            row["experts"] = used  # of the last block, whose shares are still there, in the last steps
        return min(times)
    finally:
        decoder.drop_sessions()


def replays_ms(replay: Any, state: Any, positions: int, steps: int = 30) -> float:
    """Mean time of a replay from `positions` on."""
    state.position.fill_(positions)
    state.begin.fill_(positions)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(steps):
        replay()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / steps


def eager_ms(model: Any, plan: Any, batch: int, positions: int) -> float:
    """Time per token of the model's own generate() that goes on from a dynamic cache full of noise."""
    cache = DynamicCache()
    for i in range(len(plan.layers)):
        shape = (batch, plan.kv_heads, positions - 1, plan.head_dim)
        cache.update(*(torch.randn(shape, dtype=plan.dtype, device=plan.device) for _ in range(2)), i)
    ids = torch.full((batch, positions), 7, device=plan.device)
    call = {"attention_mask": torch.ones_like(ids), "past_key_values": cache, "do_sample": False}
    timer = laptime.StageTimer(model)
    times = []
    model.generate(ids, **call, max_new_tokens=3)
    for _ in range(CALLS):
        cache.crop(positions - 1 - cache.get_seq_length())
        with timer:
            model.generate(ids, **call, max_new_tokens=TOKENS)
        assert timer.last.tpot_ms is not None
        times.append(timer.last.tpot_ms)
    return min(times)


def show(row: dict[str, Any]) -> None:
    """One row as a line."""

    def ms(way: str) -> str:
        value = row.get(way)
        return f"{value:8.3f}" if value is not None else f"{row['failed'].get(way, '-')[:40]:>8}"

    low, high = row["promised_ms"]
    print(
        f"batch {row['batch']:2} positions {row['positions']:5}: fast {ms('fast')} ms (predicted {low:.2f}-{high:.2f}, "
        f"floor {row['floor_ms']:.3f}, {row['share'] or math.nan:.0%}), eager {ms('eager')}",
        flush=True,
    )
