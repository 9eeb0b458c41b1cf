# mypy: ignore-errors
# ruff: noqa: E741, N803, N806, RUF005
"""Triton kernels of a decode step of one row: matrix times vector, each weight read once.

Conventions of all kernels here. The residual stream and the logits are float32, other activations have the weights'
dtype, sums are float32. Weights are (N, K), row-major. PDL (programmatic dependent launch) lets launches overlap: a
kernel reads its first tiles of weights or cache before it waits for the kernel before it. It lets the next kernel start
only after that wait. So while tiles are read, all kernels but the one before it are complete.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # on another backend nobody asks for PDL
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def row_times_matrix(
    x, w, out, residual, norm, bias, eps, N,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, AHEAD: tl.constexpr,
    NORM: tl.constexpr, RESIDUAL: tl.constexpr, BIAS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[n] = sum_k w[n, k] x[k], x RMS-normed, + bias[n], + residual[n]. The norm's factor is taken after the sum."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < N
    at = w + tl.where(rows < N, rows, 0)[:, None].to(tl.int64) * K
    TILES: tl.constexpr = (K + BK - 1) // BK
    ahead = ()
    for t in tl.static_range(AHEAD):
        k = t * BK + ks
        ahead = ahead + (
            tl.load(at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first"),
        )
    norms = ()
    if NORM:
        for t in tl.static_range(TILES):
            k = t * BK + ks
            norms = norms + (tl.load(norm + k, mask=k < K, other=0.0),)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for t in tl.static_range(TILES):
        k = t * BK + ks
        xt = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
        if NORM:
            squares += xt * xt
            xt = xt * norms[t].to(tl.float32)
        if t < AHEAD:
            wt = ahead[t]
        else:
            wt = tl.load(at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        total += wt.to(tl.float32) * xt[None, :]
    y = tl.sum(total, 1)
    if NORM:
        y = y * tl.rsqrt(tl.sum(squares, 0) / K + eps)
    if BIAS:
        y += tl.load(bias + rows, mask=rows < N, other=0.0).to(tl.float32)
    if RESIDUAL:
        y += tl.load(residual + rows, mask=rows < N, other=0.0).to(tl.float32)
    tl.store(out + rows, y, mask=rows < N)


@triton.jit
def row_swiglu(
    x, w, out, norm, eps, I,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, AHEAD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[i] = silu(g) u; g and u are rows i and I + i of w times x, RMS-normed."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < I
    gate_at = w + rows[:, None].to(tl.int64) * K
    up_at = w + (rows + I)[:, None].to(tl.int64) * K
    TILES: tl.constexpr = (K + BK - 1) // BK
    gates = ()
    ups = ()
    for t in tl.static_range(AHEAD):
        k = (t * BK + ks)[None, :]
        gates = gates + (tl.load(gate_at + k, mask=inside & (k < K), other=0.0, eviction_policy="evict_first"),)
        ups = ups + (tl.load(up_at + k, mask=inside & (k < K), other=0.0, eviction_policy="evict_first"),)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    g = tl.zeros((BN, BK), tl.float32)
    u = tl.zeros((BN, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for t in tl.static_range(TILES):
        k = t * BK + ks
        xt = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
        squares += xt * xt
        xt = xt * tl.load(norm + k, mask=k < K, other=0.0).to(tl.float32)
        if t < AHEAD:
            gt = gates[t]
            ut = ups[t]
        else:
            gt = tl.load(gate_at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
            ut = tl.load(up_at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        g += gt.to(tl.float32) * xt[None, :]
        u += ut.to(tl.float32) * xt[None, :]
    factor = tl.rsqrt(tl.sum(squares, 0) / K + eps)
    gs = tl.sum(g, 1) * factor
    us = tl.sum(u, 1) * factor
    tl.store(out + rows, gs * tl.sigmoid(gs) * us, mask=rows < I)


@triton.jit
def row_head(
    x, w, norm, bias, eps, logits, best, N,
    K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, AHEAD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """logits[n] and, for each program, its best logit (biased) and where that is: best[program] = (value, n)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < N
    at = w + rows[:, None].to(tl.int64) * K
    TILES: tl.constexpr = (K + BK - 1) // BK
    ahead = ()
    for t in tl.static_range(AHEAD):
        k = (t * BK + ks)[None, :]
        ahead = ahead + (tl.load(at + k, mask=inside & (k < K), other=0.0, eviction_policy="evict_first"),)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for t in tl.static_range(TILES):
        k = t * BK + ks
        xt = tl.load(x + k, mask=k < K, other=0.0).to(tl.float32)
        squares += xt * xt
        xt = xt * tl.load(norm + k, mask=k < K, other=0.0).to(tl.float32)
        if t < AHEAD:
            wt = ahead[t]
        else:
            wt = tl.load(at + k[None, :], mask=inside & (k[None, :] < K), other=0.0, eviction_policy="evict_first")
        total += wt.to(tl.float32) * xt[None, :]
    y = tl.sum(total, 1) * tl.rsqrt(tl.sum(squares, 0) / K + eps)
    tl.store(logits + rows, y, mask=rows < N)
    y = tl.where(rows < N, y + tl.load(bias + rows, mask=rows < N, other=0.0), float("-inf"))
    top = tl.max(y, 0)
    where = tl.min(tl.where(y == top, rows, N), 0)
    tl.store(best + tl.program_id(0) * 2, top)
    tl.store(best + tl.program_id(0) * 2 + 1, where.to(tl.float32))


@triton.jit
def expert_swiglu(
    x, w, norm, eps, chosen, out, I,
    K: tl.constexpr, TOP_K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[pair, i] for each pair of a row and one of its experts, as row_swiglu. Grid: (block of i, pair)."""
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    pair = tl.program_id(1)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < I
    row = x + (pair // TOP_K) * K
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    expert = w + tl.load(chosen + pair).to(tl.int64) * 2 * I * K
    gate_at = expert + rows[:, None].to(tl.int64) * K
    up_at = expert + (rows + I)[:, None].to(tl.int64) * K
    g = tl.zeros((BN, BK), tl.float32)
    u = tl.zeros((BN, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for t in tl.static_range((K + BK - 1) // BK):
        k = t * BK + ks
        keep = inside & (k[None, :] < K)
        gt = tl.load(gate_at + k[None, :], mask=keep, other=0.0)
        ut = tl.load(up_at + k[None, :], mask=keep, other=0.0)
        xt = tl.load(row + k, mask=k < K, other=0.0).to(tl.float32)
        squares += xt * xt
        xt = xt * tl.load(norm + k, mask=k < K, other=0.0).to(tl.float32)
        g += gt.to(tl.float32) * xt[None, :]
        u += ut.to(tl.float32) * xt[None, :]
    factor = tl.rsqrt(tl.sum(squares, 0) / K + eps)
    gs = tl.sum(g, 1) * factor
    us = tl.sum(u, 1) * factor
    tl.store(out + pair * I + rows, gs * tl.sigmoid(gs) * us, mask=rows < I)


@triton.jit
def expert_down(
    x, w, chosen, shares, residual, out, N, E,
    I: tl.constexpr, TOP_K: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out[b, n] = residual[b, n] + sum over the row's experts of share * (w[expert, n] . x[pair]).

    Grid: (block of n, row).
    """
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    b = tl.program_id(1)
    ks = tl.arange(0, BK)
    inside = rows[:, None] < N
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BN, BK), tl.float32)
    for j in tl.static_range(TOP_K):
        pair = b * TOP_K + j
        which = tl.load(chosen + pair)
        expert = w + which.to(tl.int64) * N * I
        share = tl.load(shares + b * E + which)
        for t in tl.static_range((I + BK - 1) // BK):
            k = t * BK + ks
            keep = inside & (k[None, :] < I)
            wt = tl.load(expert + rows[:, None].to(tl.int64) * I + k[None, :], mask=keep, other=0.0)
            xt = tl.load(x + pair * I + k, mask=k < I, other=0.0).to(tl.float32)
            total += wt.to(tl.float32) * (xt * share)[None, :]
    y = tl.sum(total, 1) + tl.load(residual + b * N + rows, mask=rows < N, other=0.0)
    tl.store(out + b * N + rows, y, mask=rows < N)
