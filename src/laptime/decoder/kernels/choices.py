# mypy: ignore-errors
# ruff: noqa: N803
"""Triton kernels that choose: the experts of each row, and each row's next token. Conventions as in one_row."""

from __future__ import annotations

import triton
import triton.language as tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # on another backend nobody asks for PDL
    gdc_launch_dependents = gdc_wait = None


@triton.jit
def route(
    x, w, norm, eps, scores, chosen, shares, arrived, E,
    K: tl.constexpr, EP: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr, TOP_K: tl.constexpr,
    NORMALISED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Each row's TOP_K experts, best first, and shares[b, e]: the expert's share, 0 if it is not among them.

    Grid: (block of BE experts, row). The last block of a row to finish chooses.
    """
    rows = tl.program_id(0) * BE + tl.arange(0, BE)
    b = tl.program_id(1)
    ks = tl.arange(0, BK)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    total = tl.zeros((BE, BK), tl.float32)
    squares = tl.zeros((BK,), tl.float32)
    for t in tl.static_range((K + BK - 1) // BK):
        k = t * BK + ks
        xt = tl.load(x + b * K + k, mask=k < K, other=0.0).to(tl.float32)
        squares += xt * xt
        xt = xt * tl.load(norm + k, mask=k < K, other=0.0).to(tl.float32)
        keep = (rows[:, None] < E) & (k[None, :] < K)
        total += tl.load(w + rows[:, None] * K + k[None, :], mask=keep, other=0.0).to(tl.float32) * xt[None, :]
    y = tl.sum(total, 1) * tl.rsqrt(tl.sum(squares, 0) / K + eps)
    tl.store(scores + b * E + rows, y, mask=rows < E)
    tl.debug_barrier()
    before = tl.atomic_add(arrived + b, 1, sem="acq_rel")
    if before == tl.num_programs(0) - 1:
        tl.store(arrived + b, 0)
        e = tl.arange(0, EP)
        score = tl.load(scores + b * E + e, mask=e < E, other=-1e30, cache_modifier=".cg")
        top = tl.max(score, 0)
        chance = tl.where(e < E, tl.exp(score - top), 0.0)
        chance = chance / tl.sum(chance, 0)
        left = tl.where(e < E, chance, -1.0)
        picked = tl.zeros((EP,), tl.float32)
        for j in tl.static_range(TOP_K):
            most = tl.max(left, 0)
            which = tl.min(tl.where(left == most, e, EP), 0)
            tl.store(chosen + b * TOP_K + j, which)
            picked = tl.where(e == which, chance, picked)
            left = tl.where(e == which, -1.0, left)
        if NORMALISED:
            picked = picked / tl.sum(picked, 0)
        tl.store(shares + b * E + e, picked, mask=e < E)


@triton.jit
def take_best(
    best, embedding, x, token, position, begin, ended, ids, eos, pad, PROGRAMS, K, T,
    BB: tl.constexpr, BK: tl.constexpr, EOS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Take each row's best token of all programs: write it, check it for EOS, embed it. One program for each row."""
    b = tl.program_id(0)
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
    top = float("-inf")
    which = 2.0e9
    for at in range(0, PROGRAMS, BB):
        r = at + tl.arange(0, BB)
        value = tl.load(best + (b * PROGRAMS + r) * 2, mask=r < PROGRAMS, other=float("-inf"))
        n = tl.load(best + (b * PROGRAMS + r) * 2 + 1, mask=r < PROGRAMS, other=2.0e9)
        block = tl.max(value, 0)
        first = tl.min(tl.where(value == block, n, 2.0e9), 0)
        which = tl.where(block > top, first, which)
        top = tl.maximum(top, block)
    over = tl.load(ended + b)
    new = tl.where(over > 0, tl.load(pad), which.to(tl.int32))
    p = tl.load(position + b) + 1
    tl.store(position + b, p)
    tl.store(ids + b * T + p - tl.load(begin + b), new)
    tl.store(token + b, new)
    ends = tl.load(eos + tl.arange(0, EOS))
    tl.store(ended + b, tl.maximum(over, tl.max((ends == new).to(tl.int32), 0)))
    k = tl.arange(0, BK)
    row = tl.load(embedding + new.to(tl.int64) * K + k, mask=k < K, other=0.0)
    tl.store(x + b * K + k, row, mask=k < K)
