"""Rules about an upper end: a limit that stands where a time should, or a prompt's length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.recording import decimal_step
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of
from laptime.data.columns import STAGE_COLUMNS
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FEWEST = 20
"""Fewer samples have no end that could be told from the rest."""

SEVERAL = 3
"""So many totals at the end, at least."""

NEAR = 0.01
"""Calls that were given up end within so much of one another: a poll, an exception that is caught."""

ABOVE = 2.0
"""Such calls took at least so many times as long as others of the same work."""

UNLIKE = 1.2
"""The work that they should have done differs by this factor: equal work may well take equally long."""

ROUND_S = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 100, 120, 180, 240, 300, 600, 900, 1200, 1800, 3600)
"""Seconds that people set as a limit."""


def timeouts_as_times(measurements: Measurements) -> RuleOutcome:
    """Several of the largest totals that are equal, though the work isn't."""
    from polars import col

    rows = measurements.of(*STAGE_COLUMNS, "ttft_ms").filter(col("total_ms") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"{counted(rows.height, 'sample')}; {FEWEST} are needed")
    totals = rows["total_ms"].to_numpy().astype(np.float64)
    largest = float(totals.max())
    equal = rows.filter(col("total_ms") == largest)
    others = np.unique(totals[totals < largest])
    cut = equal.height >= SEVERAL and len(others) > 0.9 * (rows.height - equal.height) and not _copies(equal)
    bad = equal if cut and decimal_step(totals) is None else _given_up(rows, largest)
    if bad is None:
        return Judged(rows.height)
    low, high = float(bad["total_ms"].min()), float(bad["total_ms"].max())  # type: ignore[arg-type]
    as_wide = "equal" if low == high else f"within {_ms(high - low)} ms"
    return Judged(
        rows.height,
        AuditFinding(
            code="timeouts-as-times",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[f"{key_of(row)}: total {row['total_ms']:,.6g} ms" for row in bad.head(5).to_dicts()],
            reason=f"The {bad.height:,} largest totals are {as_wide}, at {_ms(low)} ms, though what was to be done "
            "differs: a limit probably stands for times that are longer or unknown. Timeouts, values that were cut "
            "off at a percentile, or a code for a missing value would each look so. Means and high percentiles of "
            "these calls mean nothing.",
            mend="Keep such calls as failed or as late (longer than the limit), and out of every mean",
        ),
    )


def _copies(rows: polars.DataFrame) -> bool:
    """Whether these rows are equal in their stages too: copies of one call, not calls with one limit."""
    names = [name for name in ("prefill_ms", "decode_ms", "ttft_ms") if rows[name].null_count() < rows.height]
    return bool(names) and all(rows[name].n_unique() == 1 for name in names)


def _given_up(rows: polars.DataFrame, largest: float) -> polars.DataFrame | None:
    """The calls at the upper end that took as long as one another and much longer than their like."""
    from polars import col

    end = rows.filter(col("total_ms") >= largest * (1 - NEAR))
    below = rows.filter(col("total_ms") < largest * (1 - NEAR))
    if end.height < SEVERAL or end.height > 0.5 * rows.height or below.is_empty():
        return None
    of_input = below.group_by("config_id", "sample_id").agg(same=col("total_ms").median())
    of_config = below.group_by("config_id").agg(like=col("total_ms").median())
    end = end.join(of_input, on=["config_id", "sample_id"], how="left", nulls_equal=True)
    end = end.join(of_config, on="config_id", how="left", nulls_equal=True)
    usual = end.select(col("same").fill_null(col("like"))).to_series().drop_nulls().to_numpy()
    if len(usual) < SEVERAL or float(np.median(largest / usual)) < ABOVE:
        return None
    unlike = float(usual.max() / usual.min()) >= UNLIKE
    return end if unlike or _round(end["total_ms"].to_numpy()) else None


def _round(totals: Floats) -> bool:
    """Whether all lie just above a number of seconds that people set as a limit."""
    low, high = float(totals.min()) / 1e3, float(totals.max()) / 1e3
    return any(limit <= low and high <= limit * (1 + NEAR) for limit in ROUND_S)


def _ms(value: float) -> str:
    return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


CUT, OTHERS = 0.05, 10
"""The share of inputs with one, largest, number of prompt tokens; and how many other numbers there must be."""


def prompts_cut(measurements: Measurements) -> RuleOutcome:
    """Inputs of many sizes, of which many have exactly the largest."""
    from polars import col

    rows = measurements.of("prompt_tokens").filter(col("prompt_tokens") > 0, col("sample_id").is_not_null())
    inputs = rows.unique(["sample_id", "prompt_tokens"], keep="first", maintain_order=True)
    if inputs["sample_id"].n_unique() < OTHERS:
        return NotJudged(f"fewer than {OTHERS} inputs")
    each = inputs.group_by("prompt_tokens").agg(n=col("sample_id").n_unique()).sort("prompt_tokens")
    if each.height <= OTHERS:
        return Judged(inputs.height)
    longest, count = each.row(-1)
    most = int(each.head(-1).select(col("n").max()).item())
    if count < max(4, CUT * inputs["sample_id"].n_unique(), 4 * most):
        return Judged(inputs.height)
    bad = inputs.filter(col("prompt_tokens") == longest)
    return Judged(
        inputs.height,
        AuditFinding(
            code="prompts-cut",
            severity="info",
            count=bad.height,
            of=inputs.height,
            unit="input",
            examples=[f"{key_of(row)}: {row['prompt_tokens']:,} prompt tokens" for row in bad.head(5).to_dicts()],
            reason=f"{counted(bad.height, 'input')} have exactly {longest:,} prompt tokens, no input has more, and "
            f"no other number stands for more than {most:,}: prompts were probably cut at a limit. Their times are "
            "those of the shorter prompt, and their answers too. Prompts that were filled up to one length would look "
            "so as well.",
            mend="Raise the limit, leave such inputs out, or say that prompts are cut",
        ),
    )


RULES = (
    Rule("timeouts-as-times", "no limit where a time should be", ("total_ms",), timeouts_as_times),
    Rule("prompts-cut", "whole prompts", ("prompt_tokens", "sample_id"), prompts_cut),
)
