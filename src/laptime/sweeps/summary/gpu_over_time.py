"""The GPU's clock, temperature and power over the run, beside the drift that they may explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from laptime.data.usable import warm_up_rows
from laptime.sweeps.summary.result import Drift

if TYPE_CHECKING:
    import polars


class GpuOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """The GPU in each stretch of the drift: medians of what it reported, and the share of throttled calls."""

    sm_mhz: list[float | None]
    temperature_c: list[float | None]
    power_w: list[float | None]
    throttled: list[float | None]


def gpu_over_time(frame: polars.DataFrame, drift: Drift | None) -> GpuOverTime | None:
    """The GPU's state in each stretch of the drift; None when the frame has none.

    frame: one row for each sample, with `started_unix_ms` and `gpu_*` columns. Stretches count from the first call that
    is no warm-up.
    """
    import polars as pl

    columns = {"gpu_sm_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_throttle"} & set(frame.columns)
    if drift is None or not drift.points or not columns or "started_unix_ms" not in frame.columns:
        return None
    frame = frame.filter(~warm_up_rows(frame))
    starts = pl.Series([point.start_s for point in drift.points], dtype=pl.Float64)
    seconds = (frame["started_unix_ms"] - frame["started_unix_ms"].min()) / 1e3
    stretch = starts.search_sorted(seconds, side="right").cast(pl.Int64) - 1
    asked: dict[str, pl.Expr] = {
        "gpu_sm_mhz": pl.col("gpu_sm_mhz").median(),
        "gpu_temperature_c": pl.col("gpu_temperature_c").median(),
        "gpu_power_w": pl.col("gpu_power_w").median(),
        "gpu_throttle": (pl.col("gpu_throttle").fill_null("") != "").mean(),
    }
    table = (
        frame.select(sorted(columns))
        .with_columns(stretch.alias("stretch"))
        .group_by("stretch")
        .agg([asked[name] for name in sorted(columns)])
    )
    at: Mapping[int, dict[str, float | None]] = {row["stretch"]: row for row in table.iter_rows(named=True)}

    def column(name: str) -> list[float | None]:
        return [at.get(i, {}).get(name) for i in range(len(drift.points))]

    state = GpuOverTime(
        sm_mhz=column("gpu_sm_mhz"),
        temperature_c=column("gpu_temperature_c"),
        power_w=column("gpu_power_w"),
        throttled=column("gpu_throttle"),
    )
    values = [*state.sm_mhz, *state.temperature_c, *state.power_w]
    return state if any(value is not None for value in values) else None
