"""A run's summary from its frame: the numbers of laptime.data.summary.summarise, for a million samples too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from laptime.data.record import LEFT_OUT, STAGES, Interval
from laptime.data.sample_columns import has_flag
from laptime.data.stats import median_interval, quantile
from laptime.data.summary import StageSummary, Summary

if TYPE_CHECKING:
    import polars


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
        ttft_ms=_median(used, "ttft_ms"),
        tpot_ms=_median(used, "tpot_ms"),
        decode_per_token_ms=_median(used, "decode_per_token_ms"),
        itl_p50_ms=quantile(gaps, 0.5) if len(gaps) else None,
        itl_p95_ms=quantile(gaps, 0.95) if len(gaps) else None,
        tokens_per_s=generated / total_sum * 1e3 if total_sum else None,
        output_tokens_mean=int(outputs.sum()) / len(outputs) if len(outputs) else None,
        memory_peak_bytes=peak if isinstance(peak, int) else None,
        energy_j=_median(used, "energy_j"),
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


def _median(frame: polars.DataFrame, column: str) -> Interval | None:
    values = _values(frame, column)
    return median_interval(values) if len(values) else None


def _gaps(frame: polars.DataFrame) -> npt.NDArray[np.float64]:
    if "itl_ms" not in frame.columns:
        return np.empty(0)
    return frame["itl_ms"].explode().drop_nulls().to_numpy()
