"""From a path to what is shown of a sweep: its summary, its audit, what failed, where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laptime.audits import Measurements, audit_measurements, read_measurements
from laptime.data.record import Failure
from laptime.data.run_folder import read_failures
from laptime.report.sweep.view import CampaignView, environments_of, failed_configs, gpu_over_time
from laptime.sweeps.summary import summarise_sweep

if TYPE_CHECKING:
    import polars


def read_campaign_view(path: str | Path) -> CampaignView:
    """Everything that is shown of a sweep.

    `path`: a run folder, or a table of samples that laptime.data.frame.read_frame reads. Raises LaptimeError for
    others.
    """
    return campaign_view(read_measurements(path), failures_of(path))


def failures_of(path: str | Path) -> list[Failure]:
    """The failures of a run folder; a table has none."""
    return read_failures(path) if (Path(path) / "run.json").exists() else []


def several_configs(measured: Measurements, failures: Sequence[Failure]) -> bool:
    """Whether this is a sweep: more than one configuration was measured, failed or planned."""
    planned = {one.config_id for one in measured.plan.configs} if measured.plan else set()
    return len(planned | {one.config_id for one in failures} | set(measured.frame["config_id"].unique())) > 1


def campaign_view(measured: Measurements, failures: Sequence[Failure] = ()) -> CampaignView:
    """The same from what was read."""
    failed = failed_configs(still_failed(measured.frame, failures))
    planned = {one.config_id: one.config for one in failed}
    planned |= {one.config_id: one.config for one in measured.plan.configs} if measured.plan else {}
    summary = summarise_sweep(measured.frame, {one.config_id: one.failures for one in failed}, planned)
    environments, workers = environments_of(measured.info, measured.workers)
    return CampaignView(
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
