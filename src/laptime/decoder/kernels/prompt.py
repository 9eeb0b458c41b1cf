# mypy: ignore-errors
# ruff: noqa: E741, N803
"""Triton kernels of prefill: what stands between the large products, and the products of routed experts.

The large products go to cuBLAS, and attention to torch. n counts all B L positions of the bucket; position t of row b
is n = b L + t. What fills a row up (t >= lengths[b]) stays finite and goes to no expert. Conventions as in one_row.
"""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # on another backend nobody asks for PDL
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def embed(ids, picked, table, features, x, K, BK: tl.constexpr, IMAGES: tl.constexpr, PDL: tl.constexpr):
    """x[n] = the token's embedding, or image feature picked[n] - 1. One program a position."""
    n = tl.program_id(0).to(tl.int64)
    ks = tl.arange(0, BK)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    from_ = table + tl.load(ids + n).to(tl.int64) * K
    if IMAGES:
        pick = tl.load(picked + n).to(tl.int64)
        from_ = tl.where(pick > 0, features + (pick - 1) * K, from_)
    tl.store(x + n * K + ks, tl.load(from_ + ks, mask=ks < K, other=0.0).to(tl.float32), mask=ks < K)


@triton.jit
def add_deep(picked, features, x, K, BK: tl.constexpr, PDL: tl.constexpr):
    """x[n] += image feature picked[n] - 1. One program a position."""
    n = tl.program_id(0).to(tl.int64)
    ks = tl.arange(0, BK)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    pick = tl.load(picked + n).to(tl.int64)
    if pick > 0:
        row = tl.load(x + n * K + ks, mask=ks < K, other=0.0)
        row += tl.load(features + (pick - 1) * K + ks, mask=ks < K, other=0.0).to(tl.float32)
        tl.store(x + n * K + ks, row, mask=ks < K)


@triton.jit
def add_parts_and_norm(
    x, added, norm, out, lengths, eps, K, N, L, PARTS: tl.constexpr, BK: tl.constexpr, PDL: tl.constexpr
):  # fmt: skip
    """x[n] += sum of added[part, n], for tokens only; out[n] = x[n] RMS-normed, times norm. One program a position."""
    n = tl.program_id(0).to(tl.int64)
    ks = tl.arange(0, BK)
    weight = tl.load(norm + ks, mask=ks < K, other=0.0).to(tl.float32)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    row = tl.load(x + n * K + ks, mask=ks < K, other=0.0)
    if n % L < tl.load(lengths + n // L):
        for part in tl.static_range(PARTS):
            row += tl.load(added + (part * N + n) * K + ks, mask=ks < K, other=0.0).to(tl.float32)
        tl.store(x + n * K + ks, row, mask=ks < K)
    row = row * tl.rsqrt(tl.sum(row * row, 0) / K + eps) * weight
    tl.store(out + n * K + ks, row, mask=ks < K)


@triton.jit
def _halves(qkv, norm, cos, sin, eps, BEFORE, H, D: tl.constexpr, HP: tl.constexpr, QK_NORM: tl.constexpr):
    """H heads from head BEFORE on, normed and turned: their first and second halves, (HP, D / 2)."""
    h = tl.arange(0, HP)[:, None]
    d = tl.arange(0, D // 2)[None, :]
    keep = h < H
    at = qkv + (BEFORE + h) * D + d
    a = tl.load(at, mask=keep, other=0.0).to(tl.float32)
    b = tl.load(at + D // 2, mask=keep, other=0.0).to(tl.float32)
    if QK_NORM > 0:
        square = tl.sum(a * a + b * b, 1)[:, None]
        if QK_NORM == 1:
            scale = tl.rsqrt(square / D + eps)
            weights = norm + d + 0 * h
        else:
            scale = tl.rsqrt(tl.sum(square, 0)[None, :] / (H * D) + eps)
            weights = norm + h * D + d
        a = a * scale * tl.load(weights, mask=keep, other=0.0).to(tl.float32)
        b = b * scale * tl.load(weights + D // 2, mask=keep, other=0.0).to(tl.float32)
    return a * cos - b * sin, b * cos + a * sin


@triton.jit
def turn_and_store(
    qkv, q_norm, k_norm, cos, sin, q, keys, values, eps, L, T,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, HP: tl.constexpr, KP: tl.constexpr,
    QK_NORM: tl.constexpr, OWN_PLACES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """q[n] = its heads, normed and turned; k and v go into the cache at slot t of row b. One program a position.

    cos, sin: a row for each slot, or for each n where OWN_PLACES. QK_NORM: 0 none, 1 a head, 2 all heads at once.
    """
    n = tl.program_id(0).to(tl.int64)
    b, t = n // L, n % L
    d = tl.arange(0, D // 2)[None, :]
    at = n if OWN_PLACES else t
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    c = tl.load(cos + at * (D // 2) + d)
    s = tl.load(sin + at * (D // 2) + d)
    row = qkv + n * (HEADS + 2 * KV_HEADS) * D
    h = tl.arange(0, HP)[:, None]
    first, second = _halves(row, q_norm, c, s, eps, 0, HEADS, D, HP, QK_NORM)
    to = q + (n * HEADS + h) * D + d
    tl.store(to, first, mask=h < HEADS)
    tl.store(to + D // 2, second, mask=h < HEADS)
    h = tl.arange(0, KP)[:, None]
    first, second = _halves(row, k_norm, c, s, eps, HEADS, KV_HEADS, D, KP, QK_NORM)
    slot = ((b * KV_HEADS + h) * T + t) * D + d
    tl.store(keys + slot, first, mask=h < KV_HEADS)
    tl.store(keys + slot + D // 2, second, mask=h < KV_HEADS)
    from_ = row + (HEADS + KV_HEADS + h) * D + d
    tl.store(values + slot, tl.load(from_, mask=h < KV_HEADS, other=0.0), mask=h < KV_HEADS)
    tl.store(values + slot + D // 2, tl.load(from_ + D // 2, mask=h < KV_HEADS, other=0.0), mask=h < KV_HEADS)


@triton.jit
def choose_experts(
    scores, lengths, chosen, shares, ranks, counts, N, E, L,
    EP: tl.constexpr, BT: tl.constexpr, TOP_K: tl.constexpr, NORMALISED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The TOP_K best experts of each token and their shares, [j, n]; what fills a row up gets none (-1).

    ranks[j, n]: which of its expert's tokens it is. counts[e]: how many tokens expert e has. One program for BT tokens.
    """
    n = tl.program_id(0) * BT + tl.arange(0, BT)
    e = tl.arange(0, EP)[None, :]
    inside = n < N
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    alive = inside & (n % L < tl.load(lengths + n // L, mask=inside, other=0))
    y = tl.load(scores + n[:, None] * E + e, mask=inside[:, None] & (e < E), other=float("-inf")).to(tl.float32)
    y = tl.where(inside[:, None], y, 0.0)
    top = tl.max(y, 1)
    p = tl.exp(y - top[:, None])
    whole = tl.sum(p, 1)
    if NORMALISED:
        left, whole = p, tl.zeros_like(whole)
        for _ in tl.static_range(TOP_K):
            best = tl.max(left, 1)
            which = tl.min(tl.where(left == best[:, None], e, EP), 1)
            whole += best
            left = tl.where(e == which[:, None], -1.0, left)
    for j in tl.static_range(TOP_K):
        best = tl.max(p, 1)
        which = tl.min(tl.where(p == best[:, None], e, EP), 1)
        rank = tl.atomic_add(counts + which, 1, mask=alive)
        tl.store(chosen + j * N + n, tl.where(alive, which, -1), mask=inside)
        tl.store(shares + j * N + n, best / whole, mask=inside)
        tl.store(ranks + j * N + n, rank, mask=inside)
        p = tl.where(e == which[:, None], -1.0, p)


@triton.jit
def sort_by_expert(
    chosen, ranks, counts, order, COUNT, E, EP: tl.constexpr, BM: tl.constexpr, BT: tl.constexpr, PDL: tl.constexpr
):  # fmt: skip
    """order[place] = j N + n, the experts' tokens one behind the other, each expert from a multiple of BM on."""
    i = tl.program_id(0) * BT + tl.arange(0, BT)
    e = tl.arange(0, EP)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    mine = tl.load(chosen + i, mask=i < COUNT, other=-1)
    tiles = (tl.load(counts + e, mask=e < E, other=0) + BM - 1) // BM
    start = tl.sum(tl.where(e[None, :] < mine[:, None], tiles[None, :], 0), 1) * BM
    tl.store(order + start + tl.load(ranks + i, mask=i < COUNT, other=0), i, mask=(i < COUNT) & (mine >= 0))


@triton.jit
def _tile(counts, tile, E, EP: tl.constexpr, BM: tl.constexpr):
    """The expert of a tile, and how many of the tile's rows are tokens (none behind the last tile)."""
    e = tl.arange(0, EP)
    count = tl.load(counts + e, mask=e < E, other=0)
    tiles = (count + BM - 1) // BM
    ends = tl.cumsum(tiles, 0)
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    mine = e == expert
    before = tl.sum(tl.where(mine, ends - tiles, 0), 0)
    return expert, tl.sum(tl.where(mine, count, 0), 0) - (tile - before) * BM


@triton.jit
def experts_swiglu_of(
    x, w, counts, order, out, I, E, N,
    K: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """out[place] = silu(g) u of the place's token by its expert. Grid: (block of I, tile of BM places)."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    tile = tl.program_id(1)
    expert, rows = _tile(counts, tile, E, EP, BM)
    if rows > 0:
        m = tl.arange(0, BM)
        ks = tl.arange(0, BK)
        i = tl.program_id(0) * BN + tl.arange(0, BN)
        n = tl.load(order + tile * BM + m, mask=m < rows, other=0) % N
        x_at = x + n[:, None].to(tl.int64) * K + ks[None, :]
        gate_at = w + (expert.to(tl.int64) * 2 * I + tl.where(i < I, i, 0)[None, :]) * K + ks[:, None]
        up_at = gate_at + I.to(tl.int64) * K
        g = tl.zeros((BM, BN), tl.float32)
        u = tl.zeros((BM, BN), tl.float32)
        for t in tl.range(0, (K + BK - 1) // BK, num_stages=STAGES):
            if K % BK == 0:
                xt = tl.load(x_at + t * BK)
                gt = tl.load(gate_at + t * BK)
                ut = tl.load(up_at + t * BK)
            else:
                left = K - t * BK
                xt = tl.load(x_at + t * BK, mask=ks[None, :] < left, other=0.0)
                gt = tl.load(gate_at + t * BK, mask=ks[:, None] < left, other=0.0)
                ut = tl.load(up_at + t * BK, mask=ks[:, None] < left, other=0.0)
            g = tl.dot(xt, gt, g, input_precision="ieee")
            u = tl.dot(xt, ut, u, input_precision="ieee")
        y = g * tl.sigmoid(g) * u
        place = (tile * BM + m)[:, None].to(tl.int64)
        tl.store(out + place * I + i[None, :], y, mask=(m < rows)[:, None] & (i < I)[None, :])


@triton.jit
def experts_down_of(
    x, w, counts, order, shares, out, H, E,
    I: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """out[j, n] = share times w[expert] x[place]. Grid: (block of H, tile of BM places)."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    tile = tl.program_id(1)
    expert, rows = _tile(counts, tile, E, EP, BM)
    if rows > 0:
        m = tl.arange(0, BM)
        ks = tl.arange(0, BK)
        h = tl.program_id(0) * BN + tl.arange(0, BN)
        entry = tl.load(order + tile * BM + m, mask=m < rows, other=0)
        share = tl.load(shares + entry, mask=m < rows, other=0.0)
        x_at = x + (tile * BM + m)[:, None].to(tl.int64) * I + ks[None, :]
        w_at = w + (expert.to(tl.int64) * H + tl.where(h < H, h, 0)[None, :]) * I + ks[:, None]
        y = tl.zeros((BM, BN), tl.float32)
        for t in tl.range(0, (I + BK - 1) // BK, num_stages=STAGES):
            if I % BK == 0:
                xt = tl.load(x_at + t * BK, mask=(m < rows)[:, None], other=0.0)
                wt = tl.load(w_at + t * BK)
            else:
                left = I - t * BK
                xt = tl.load(x_at + t * BK, mask=(m < rows)[:, None] & (ks[None, :] < left), other=0.0)
                wt = tl.load(w_at + t * BK, mask=ks[:, None] < left, other=0.0)
            y = tl.dot(xt, wt, y, input_precision="ieee")
        to = out + entry[:, None].to(tl.int64) * H + h[None, :]
        tl.store(to, y * share[:, None], mask=(m < rows)[:, None] & (h < H)[None, :])
