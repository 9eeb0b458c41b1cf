"""Which block shapes are fastest on this card: each product of several rows beside cuBLAS, and whole steps.

Products are timed over all of the model's own matrices of that role in one graph, so that none comes from a cache.
Steps are timed as they are, and each variant's logits are held against the plain step's. What a kind of kernel costs is
the step's time less that of the step without it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from remedy_lengths import Flush, guarded, replays_ms

from laptime.decoder import FastDecoder
from laptime.decoder.graph import capture
from laptime.decoder.kernels.shapes import SHAPES, RowsShape, Shapes
from laptime.decoder.plain_step import decode_one_token
from laptime.decoder.plan import DecodePlan, Dense
from laptime.decoder.state import Sampling, new_state
from laptime.decoder.triton_step import RowsStep, kernels_of, triton_step
from laptime.models.loading import load_model
from laptime.remedy.floor import copy_gb_per_s

SECONDS = 25.0
PRODUCTS: dict[str, tuple[RowsShape, ...]] = {
    "qkv": (
        RowsShape(32, 128, 4, 4),
        RowsShape(16, 256, 4, 4),
        RowsShape(32, 256, 3, 4),
        RowsShape(64, 128, 4, 4),
    ),
    "o": (
        RowsShape(32, 128, 4, 4, parts=4),
        RowsShape(64, 128, 4, 4, parts=8),
        RowsShape(32, 256, 3, 4, parts=4),
        RowsShape(16, 256, 4, 4, parts=2),
    ),
    "swiglu": (
        RowsShape(32, 128, 3, 4),
        RowsShape(16, 256, 3, 4),
        RowsShape(64, 64, 4, 4),
        RowsShape(32, 128, 4, 4),
    ),
    "down": (
        RowsShape(32, 128, 4, 4, parts=4),
        RowsShape(64, 128, 4, 4, parts=8),
        RowsShape(32, 256, 3, 4, parts=4),
        RowsShape(16, 256, 4, 4, parts=2),
    ),
    "head": (RowsShape(64, 128, 4, 4), RowsShape(128, 64, 4, 4), RowsShape(32, 128, 4, 4), RowsShape(64, 64, 5, 4)),
}


@torch.no_grad()
def shapes(model_name: str, flush: Flush) -> dict[str, Any]:
    """Times of every candidate; the fastest by role go into a step of their own at the end."""
    loaded = load_model(model_name, device="cuda")
    figures: dict[str, Any] = {"model": model_name, "copy_gb_per_s": copy_gb_per_s(loaded.device) or math.nan}
    figures["products"], figures["steps"], figures["costs"], failed = [], [], [], {}
    with FastDecoder(loaded.model) as decoder:
        plan = decoder.plan
        all_ahead = {**SHAPES.row, "o": SHAPES.row["o"]._replace(ahead=8)}
        one = {"as it is": SHAPES, "o all ahead": replace(SHAPES, row=all_ahead)}
        one |= {f"tile {tile}": replace(SHAPES, tile=tile) for tile in (64, 32)}
        for name, given in one.items():
            _step(figures, failed, plan, 1, name, given)
            flush(figures)
        for batch in (1, 8):
            _costs(figures, failed, plan, batch)
            flush(figures)
        for batch in (8, 32):
            best = {role: _product(figures, failed, plan, batch, role) for role in PRODUCTS}
            flush(figures)
            own = {role: shape for role, shape in best.items() if shape is not None}
            many = {"as it is": SHAPES, "cuBLAS": replace(SHAPES, rows={}), "best of each": replace(SHAPES, rows=own)}
            many |= {"best, tile 64": replace(SHAPES, rows=own, tile=64)}
            many |= {"best, 512 programs": replace(SHAPES, rows=own, programs=512)}
            for name, given in many.items():
                _step(figures, failed, plan, batch, name, given)
                flush(figures)
    figures["failed"] = failed
    return figures


def _product(figures: dict[str, Any], failed: dict[str, str], plan: DecodePlan, batch: int, role: str) -> Any:
    """The fastest shape of one role; None when cuBLAS is."""
    times: list[tuple[float, RowsShape | None]] = []
    for shape in (None, *PRODUCTS[role]):
        name = f"{batch} rows, {role}, {'cuBLAS' if shape is None else tuple(shape)}"
        ms = guarded(name, SECONDS, lambda s=shape: _product_ms(plan, batch, role, s), failed)
        if ms is None:
            print(f"{name}: {failed.get(name)}", flush=True)
            continue
        nbytes = _matrices(plan, role)[0].nbytes * len(_matrices(plan, role))
        share = nbytes / ms / 1e6 / figures["copy_gb_per_s"]
        print(f"{name}: {ms:.3f} ms, {share:.0%} of copy", flush=True)
        figures["products"].append(
            {"rows": batch, "role": role, "shape": None if shape is None else list(shape), "ms": ms, "share": share}
        )
        times.append((ms, shape))
    return min(times, key=lambda pair: pair[0])[1] if times else None


def _matrices(plan: DecodePlan, role: str) -> list[torch.Tensor]:
    if role == "head":
        return [plan.head]
    if role in ("qkv", "o"):
        return [getattr(layer, role) for layer in plan.layers]
    mlps = [layer.mlp for layer in plan.layers if isinstance(layer.mlp, Dense)]
    return [mlp.gate_up if role == "swiglu" else mlp.down for mlp in mlps]


def _product_ms(plan: DecodePlan, batch: int, role: str, shape: RowsShape | None) -> float:
    """All matrices of the role, one behind the other in one graph."""
    state = new_state(plan, batch, 128)
    step = RowsStep(plan, state, Sampling(), None, replace(SHAPES, rows={} if shape is None else {role: shape}))
    step.normed.normal_()
    step.inner.normal_()
    step.attended.normal_()

    def run() -> None:
        for layer in plan.layers[:1] if role == "head" else plan.layers:
            if role == "qkv":
                step.multiply("qkv", step.normed, layer.qkv, None, step.qkv)
            elif role == "o":
                step.multiply("o", step.attended, layer.o, None, step.added["o"])
            elif role == "head":
                step.compute_logits()
            elif isinstance(layer.mlp, Dense) and role == "swiglu":
                step.swiglu(layer.mlp)
            elif isinstance(layer.mlp, Dense):
                inner = step.inner[: batch * layer.mlp.down.shape[1]].view(batch, -1)
                step.multiply("down", inner, layer.mlp.down, None, step.added["down"])

    captured = capture(run)
    return min(replays_ms(captured, state, 0, steps=10) for _ in range(3))


def _step(
    figures: dict[str, Any], failed: dict[str, str], plan: DecodePlan, batch: int, name: str, given: Shapes
) -> None:
    """A whole captured step at 512 positions, and how far its logits lie from the plain step's."""
    state = new_state(plan, batch, 1024)
    for cache in (*state.keys, *state.values):
        cache.normal_()

    def measure() -> float:
        step = triton_step(plan, state, Sampling(), None, given)
        state.token.fill_(11)
        state.position.fill_(500)
        state.begin.fill_(500)
        plain = decode_one_token(plan, state).float()
        step.begin()
        step()
        apart.append(float((state.logits - plain).norm() / plain.norm()))
        captured = capture(step)
        return min(replays_ms(captured, state, 512) for _ in range(3))

    apart: list[float] = []
    key = f"{batch} rows, step, {name}"
    ms = guarded(key, SECONDS, measure, failed)
    if ms is None:
        print(f"{key}: {failed.get(key)}", flush=True)
        return
    floor = (plan.weight_bytes(batch) + plan.cache_bytes(512, batch)) / figures["copy_gb_per_s"] / 1e6
    row = {"rows": batch, "name": name, "ms": ms, "share": floor / ms, "apart": apart[0]}
    figures["steps"].append({**row, "kernels": kernels_of(plan, batch, given)})
    print(f"{key}: {ms:.3f} ms, {floor / ms:.0%} of copy, logits {apart[0]:.4f} from the plain step's", flush=True)


def _costs(figures: dict[str, Any], failed: dict[str, str], plan: DecodePlan, batch: int) -> None:
    """What each kind of kernel costs a block (the head: the step), beside the time of its bytes."""
    state = new_state(plan, batch, 1024)

    def measure(without: str | None) -> float:
        step = triton_step(plan, state, Sampling(), None)
        if without is not None:
            _leave_out(step, without)
        return min(replays_ms(capture(step), state, 512) for _ in range(2))

    whole = guarded(f"{batch} rows, costs", SECONDS, lambda: measure(None), failed)
    for kind in ("attention", "qkv", "o", "swiglu", "down", "head", *(("norms",) if batch > 1 else ())):
        less = guarded(f"{batch} rows, without {kind}", SECONDS, lambda k=kind: measure(k), failed)
        if whole is None or less is None:
            continue
        each = 1 if kind == "head" else len(plan.layers)
        if kind == "attention":
            nbytes = plan.cache_bytes(512, batch)
        else:
            nbytes = 0 if kind == "norms" else sum(matrix.nbytes for matrix in _matrices(plan, kind))
        row = {"rows": batch, "kind": kind, "us": (whole - less) / each * 1e3}
        row["bytes_us"] = nbytes / each / figures["copy_gb_per_s"] / 1e3
        figures["costs"].append(row)
        print(f"{batch} rows, {kind}: {row['us']:.1f} us each, its bytes {row['bytes_us']:.1f}", flush=True)


def _leave_out(step: Any, kind: str) -> None:
    """Make this step skip one kind of kernel."""
    multiply = step.multiply
    if kind == "attention":
        step.attend = lambda *_: None
    elif kind == "head":
        step.compute_logits = lambda: None
    elif kind == "norms":
        step.add_and_norm = lambda *_: None
    elif kind == "swiglu":
        rows = step.state.batch
        step.swiglu = lambda *given: step.inner[: rows * given[-1].down.shape[1]].view(rows, -1)
    else:
        step.multiply = lambda role, *given, **named: None if role == kind else multiply(role, *given, **named)
