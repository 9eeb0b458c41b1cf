# mypy: ignore-errors
# ruff: noqa: E741, N803, N806
"""Triton kernels of a decode step of several rows: products on the tensor cores, norms between them, experts.

A product of few rows takes as long as its weights' bytes. A matrix that has too few rows for all processors (the output
of attention, the way down) is also divided by columns: each part is stored by itself, in float32, and the norm that
follows adds the parts up in a fixed order, so a step gives the same bits every time. Conventions as in one_row.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # on another backend nobody asks for PDL
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def add_and_norm(
    x, added, norm, out, eps, K, B, PARTS: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr
):  # fmt: skip
    """x[b] += sum of added[part, b]; out[b] = x[b] RMS-normed, times norm. One program a row."""
    b = tl.program_id(0)
    ks = tl.arange(0, BK)
    weight = tl.load(norm + ks, mask=ks < K, other=0.0).to(tl.float32)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    row = tl.load(x + b * K + ks, mask=ks < K, other=0.0)
    for part in tl.static_range(PARTS):
        row += tl.load(added + (part * B + b) * K + ks, mask=ks < K, other=0.0).to(tl.float32)
    if PARTS > 0:
        tl.store(x + b * K + ks, row, mask=ks < K)
    row = row * tl.rsqrt(tl.sum(row * row, 0) / K + eps) * weight
    tl.store(out + b * K + ks, row, mask=ks < K)


@triton.jit
def swiglu(both, out, I, BI: tl.constexpr, PDL: tl.constexpr):
    """out[b, i] = silu(both[b, i]) both[b, I + i]. Grid: (block of i, row)."""
    i = tl.program_id(0) * BI + tl.arange(0, BI)
    b = tl.program_id(1).to(tl.int64)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    g = tl.load(both + b * 2 * I + i, mask=i < I, other=0.0).to(tl.float32)
    u = tl.load(both + b * 2 * I + I + i, mask=i < I, other=0.0).to(tl.float32)
    tl.store(out + b * I + i, g * tl.sigmoid(g) * u, mask=i < I)


@triton.jit
def best_of(narrow, bias, logits, best, N, BN: tl.constexpr, PDL: tl.constexpr):
    """Each block's best logit (biased) and where it is; the logits in float32. Grid: (block, row)."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.program_id(1).to(tl.int64)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    y = tl.load(narrow + b * N + n, mask=n < N, other=float("-inf")).to(tl.float32)
    tl.store(logits + b * N + n, y, mask=n < N)
    y += tl.load(bias + n, mask=n < N, other=0.0)
    top = tl.max(y, 0)
    at = (b * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(best + at, top)
    tl.store(best + at + 1, tl.min(tl.where(y == top, n, N), 0).to(tl.float32))


@triton.jit
def experts_swiglu(
    x, w, shares, out, I, E, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[e, b, i] = share[b, e] silu(g) u for every expert that a row goes to; x[b] normed. Grid: (block of i, e).

    Each expert's weights are read once, whatever the number of rows that go to it.
    """
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    e = tl.program_id(1)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < I
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    share = tl.load(shares + b * E + e, mask=b < B, other=0.0)
    if tl.max(share, 0) > 0:
        gate_at = w + (e.to(tl.int64) * 2 * I + rows[:, None]) * K
        up_at = gate_at + I.to(tl.int64) * K
        g = tl.zeros((BN, M), tl.float32)
        u = tl.zeros((BN, M), tl.float32)
        for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
            k = t * BK + ks
            keep = inside & (k[None, :] < K)
            gt = tl.load(gate_at + k[None, :], mask=keep, other=0.0)
            ut = tl.load(up_at + k[None, :], mask=keep, other=0.0)
            xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
            g = tl.dot(gt, xt, g, input_precision="ieee")
            u = tl.dot(ut, xt, u, input_precision="ieee")
        y = g * tl.sigmoid(g) * u * share[None, :]
        tl.store(out + (e.to(tl.int64) * B + b[None, :]) * I + rows[:, None], y, mask=inside & (b[None, :] < B))


@triton.jit
def experts_down(
    x, w, shares, out, N, E, B,
    I: tl.constexpr, M: tl.constexpr, EACH: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """out[part, b, n] = sum over EACH experts of w[e, n] . x[e, b], without experts that no row goes to.

    Grid: (block of n, part). Parts are added up later in a fixed order, so a step gives the same bits every time.
    """
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    part = tl.program_id(1)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < N
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, M), tl.float32)
    for j in range(EACH):
        e = part * EACH + j
        share = tl.load(shares + b * E + e, mask=b < tl.where(e < E, B, 0), other=0.0)
        if tl.max(share, 0) > 0:
            at = w + (e.to(tl.int64) * N + rows[:, None]) * I
            from_ = x + (e.to(tl.int64) * B + b[None, :]) * I
            for t in tl.range(0, (I + BK - 1) // BK, num_stages=STAGES):
                k = t * BK + ks
                wt = tl.load(at + k[None, :], mask=inside & (k[None, :] < I), other=0.0)
                xt = tl.load(from_ + k[:, None], mask=(b[None, :] < B) & (k[:, None] < I), other=0.0)
                total = tl.dot(wt, xt, total, input_precision="ieee")
    tl.store(out + (part * B + b[None, :]) * N + rows[:, None], total, mask=inside & (b[None, :] < B))


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
    inside = (rows < N)[:, None]
    at = w + tl.where(rows < N, rows, 0)[:, None].to(tl.int64) * K
    EACH: tl.constexpr = ((K + BK - 1) // BK + PARTS - 1) // PARTS
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, EACH, num_stages=STAGES):
        k = (part * EACH + t) * BK + ks
        wt = tl.load(at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        total = tl.dot(wt, xt, total, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + rows, mask=(rows < N) & (part == 0), other=0.0).to(tl.float32)[:, None]
    tl.store(out + (part * B + b[None, :]) * N + rows[:, None], total, mask=inside & (b[None, :] < B))


@triton.jit
def rows_swiglu(
    x, w, out, I, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[b, i] = silu(g) u; g and u are rows i and I + i of w times x[b]. Grid: (block of i,)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    inside = (rows < I)[:, None]
    gate_at = w + tl.where(rows < I, rows, 0)[:, None].to(tl.int64) * K
    up_at = gate_at + I.to(tl.int64) * K
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    g = tl.zeros((BN, M), tl.float32)
    u = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
        k = t * BK + ks
        keep = inside & (k[None, :] < K)
        gt = tl.load(gate_at + k[None, :], mask=keep, other=0.0, eviction_policy="evict_first")
        ut = tl.load(up_at + k[None, :], mask=keep, other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        g = tl.dot(gt, xt, g, input_precision="ieee")
        u = tl.dot(ut, xt, u, input_precision="ieee")
    y = g * tl.sigmoid(g) * u
    tl.store(out + b[None, :] * I + rows[:, None], y, mask=inside & (b[None, :] < B))


@triton.jit
def rows_head(
    x, w, bias, logits, best, N, B,
    K: tl.constexpr, M: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """logits[b, n] in float32 and each program's best (biased): best[b, program] = (value, n). Grid: (block of n,)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.arange(0, M)
    ks = tl.arange(0, BK)
    inside = (rows < N)[:, None]
    at = w + tl.where(rows < N, rows, 0)[:, None].to(tl.int64) * K
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, M), tl.float32)
    for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
        k = t * BK + ks
        wt = tl.load(at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        xt = tl.load(x + b[None, :] * K + k[:, None], mask=(b[None, :] < B) & (k[:, None] < K), other=0.0)
        total = tl.dot(wt, xt, total, input_precision="ieee")
    tl.store(logits + b[None, :].to(tl.int64) * N + rows[:, None], total, mask=inside & (b[None, :] < B))
    y = total + tl.load(bias + rows, mask=rows < N, other=0.0)[:, None]
    y = tl.where(inside, y, float("-inf"))
    top = tl.max(y, 0)
    which = tl.min(tl.where(y == top[None, :], rows[:, None], N), 0)
    to = best + (b * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(to, top, mask=b < B)
    tl.store(to + 1, which.to(tl.float32), mask=b < B)
