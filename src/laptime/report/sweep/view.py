"""A sweep as its faces read it: the run's description, its summary, its audit, what failed and where it was measured.

The terminal, the page and `--json` show this value and compute nothing. It holds a row a configuration, never the
samples: the page of a million samples is as small as that of a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from laptime.audits import Measurements, audit_measurements, read_measurements
from laptime.audits.result import AuditReport
from laptime.data.record import Environment, Failure, Scalar, WorkerStart
from laptime.data.run_folder import RunInfo, read_failures, readable_json
from laptime.report.kit.text import one_line
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.result import Drift, SweepSummary

if TYPE_CHECKING:
    import polars


ERROR_LIMIT = 300
"""Characters of a failure's text that are kept; the run folder has all of it."""


class FailedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one configuration: each error with its count, the most frequent first."""

    config_id: str
    config: dict[str, Scalar]
    failures: int
    errors: dict[str, int]


class GpuOverTime(msgspec.Struct, frozen=True, kw_only=True):
    """What the GPU said of itself in each stretch of the drift: medians, and the share of calls that were throttled."""

    sm_mhz: list[float | None]
    temperature_c: list[float | None]
    power_w: list[float | None]
    throttled: list[float | None]


class SweepView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown of a sweep. `info` is None for a table that came without a run folder."""

    path: str
    info: RunInfo | None
    summary: SweepSummary
    audit: AuditReport | None = None
    failed: list[FailedConfig] = []
    environments: dict[str, Environment] = {}  # fingerprint -> environment, the first worker's first
    workers: dict[str, list[str]] = {}  # fingerprint -> names of the workers that had it
    gpu: GpuOverTime | None = None

    @property
    def rounds(self) -> int | None:
        """How often the sweep came back to each configuration; None where that is not known."""
        rounds = self.info.session.get("rounds") if self.info else None
        return rounds if isinstance(rounds, int) else None


def failed_configs(failures: Iterable[Failure]) -> list[FailedConfig]:
    """Failures gathered by configuration, those with most first."""
    errors: dict[str, Counter[str]] = {}
    configs: dict[str, dict[str, Scalar]] = {}
    for failure in failures:
        errors.setdefault(failure.config_id, Counter())[one_line(failure.error, ERROR_LIMIT)] += 1
        configs.setdefault(failure.config_id, failure.config)
    found = [
        FailedConfig(config_id=key, config=configs[key], failures=counts.total(), errors=dict(counts.most_common()))
        for key, counts in errors.items()
    ]
    return sorted(found, key=lambda one: -one.failures)


def environments_of(
    info: RunInfo | None, starts: Sequence[WorkerStart]
) -> tuple[dict[str, Environment], dict[str, list[str]]]:
    """The different environments by fingerprint, and which workers had each of them."""
    environments: dict[str, Environment] = {}
    workers: dict[str, list[str]] = {}
    if info is not None and not starts:
        environments[info.environment.fingerprint()] = info.environment
    for start in starts:
        key = start.environment.fingerprint()
        environments.setdefault(key, start.environment)
        names = workers.setdefault(key, [])
        name = f"{start.worker} on {start.host}"
        if name not in names:
            names.append(name)
    return environments, workers


def gpu_over_time(frame: polars.DataFrame, drift: Drift | None) -> GpuOverTime | None:
    """The GPU's state in each stretch of the drift; None when the frame has none.

    `frame`: one row a sample, `started_unix_ms` and `gpu_*` columns. Stretches count from the first call that is no
    warm-up.
    """
    import polars as pl

    columns = {"gpu_sm_mhz", "gpu_temperature_c", "gpu_power_w", "gpu_throttle"} & set(frame.columns)
    if drift is None or not drift.points or not columns or "started_unix_ms" not in frame.columns:
        return None
    if "repeat" in frame.columns:
        frame = frame.filter(pl.col("repeat").fill_null(0) >= 0)
    starts = pl.Series([point.start_s for point in drift.points], dtype=pl.Float64)
    seconds = (frame["started_unix_ms"] - frame["started_unix_ms"].min()) / 1e3
    stretch = starts.search_sorted(seconds, side="right").cast(pl.Int64) - 1
    asked: dict[str, pl.Expr] = {
        "gpu_sm_mhz": pl.col("gpu_sm_mhz").median(),
        "gpu_temperature_c": pl.col("gpu_temperature_c").median(),
        "gpu_power_w": pl.col("gpu_power_w").median(),
        "gpu_throttle": (pl.col("gpu_throttle").fill_null("") != "").mean(),
    }
    found = (
        frame.select(sorted(columns))
        .with_columns(stretch.alias("stretch"))
        .group_by("stretch")
        .agg([asked[name] for name in sorted(columns)])
    )
    at: Mapping[int, dict[str, float | None]] = {row["stretch"]: row for row in found.iter_rows(named=True)}

    def column(name: str) -> list[float | None]:
        return [at.get(i, {}).get(name) for i in range(len(drift.points))]

    made = GpuOverTime(
        sm_mhz=column("gpu_sm_mhz"),
        temperature_c=column("gpu_temperature_c"),
        power_w=column("gpu_power_w"),
        throttled=column("gpu_throttle"),
    )
    told = [*made.sm_mhz, *made.temperature_c, *made.power_w]
    return made if any(value is not None for value in told) else None


def sweep_json(view: SweepView) -> bytes:
    """What `sweep --json` and `report --json` print of a sweep: schema laptime.sweep/1."""
    info = view.info
    return readable_json(
        {
            "schema": "laptime.sweep/1",
            "run": view.path,
            "config": info.config if info else {},
            "session": info.session if info else {},
            "environments": view.environments,
            "workers": view.workers,
            "summary": view.summary,
            "failed": view.failed,
            "audit": view.audit,
        }
    ).rstrip()


def read_sweep_view(path: str | Path) -> SweepView:
    """Everything that is shown of a sweep.

    `path`: a run folder, or a table of samples that laptime.data.frame.read_frame reads. Raises LaptimeError for
    others.
    """
    return sweep_view(read_measurements(path), failures_of(path))


def failures_of(path: str | Path) -> list[Failure]:
    """The failures of a run folder; a table has none."""
    return read_failures(path) if (Path(path) / "run.json").exists() else []


def several_configs(measured: Measurements, failures: Sequence[Failure]) -> bool:
    """Whether this is a sweep: more than one configuration was measured, failed or planned."""
    planned = {one.config_id for one in measured.plan.configs} if measured.plan else set()
    return len(planned | {one.config_id for one in failures} | set(measured.frame["config_id"].unique())) > 1


def sweep_view(measured: Measurements, failures: Sequence[Failure] = ()) -> SweepView:
    """The same from what was read."""
    failed = failed_configs(still_failed(measured.frame, failures))
    planned = {one.config_id: one.config for one in failed}
    planned |= {one.config_id: one.config for one in measured.plan.configs} if measured.plan else {}
    summary = summarise_sweep(measured.frame, {one.config_id: one.failures for one in failed}, planned)
    environments, workers = environments_of(measured.info, measured.workers)
    return SweepView(
        path=measured.source,
        info=measured.info,
        summary=summary,
        audit=audit_measurements(measured) if measured.frame.height else None,
        failed=failed,
        environments=environments,
        workers=workers,
        gpu=gpu_over_time(measured.frame, summary.drift),
    )


def still_failed(frame: polars.DataFrame, failures: Sequence[Failure]) -> list[Failure]:
    """The last failure of each key that has no sample: what a later attempt measured did not fail."""
    import polars as pl

    last = {(one.config_id, one.sample_id, one.repeat): one for one in failures}
    concerned = frame.filter(pl.col("config_id").is_in([key[0] for key in last]))
    measured = set(concerned.select("config_id", "sample_id", "repeat").iter_rows())
    return [one for key, one in last.items() if key not in measured]
