"""What a run's samples say together: per stage the median, its interval, the 95th percentile, the share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.columns import has_flag
from laptime.data.record import LEFT_OUT, STAGES, Interval, Sample
from laptime.data.stats import median_interval, quantile

if TYPE_CHECKING:
    import polars


class StageSummary(msgspec.Struct, frozen=True):
    """One stage over the samples that had it, in ms. Shares are of the summed totals and add up to 1."""

    median: Interval
    p95: float
    mean: float
    share: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run in one value. `stages` holds vision, prefill, decode, other, total (decode absent when none ran)."""

    samples: int
    used: int
    left_out: dict[str, int]  # flag -> samples that carry it and were left out
    all_flagged: bool  # nothing was clean: the flagged samples are used but for the warm-up, and this says so
    stages: dict[str, StageSummary]
    ttft_ms: Interval | None
    tpot_ms: Interval | None
    decode_per_token_ms: Interval | None
    itl_p50_ms: float | None
    itl_p95_ms: float | None
    tokens_per_s: float | None
    output_tokens_mean: float | None
    memory_peak_bytes: int | None
    energy_j: Interval | None
    energy_per_token_j: float | None


def usable(samples: Sequence[Sample]) -> tuple[list[Sample], bool]:
    """The samples to summarise, and whether none was clean (then the warm ones, or all but the warm-up's)."""
    clean = [s for s in samples if not LEFT_OUT.intersection(s.flags)]
    if clean:
        return clean, False
    for kept in (
        [s for s in samples if "cold" not in s.flags],
        [s for s in samples if s.repeat >= 0],  # measured before the warm-up was steady, but not the warm-up itself
    ):
        if kept:
            return kept, True
    return list(samples), bool(samples)


def summarise(samples: Sequence[Sample]) -> Summary:
    """Summarise samples of one configuration. Works on none: everything is then empty or None."""
    used, all_flagged = usable(samples)
    kept = {id(s) for s in used}
    left_out = Counter(flag for s in samples if id(s) not in kept for flag in s.flags)
    total_sum = sum(s.stages.total_ms for s in used)
    stages: dict[str, StageSummary] = {}
    for name in (*STAGES, "total"):
        values = [v for s in used if (v := s.stages.stage(name)) is not None]
        if values:
            share = sum(values) / total_sum if total_sum else 0.0
            stages[name] = StageSummary(
                median_interval(values), quantile(values, 0.95), sum(values) / len(values), share
            )
    gaps = [gap for s in used for gap in s.itl_ms or ()]
    energies = [(s.energy_j, s.generated_tokens) for s in used if s.energy_j is not None]
    peaks = [s.memory_peak_bytes for s in used if s.memory_peak_bytes is not None]
    generated = sum(s.generated_tokens for s in used)
    energy_tokens = sum(tokens for _, tokens in energies)
    return Summary(
        samples=len(samples),
        used=len(used),
        left_out=dict(sorted(left_out.items())),
        all_flagged=all_flagged,
        stages=stages,
        ttft_ms=_median([s.ttft_ms for s in used]),
        tpot_ms=_median([s.tpot_ms for s in used if s.tpot_ms is not None]),
        decode_per_token_ms=_median([v for s in used if (v := s.decode_per_token_ms) is not None]),
        itl_p50_ms=quantile(gaps, 0.5) if gaps else None,
        itl_p95_ms=quantile(gaps, 0.95) if gaps else None,
        tokens_per_s=generated / total_sum * 1e3 if total_sum else None,
        output_tokens_mean=sum(s.output_tokens for s in used) / len(used) if used else None,
        memory_peak_bytes=max(peaks) if peaks else None,
        energy_j=_median([joules for joules, _ in energies]),
        energy_per_token_j=sum(j for j, _ in energies) / energy_tokens if energy_tokens else None,
    )


def _median(values: Sequence[float]) -> Interval | None:
    return median_interval(values) if values else None


class ItlBand(msgspec.Struct, frozen=True):
    """Columns of one length: gap before output token `position` (from 2), over the `n` samples that got so far."""

    position: list[int]
    p5: list[float]
    median: list[float]
    p95: list[float]
    n: list[int]


def itl_band(samples: Sequence[Sample]) -> ItlBand | None:
    """The band over the samples measured per token; None when there is none."""
    rows = [sample.itl_ms for sample in samples if sample.itl_ms]
    longest = max(map(len, rows), default=0)
    if longest == 0:
        return None
    columns = [[row[i] for row in rows if len(row) > i] for i in range(longest)]
    return ItlBand(
        position=list(range(2, longest + 2)),
        p5=[quantile(column, 0.05) for column in columns],
        median=[quantile(column, 0.5) for column in columns],
        p95=[quantile(column, 0.95) for column in columns],
        n=[len(column) for column in columns],
    )


def used_rows(frame: polars.DataFrame) -> polars.Series:
    """A mask of the samples to summarise: the clean ones; if there are none the warm ones, or all but the warm-up's."""
    return _used(frame)[0]


def summarise_frame(frame: polars.DataFrame) -> Summary:
    """The same as laptime.data.summary.summarise of the samples. Without the column itl_ms its two figures are None."""
    import polars

    mask, all_flagged = _used(frame)
    used = frame.filter(mask)
    flags = frame.filter(~mask)["flags"].drop_nulls().str.split(",").explode()
    left_out = dict(sorted((str(k), int(n)) for k, n in flags.filter(flags != "").value_counts().iter_rows()))
    total_sum = sum(used["total_ms"].drop_nulls().to_list())
    stages: dict[str, StageSummary] = {}
    for name in (*STAGES, "total"):
        values = _values(used, f"{name}_ms")
        if len(values):
            added = sum(values.tolist())
            share = added / total_sum if total_sum else 0.0
            stages[name] = StageSummary(median_interval(values), quantile(values, 0.95), added / len(values), share)
    gaps = _gaps(used)
    energy = used.filter(polars.col("energy_j").is_not_null())
    generated = int(used["generated_tokens"].sum())
    energy_tokens = int(energy["generated_tokens"].sum())
    outputs = used["output_tokens"].drop_nulls()
    peak = used["memory_peak_bytes"].max()
    return Summary(
        samples=frame.height,
        used=used.height,
        left_out=left_out,
        all_flagged=all_flagged,
        stages=stages,
        ttft_ms=_median_frame_summary(used, "ttft_ms"),
        tpot_ms=_median_frame_summary(used, "tpot_ms"),
        decode_per_token_ms=_median_frame_summary(used, "decode_per_token_ms"),
        itl_p50_ms=quantile(gaps, 0.5) if len(gaps) else None,
        itl_p95_ms=quantile(gaps, 0.95) if len(gaps) else None,
        tokens_per_s=generated / total_sum * 1e3 if total_sum else None,
        output_tokens_mean=int(outputs.sum()) / len(outputs) if len(outputs) else None,
        memory_peak_bytes=peak if isinstance(peak, int) else None,
        energy_j=_median_frame_summary(used, "energy_j"),
        energy_per_token_j=sum(energy["energy_j"].to_list()) / energy_tokens if energy_tokens else None,
    )


def _used(frame: polars.DataFrame) -> tuple[polars.Series, bool]:
    import polars
    from polars import col

    flagged = has_flag(next(iter(LEFT_OUT)))
    for flag in LEFT_OUT:
        flagged = flagged | has_flag(flag)
    masks = frame.select(
        clean=~flagged.fill_null(value=False),
        warm=~has_flag("cold").fill_null(value=False),
        counted=col("repeat").fill_null(0) >= 0,
    )
    if masks["clean"].any():
        return masks["clean"], False
    for name in ("warm", "counted"):
        if masks[name].any():
            return masks[name], True
    return polars.Series([True] * frame.height, dtype=polars.Boolean), frame.height > 0


def _values(frame: polars.DataFrame, column: str) -> npt.NDArray[np.float64]:
    return frame[column].drop_nulls().to_numpy()


def _median_frame_summary(frame: polars.DataFrame, column: str) -> Interval | None:
    values = _values(frame, column)
    return median_interval(values) if len(values) else None


def _gaps(frame: polars.DataFrame) -> npt.NDArray[np.float64]:
    if "itl_ms" not in frame.columns:
        return np.empty(0)
    return frame["itl_ms"].explode().drop_nulls().to_numpy()
