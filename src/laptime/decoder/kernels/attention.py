# mypy: ignore-errors
# ruff: noqa: N803, N806
"""Triton kernel of attention over the cache, for one row and for several. Conventions as in one_row."""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # on another backend nobody asks for PDL
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def fold(a1, a2, k1, k2, v, seen, top, weight, total):
    """One tile of keys and values into a running softmax: (top, weight, total)."""
    score = tl.dot(a1, tl.trans(k1), input_precision="ieee") + tl.dot(a2, tl.trans(k2), input_precision="ieee")
    score = tl.where(seen[None, :], score, -1e30)
    higher = tl.maximum(top, tl.max(score, 1))
    shrink = tl.exp(top - higher)
    e = tl.where(seen[None, :], tl.exp(score - higher[:, None]), 0.0)
    weight = weight * shrink + tl.sum(e, 1)
    total = total * shrink[:, None] + tl.dot(e.to(v.dtype), v, input_precision="ieee")
    return higher, weight, total


@triton.jit
def attend(
    qkv, q_norm, k_norm, cos, sin, keys, values, position, shift, part, part_weight, arrived, out, eps, scale, T,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, D: tl.constexpr, GP: tl.constexpr, S: tl.constexpr, BT: tl.constexpr,
    QK_NORM: tl.constexpr, WIDE: tl.constexpr, MORE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Norm and rotate q and k, write k and v to the cache, attend over it. Grid: (kv head, split, row).

    Split s reads the tiles s, s + S, ... of BT positions. It reads its first tile before the wait, because which tile
    that is doesn't depend on the kernel before. The last split of a head to arrive adds up the parts.

    QK_NORM: 0 none, 1 over a head, 2 over all heads. WIDE: a power of two not below HEADS D.
    MORE: a split may have more than one tile. GP: rows of a group of query heads, padded for the tensor cores.
    """
    h = tl.program_id(0)
    s = tl.program_id(1)
    b = tl.program_id(2)
    G: tl.constexpr = HEADS // KV_HEADS
    HALF: tl.constexpr = D // 2
    WIDTH: tl.constexpr = (HEADS + 2 * KV_HEADS) * D
    g = tl.arange(0, GP)
    d2 = tl.arange(0, HALF)
    d = tl.arange(0, D)
    bt = tl.arange(0, BT)
    base = (b * KV_HEADS + h).to(tl.int64) * T * D
    t = s * BT + bt
    k1 = tl.load(keys + base + t[:, None] * D + d2[None, :])
    k2 = tl.load(keys + base + t[:, None] * D + HALF + d2[None, :])
    v = tl.load(values + base + t[:, None] * D + d[None, :])
    p = tl.load(position + b)
    place = p + tl.load(shift + b)
    c = tl.load(cos + place * HALF + d2)
    sn = tl.load(sin + place * HALF + d2)
    if QK_NORM == 1:
        qn1 = tl.load(q_norm + d2).to(tl.float32)
        qn2 = tl.load(q_norm + HALF + d2).to(tl.float32)
        kn1 = tl.load(k_norm + d2).to(tl.float32)
        kn2 = tl.load(k_norm + HALF + d2).to(tl.float32)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    here = qkv + b * WIDTH
    real = (g < G)[:, None]
    q_at = (h * G + g)[:, None] * D
    if p >= s * BT:
        q1 = tl.load(here + q_at + d2[None, :], mask=real, other=0.0).to(tl.float32)
        q2 = tl.load(here + q_at + HALF + d2[None, :], mask=real, other=0.0).to(tl.float32)
        x1 = tl.load(here + HEADS * D + h * D + d2).to(tl.float32)
        x2 = tl.load(here + HEADS * D + h * D + HALF + d2).to(tl.float32)
        new_v = tl.load(here + (HEADS + KV_HEADS) * D + h * D + d).to(tl.float32)
        if QK_NORM == 1:
            r = tl.rsqrt((tl.sum(q1 * q1, 1) + tl.sum(q2 * q2, 1)) / D + eps)
            q1 = q1 * r[:, None] * qn1[None, :]
            q2 = q2 * r[:, None] * qn2[None, :]
            r1 = tl.rsqrt((tl.sum(x1 * x1, 0) + tl.sum(x2 * x2, 0)) / D + eps)
            x1 = x1 * r1 * kn1
            x2 = x2 * r1 * kn2
        if QK_NORM == 2:
            wide = tl.arange(0, WIDE)
            all_q = tl.load(here + wide, mask=wide < HEADS * D, other=0.0).to(tl.float32)
            all_k = tl.load(here + HEADS * D + wide, mask=wide < KV_HEADS * D, other=0.0).to(tl.float32)
            r = tl.rsqrt(tl.sum(all_q * all_q, 0) / (HEADS * D) + eps)
            q1 = q1 * r * tl.load(q_norm + q_at + d2[None, :], mask=real, other=0.0).to(tl.float32)
            q2 = q2 * r * tl.load(q_norm + q_at + HALF + d2[None, :], mask=real, other=0.0).to(tl.float32)
            r1 = tl.rsqrt(tl.sum(all_k * all_k, 0) / (KV_HEADS * D) + eps)
            x1 = x1 * r1 * tl.load(k_norm + h * D + d2).to(tl.float32)
            x2 = x2 * r1 * tl.load(k_norm + h * D + HALF + d2).to(tl.float32)
        a1 = (q1 * c[None, :] - q2 * sn[None, :]) * scale
        a2 = (q2 * c[None, :] + q1 * sn[None, :]) * scale
        b1 = a1.to(keys.dtype.element_ty)
        b2 = a2.to(keys.dtype.element_ty)
        top = tl.full((GP,), -1e30, tl.float32)
        weight = tl.zeros((GP,), tl.float32)
        total = tl.zeros((GP, D), tl.float32)
        top, weight, total = fold(b1, b2, k1, k2, v, t < p, top, weight, total)
        if MORE:
            for tile in tl.range(s + S, p // BT + 1, S, num_stages=1):
                t = tile * BT + bt
                k1 = tl.load(keys + base + t[:, None] * D + d2[None, :])
                k2 = tl.load(keys + base + t[:, None] * D + HALF + d2[None, :])
                v = tl.load(values + base + t[:, None] * D + d[None, :])
                top, weight, total = fold(b1, b2, k1, k2, v, t < p, top, weight, total)
        if (p // BT) % S == s:  # the new token's own key and value
            y1 = x1 * c - x2 * sn
            y2 = x2 * c + x1 * sn
            tl.store(keys + base + p * D + d2, y1)
            tl.store(keys + base + p * D + HALF + d2, y2)
            tl.store(values + base + p * D + d, new_v)
            score = tl.sum(a1 * y1[None, :], 1) + tl.sum(a2 * y2[None, :], 1)
            higher = tl.maximum(top, score)
            shrink = tl.exp(top - higher)
            e = tl.exp(score - higher)
            weight = weight * shrink + e
            total = total * shrink[:, None] + e[:, None] * new_v[None, :]
            top = higher
        live = tl.minimum(p // BT + 1, S)
        to = out + b * HEADS * D
        if live == 1:
            tl.store(to + q_at + d[None, :], total / weight[:, None], mask=real)
        else:
            group = b * KV_HEADS + h
            at = (group * S + s) * GP
            tl.store(part + (at + g)[:, None] * D + d[None, :], total, mask=real)
            tl.store(part_weight + (at + g) * 2, top, mask=g < G)
            tl.store(part_weight + (at + g) * 2 + 1, weight, mask=g < G)
            tl.debug_barrier()
            before = tl.atomic_add(arrived + group, 1, sem="acq_rel")
            if before == live - 1:
                tl.store(arrived + group, 0)
                si = tl.arange(0, S)
                for j in tl.static_range(G):
                    row = (group * S + si) * GP + j
                    tops = tl.load(part_weight + row * 2, mask=si < live, other=-1e30, cache_modifier=".cg")
                    weights = tl.load(part_weight + row * 2 + 1, mask=si < live, other=0.0, cache_modifier=".cg")
                    parts = tl.load(
                        part + row[:, None] * D + d[None, :], mask=(si < live)[:, None], other=0.0, cache_modifier=".cg"
                    )
                    f = tl.exp(tops - tl.max(tops, 0))
                    tl.store(to + (h * G + j) * D + d, tl.sum(parts * f[:, None], 0) / tl.sum(weights * f, 0))
