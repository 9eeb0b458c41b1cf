# mypy: ignore-errors
# ruff: noqa: E741, N803, N806
"""Triton kernels of a decode step of several rows: matrix times rows on the tensor cores, each weight read once.

A product of few rows is bound by its weights' bytes. Where a matrix has too few rows for all processors (the output of
attention, the way down), its columns are divided too: each part is stored by itself, in float32, and added up in a
fixed order by the norm that follows, so that a step gives the same bits again. Conventions as in row_kernels.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # another backend: PDL is never asked for there
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def rows_times_matrix(
    x, w, bias, out, N, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PARTS: tl.constexpr, STAGES: tl.constexpr,
    BIAS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[part, b, n] = sum of w[n, k] x[b, k] over the part's k, + bias[n] in the first. Grid: (block of n, part)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    part = tl.program_id(1)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    mine = (rows < N)[:, None]
    at = w + tl.where(rows < N, rows, 0)[:, None].to(tl.int64) * K
    EACH: tl.constexpr = ((K + BK - 1) // BK + PARTS - 1) // PARTS
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, EACH, num_stages=STAGES):
        k = (part * EACH + t) * BK + ks
        wt = tl.load(at + k[None, :], mask=mine & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        total = tl.dot(wt, xt, total, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + rows, mask=(rows < N) & (part == 0), other=0.0).to(tl.float32)[:, None]
    tl.store(out + (part * B + b[None, :]) * N + rows[:, None], total, mask=mine & (b[None, :] < B))


@triton.jit
def rows_swiglu(
    x, w, out, I, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[b, i] = silu(g) u; g and u are rows i and I + i of w times x[b]. Grid: (block of i,)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    mine = (rows < I)[:, None]
    gate_at = w + tl.where(rows < I, rows, 0)[:, None].to(tl.int64) * K
    up_at = gate_at + I.to(tl.int64) * K
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    g = tl.zeros((BN, M), tl.float32)
    u = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
        k = t * BK + ks
        keep = mine & (k[None, :] < K)
        gt = tl.load(gate_at + k[None, :], mask=keep, other=0.0, eviction_policy="evict_first")
        ut = tl.load(up_at + k[None, :], mask=keep, other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        g = tl.dot(gt, xt, g, input_precision="ieee")
        u = tl.dot(ut, xt, u, input_precision="ieee")
    y = g * tl.sigmoid(g) * u
    tl.store(out + b[None, :] * I + rows[:, None], y, mask=mine & (b[None, :] < B))


@triton.jit
def rows_head(
    x, w, bias, logits, best, N, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """logits[b, n] in float32 and each program's best (biased): best[b, program] = (value, n). Grid: (block of n,)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    mine = (rows < N)[:, None]
    at = w + tl.where(rows < N, rows, 0)[:, None].to(tl.int64) * K
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
        k = t * BK + ks
        wt = tl.load(at + k[None, :], mask=mine & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        total = tl.dot(wt, xt, total, input_precision="ieee")
    tl.store(logits + b[None, :].to(tl.int64) * N + rows[:, None], total, mask=mine & (b[None, :] < B))
    y = total + tl.load(bias + rows, mask=rows < N, other=0.0)[:, None]
    y = tl.where(mine, y, float("-inf"))
    top = tl.max(y, 0)
    which = tl.min(tl.where(y == top[None, :], rows[:, None], N), 0)
    to = best + (b * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(to, top, mask=b < B)
    tl.store(to + 1, which.to(tl.float32), mask=b < B)
