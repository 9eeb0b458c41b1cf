"""A rule about shape: totals of one configuration that fall into two heaps, so that no median describes them."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from laptime.audits.dip import MOST, dip, p_value
from laptime.audits.measurements import Measurements
from laptime.audits.ranks import ERROR, poisson_tail
from laptime.audits.result import EXAMPLES, AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent
from laptime.data.stats import Floats

FEWEST = 20
"""With fewer samples of the same work, two heaps can't be distinguished from one."""

APART = 0.03
"""Two heaps nearer than this make no difference that matters."""

SMALLEST_HEAP = 0.1
"""A smaller share is outliers, not a second mode."""

BARS = 40


@dataclass(frozen=True)
class Heaps:
    """Totals of the same work cut in two where that explains most of their variance (on logarithms)."""

    config_id: str | None
    tokens: int | None
    n: int
    p: float  # of the dip
    apart: float  # the upper heap's median over the lower's, less 1
    upper: float  # share of samples in the upper heap
    cut_ms: float


def bimodal(measurements: Measurements) -> RuleOutcome:
    """Two modes within a configuration's samples of the same size of work, by Hartigan's dip."""
    from polars import col

    sizes = ["config_id", "output_tokens", "prompt_tokens", "image_tokens", "crops", "batch"]
    groups = measurements.used.group_by(sizes, maintain_order=True).agg(n=col("row").len(), totals=col("total_ms"))
    groups = groups.filter(col("n") >= FEWEST)
    if groups.is_empty():
        return NotJudged(f"no configuration has {FEWEST} usable samples of the same work")
    judged = [
        _heaps(row["config_id"], row["output_tokens"], np.array(row["totals"])) for row in groups.iter_rows(named=True)
    ]
    two = _significant([h for h in judged if h.apart >= APART and min(h.upper, 1 - h.upper) >= SMALLEST_HEAP], judged)
    if not two:
        return Judged(len(judged))
    strongest = max(two, key=lambda h: h.apart)
    rows = measurements.used.filter(
        col("config_id").eq_missing(strongest.config_id), col("output_tokens").eq_missing(strongest.tokens)
    )
    upper = rows.filter(col("total_ms") > strongest.cut_ms).head(2).to_dicts()
    lower = rows.filter(col("total_ms") <= strongest.cut_ms).head(2).to_dicts()
    examples = [
        f"{measurements.shown_config(h.config_id)}{_tokens(h)}: {percent(h.upper)} of {h.n:,} samples lie "
        f"{percent(h.apart)} higher"
        for h in sorted(two, key=lambda h: -h.apart)[: EXAMPLES - 2]
    ]
    examples += [f"{key_of(row)}: {row['total_ms']:.2f} ms, {name}" for name, row in _one_each(upper, lower)]
    return Judged(
        len(judged),
        AuditFinding(
            code="bimodal",
            severity="warning",
            count=len(two),
            of=len(judged),
            unit="group",
            examples=examples,
            reason=f"In {len(two):,} of {counted(len(judged), 'group')} of the same work (configuration and tokens) "
            f"the totals have two modes (Hartigan's dip, p {_p(min(h.p for h in two))}), "
            f"{percent(strongest.apart)} apart at most: the median falls into one of them by chance, and an "
            "interval around it means little.",
            mend="Find what has two states (clocks, a second process, memory placement, caches) and hold it still",
            picture=_picture(rows["total_ms"].to_numpy(), measurements.shown_config(strongest.config_id)),
        ),
    )


def _significant(candidates: list[Heaps], judged: list[Heaps]) -> list[Heaps]:
    """Those that chance explains badly: each alone by Bonferroni, or more of them together than chance gives."""
    each = ERROR / 2
    usual = ERROR
    together = [h for h in candidates if h.p <= usual]
    if poisson_tail(len(together), usual * len(judged)) <= each:
        return together
    return [h for h in candidates if h.p <= each / len(judged)]


def _heaps(config_id: str | None, tokens: int | None, totals: Floats) -> Heaps:
    logs = _unrounded(np.log(totals))
    if len(logs) > MOST:
        logs = np.random.default_rng(len(logs)).choice(logs, MOST, replace=False)
    x = np.sort(logs)
    n = len(x)
    sums = np.cumsum(x)
    sizes = np.arange(1, n)
    between = sizes * (n - sizes) * (sums[:-1] / sizes - (sums[-1] - sums[:-1]) / (n - sizes)) ** 2
    cut = int(np.argmax(between)) + 1
    return Heaps(
        config_id=config_id,
        tokens=tokens,
        n=len(totals),
        p=p_value(dip(x), n),
        apart=exp(float(np.median(x[cut:]) - np.median(x[:cut]))) - 1,
        upper=(n - cut) / n,
        cut_ms=exp(float(x[cut - 1] + x[cut]) / 2),
    )


def _unrounded(logs: Floats) -> Floats:
    """Values that were rounded, spread over what they were rounded from: steps of a ruler are no modes."""
    distinct = np.unique(logs)
    if len(distinct) > 0.9 * len(logs) or len(distinct) < 2:
        return logs
    step = float(np.min(np.diff(distinct)))
    return logs + np.random.default_rng(len(logs)).uniform(-step / 2, step / 2, len(logs))


def _one_each(upper: list[dict[str, Any]], lower: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [("upper mode", row) for row in upper[:1]] + [("lower mode", row) for row in lower[:1]]


def _tokens(heaps: Heaps) -> str:
    return "" if heaps.tokens is None else f", {counted(heaps.tokens, 'token')}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _picture(totals: Floats, name: str) -> AuditPicture:
    low, high = np.quantile(totals, [0.005, 0.995])
    counts, edges = np.histogram(totals[(totals >= low) & (totals <= high)], bins=BARS)
    return AuditPicture(
        kind="bars",
        title=f"Totals of {name}",
        x="total, ms",
        y="samples",
        points=[AuditPoint(round(float(edge), 3), float(n)) for edge, n in zip(edges[:-1], counts, strict=True)],
    )


RULES = (Rule("bimodal", "one mode in each configuration", ("total_ms",), bimodal),)
