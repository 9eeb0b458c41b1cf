"""A rule about where a clock was read: stages that hold the launches of their work, and not the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, decimals, key_of, percent
from laptime.data.stats import Floats

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FEWEST_SIZES = 3
"""Sizes of the prompt from which growth is known."""

RANGE = 2.5
"""The largest size is so many times the smallest one, at least: work over less could be flat."""

FEWEST = 3
"""Samples of a size, for its median."""

FLAT = 0.1
"""Vision and prefill grow with a smaller power of the size: as launches do, which are as many for every size."""

LARGE = 0.5
"""What grows elsewhere instead, at least, as a share of vision and prefill themselves."""

SHARE = 0.03
"""And as a share of the call: less would be preparation."""

ERRORS = 4
"""A growth that is less than so many of its standard errors is noise."""


@dataclass(frozen=True)
class Growth:
    """What grows by how many milliseconds from the smallest to the largest size, with its standard error."""

    what: str
    ms: float
    error_ms: float


def launches_timed(measurements: Measurements) -> RuleOutcome:
    """Vision and prefill that don't grow with the prompt, while what comes after them does."""
    from polars import col

    size = col("prompt_tokens").fill_null(0) * col("batch").fill_null(1)
    rows = measurements.used.with_columns(size=size, encode=col("vision_ms").fill_null(0.0) + col("prefill_ms"))
    rows = rows.filter(col("size") > 0, col("encode") > 0, col("queue_ms").is_null())
    by_size = (
        rows.group_by("size")
        .agg(n=col("row").len(), encode=col("encode").median(), total=col("total_ms").median())
        .filter(col("n") >= FEWEST)
        .sort("size")
    )
    sizes = by_size["size"].to_numpy().astype(np.float64)
    if len(sizes) < FEWEST_SIZES or sizes[-1] < RANGE * sizes[0]:
        return NotJudged(
            f"fewer than {FEWEST_SIZES} sizes of prompts with {FEWEST} samples, or sizes within a factor of {RANGE}"
        )
    encode = by_size["encode"].to_numpy()
    power = float(np.polyfit(np.log(sizes), np.log(encode), 1)[0])
    grown = _elsewhere(rows, sizes) if power < FLAT else []
    least = max(LARGE * float(np.median(encode)), SHARE * float(np.median(by_size["total"].to_numpy())))
    most = max(grown, key=lambda one: one.ms, default=None)
    if most is None or most.ms < least or most.ms < ERRORS * most.error_ms:
        return Judged(rows.height)
    ends = [rows.filter(col("size") == edge).head(2).to_dicts() for edge in (sizes[0], sizes[-1])]
    return Judged(
        rows.height,
        AuditFinding(
            code="launches-timed",
            severity="warning",
            count=rows.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['size']:,} prompt tokens, vision and prefill {row['encode']:.2f} ms, "
                f"{most.what} {row[f'{most.what}_ms'] or 0.0:.2f} ms"
                for part in ends
                for row in part
            ],
            reason=f"From {sizes[0]:,.0f} to {sizes[-1]:,.0f} prompt tokens vision and prefill stay at "
            f"{float(np.median(encode)):.3g} ms (power {decimals(power)} of the size), while {most.what} grows by "
            f"{most.ms:.3g} ms ({percent(most.ms / float(np.median(encode)))} of them): the clock was probably read "
            "when the work had been launched, and the host waited for it later. A prefill that is bound by its "
            "launches, beside preparation of larger inputs in the same call, would look so too.",
            mend="Time the device: events on its stream, or a synchronize before the clock is read (laptime profile)",
            picture=_picture(sizes, encode),
        ),
    )


def _elsewhere(rows: polars.DataFrame, sizes: Floats) -> list[Growth]:
    """How `other` grows with the size, and how decode does that doesn't grow with its steps."""
    from polars import col

    found = []
    rest = rows.with_columns(
        left=col("other_ms").fill_null(col("total_ms") - col("encode") - col("decode_ms").fill_null(0.0))
    )
    ends = [rest.filter(col("size") == edge)["left"].drop_nulls().to_numpy() for edge in (sizes[0], sizes[-1])]
    if all(len(end) >= FEWEST for end in ends):
        low, high = ends
        error = float(np.hypot(low.std() / len(low) ** 0.5, high.std() / len(high) ** 0.5))
        found.append(Growth("other", float(np.median(high) - np.median(low)), error))
    starts = [_start(rows.filter(col("size") == edge)) for edge in (sizes[0], sizes[-1])]
    if starts[0] is not None and starts[1] is not None:
        (low_ms, low_error), (high_ms, high_error) = starts[0], starts[1]
        found.append(Growth("decode", high_ms - low_ms, float(np.hypot(low_error, high_error))))
    return found


def _start(rows: polars.DataFrame) -> tuple[float, float] | None:
    """What decode takes before its steps (the line through decode by steps, at 0), and its standard error."""
    from polars import col

    known = rows.filter(col("decode_ms") > 0, col("output_tokens") >= 2)
    steps = known["output_tokens"].to_numpy().astype(np.float64) - 1
    decode = known["decode_ms"].to_numpy()
    if len(steps) < 3 * FEWEST or len(np.unique(steps)) < FEWEST:
        return None
    weight = 1 / decode  # times err in proportion
    design = np.column_stack([np.ones_like(steps), steps]) * weight[:, None]
    found, *_ = np.linalg.lstsq(design, decode * weight, rcond=None)
    left = decode * weight - design @ found
    covariance = np.linalg.pinv(design.T @ design) * float(left @ left) / (len(steps) - 2)
    return float(found[0]), float(np.sqrt(covariance[0, 0]))


def _picture(sizes: Floats, encode: Floats) -> AuditPicture:
    return AuditPicture(
        kind="points",
        title="Vision and prefill by the size of the prompt",
        x="prompt tokens",
        y="ms",
        points=[AuditPoint(float(size), round(float(ms), 3)) for size, ms in zip(sizes, encode, strict=True)],
    )


RULES = (
    Rule(
        "launches-timed",
        "vision and prefill grow with their work",
        ("prefill_ms", "prompt_tokens", "total_ms"),
        launches_timed,
    ),
)
