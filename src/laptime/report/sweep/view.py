"""Everything that is shown of a sweep: run, summary, audit, failures and environments, in one value.

The terminal, the page and `--json` show this value and compute nothing. It holds one row for each configuration and no
samples, so the page of a million samples is as small as that of a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from laptime.audits import Measurements, audit_measurements, read_measurements
from laptime.audits.result import AuditReport
from laptime.data.json_text import readable_json
from laptime.data.record import Environment, Failure, Scalar, WorkerStart
from laptime.data.run_folder import RunInfo, read_failures
from laptime.data.shown import Shown
from laptime.report.kit.text import one_line
from laptime.sweeps.plan import ruined
from laptime.sweeps.summary import summarise_sweep
from laptime.sweeps.summary.drift import GpuOverTime, gpu_over_time
from laptime.sweeps.summary.result import SweepSummary

if TYPE_CHECKING:
    import polars


ERROR_LIMIT = 300
"""The most characters that are shown of a failure's text; the run folder has all of it."""


class FailedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one configuration: each error with its count, the most frequent first."""

    config_id: str
    config: dict[str, Scalar]
    failures: int
    errors: dict[str, int]


class SweepView(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown of a sweep. `info` is None for a table that came without a run folder."""

    ROWS: ClassVar[str] = "rows"

    path: str
    info: RunInfo | None
    summary: SweepSummary
    audit: AuditReport | None = None
    failed: list[FailedConfig] = []
    environments: dict[str, Environment] = {}  # fingerprint -> environment, the first worker's first
    workers: dict[str, list[str]] = {}  # fingerprint -> names of the workers that had it
    gpu: GpuOverTime | None = None
    cautions: list[str] = []  # what must be known before the figures are read

    def _table(self, name: str) -> polars.DataFrame:
        place = self.summary if hasattr(self.summary, name) else self
        return Shown._table(place, name)  # type: ignore[arg-type]

    @property
    def rounds(self) -> int | None:
        """The number of rounds of the sweep; None where it is not known."""
        rounds = self.info.session.get("rounds") if self.info else None
        return rounds if isinstance(rounds, int) else None


def failed_configs(failures: Iterable[Failure]) -> list[FailedConfig]:
    """The failures of each configuration; the configuration with most of them comes first."""
    errors: dict[str, Counter[str]] = {}
    configs: dict[str, dict[str, Scalar]] = {}
    for failure in failures:
        errors.setdefault(failure.config_id, Counter())[one_line(failure.error, ERROR_LIMIT)] += 1
        configs.setdefault(failure.config_id, failure.config)
    configs_failed = [
        FailedConfig(config_id=key, config=configs[key], failures=counts.total(), errors=dict(counts.most_common()))
        for key, counts in errors.items()
    ]
    return sorted(configs_failed, key=lambda one: -one.failures)


def environments_of(
    info: RunInfo | None, starts: Sequence[WorkerStart]
) -> tuple[dict[str, Environment], dict[str, list[str]]]:
    """The different environments by fingerprint, and the workers that had each of them."""
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
            "cautions": view.cautions,
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
    """The view of measurements that are already read, and their failures."""
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
        cautions=ruined(measured.plan.agreement) if measured.plan else [],
    )


def still_failed(frame: polars.DataFrame, failures: Sequence[Failure]) -> list[Failure]:
    """The last failure of each key without a sample. A key that a later attempt measured counts as measured."""
    import polars as pl

    last = {(one.config_id, one.sample_id, one.repeat): one for one in failures}
    concerned = frame.filter(pl.col("config_id").is_in([key[0] for key in last]))
    measured = set(concerned.select("config_id", "sample_id", "repeat").iter_rows())
    return [one for key, one in last.items() if key not in measured]
