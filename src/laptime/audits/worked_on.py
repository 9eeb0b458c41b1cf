"""Rules about times that were worked on after they were measured: smoothed, or kept in half the digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, key_of, percent
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    pass

FEWEST = 40
LEAST_KEPT, MOST_KEPT = 0.3, 0.99
"""What of the time before is in each: below, noise may do it; a progress bar keeps 0.7, others up to 0.99."""
CLOSE, APART = 0.95, 0.75
"""With the time before, the answer's length explains nearly all; without it, far less."""

DISTINCT, FRACTIONS = 20, 0.25
FORMATS = {"bfloat16": 8, "half precision (float16)": 11}
"""How many binary digits of a number each keeps."""


def smoothed_times(measurements: Measurements) -> RuleOutcome:
    """Times that are a part of the one before, and only the rest of their own."""
    from polars import col

    name = "decode_ms" if measurements.has("decode_ms") else "total_ms"
    rows = measurements.of(name, "output_tokens").filter(col(name) > 0, col("output_tokens") >= 1)
    steps = rows["output_tokens"].to_numpy().astype(np.float64) - 1
    times = rows[name].to_numpy().astype(np.float64)
    if len(rows) < FEWEST or steps.std() < 0.2 * max(steps.mean(), 1.0):
        return NotJudged(f"fewer than {FEWEST} answers of different lengths")
    alone, _ = _fitted(times[1:], steps[1:, None])
    both, kept = _fitted(times[1:], np.column_stack([times[:-1], steps[1:]]))
    if not (alone <= APART and both >= CLOSE and LEAST_KEPT <= kept <= MOST_KEPT):
        return Judged(rows.height)
    stage = name.removesuffix("_ms")
    return Judged(
        rows.height,
        AuditFinding(
            code="smoothed-times",
            severity="severe",
            count=rows.height,
            of=rows.height,
            examples=[f"{key_of(row)}: {stage} {row[name]:.4g} ms, {row['output_tokens']} tokens"
                      for row in rows.head(5).to_dicts()],
            reason=f"Each {stage} holds about {percent(round(kept, 2))} of the {stage} in the row before: the answer's "
            f"length alone explains {percent(round(max(alone, 0.0), 2))} of how {stage} varies, with the row before "
            f"{percent(round(both, 2))}. Times from a progress bar or a dashboard, which show a moving average, look "
            "so. Rows that were joined with the wrong ones could, if their lengths follow each other likewise.",
            mend="Store what each call took, and smooth it only to show it",
        ),
    )  # fmt: skip


def _fitted(times: Floats, columns: Floats) -> tuple[float, float]:
    """The share of the variance that the columns explain, and the first one's coefficient."""
    design = np.column_stack([columns, np.ones(len(times))])
    found, *_ = np.linalg.lstsq(design, times, rcond=None)
    left = times - design @ found
    spread = float(times.var())
    return (1 - float(left.var()) / spread if spread > 0 else 0.0), float(found[0])


def half_precision(measurements: Measurements) -> RuleOutcome:
    """Totals of which only the first 8 or 11 binary digits are there."""
    from polars import col

    rows = measurements.of("total_ms").filter(col("total_ms") > 0)
    totals = rows["total_ms"].to_numpy().astype(np.float64)
    if len(np.unique(totals)) < DISTINCT:
        return NotJudged(f"fewer than {DISTINCT} different totals")
    kept = [(words, digits) for words, digits in FORMATS.items() if _keeps(totals, digits)]
    if not kept:
        return Judged(rows.height)
    words, digits = kept[0]
    step = 2.0 ** (1 - digits)
    return Judged(
        rows.height,
        AuditFinding(
            code="half-precision",
            severity="warning",
            count=rows.height,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:.6g} ms" for row in rows.head(5).to_dicts()],
            reason=f"No total has more than {digits} binary digits: the times went through {words}, and neighbouring "
            f"values are up to {percent(step)} apart. Sums of stages, and differences of that size, mean nothing.",
            mend="Keep times in float64 (or float32); a tensor of the model's dtype is no place for them",
        ),
    )


def _keeps(totals: Floats, digits: int) -> bool:
    """Whether all values have so few binary digits, and are no whole multiples of what the largest one's step is."""
    mantissas, exponents = np.frexp(totals)
    if np.any(mantissas * 2.0**digits % 1 != 0):
        return False
    step = 2.0 ** (float(exponents.max()) - digits)
    return float(np.mean(totals / step % 1 != 0)) >= FRACTIONS


RULES = (
    Rule("smoothed-times", "times of one call each", ("total_ms", "output_tokens"), smoothed_times),
    Rule("half-precision", "times with all their digits", ("total_ms",), half_precision),
)
