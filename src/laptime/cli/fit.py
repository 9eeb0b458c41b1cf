"""`laptime fit TABLE`: learn how long a configuration takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

    from laptime.estimate.estimator import Estimator
    from laptime.estimate.judge.splits import Filtered


def fit(
    table: Annotated[Path, typer.Argument(help="A run folder, a Parquet or a CSV table.")],
    out: Annotated[Path, typer.Option(help="Folder for the estimator; without --target one folder for each stage.")],
    target: Annotated[
        str | None, typer.Option(help="The column to predict, in ms. Default on a run: each stage and the total.")
    ] = None,
    features: Annotated[str, typer.Option(help="Columns it depends on: a,b,c. Default on a run: what varies.")] = "",
    categorical: Annotated[str, typer.Option(help="Those that are names, not sizes: m,h.")] = "",
    group: Annotated[str, typer.Option(help="Columns whose rows belong together and are held out together.")] = "",
    iqr: Annotated[
        float | None, typer.Option(help="Leave out times beyond so many interquartile ranges of their configuration.")
    ] = None,
    bandwidth_gb_s: Annotated[
        float | None, typer.Option(help="(a run) The device's measured memory bandwidth; laptime remedy prints it.")
    ] = None,
    tflop_s: Annotated[
        float | None, typer.Option(help="(a run) Its measured dense rate at the run's precision.")
    ] = None,
    keep: Annotated[str, typer.Option(help="(a run) Flags whose samples are used all the same: foreign-process.")] = "",
    seed: Annotated[int, typer.Option(help="The same seed and table give the same estimator.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The model card(s) as JSON on stdout.")] = False,
) -> int:
    """Learn a latency estimator. Example: laptime fit runs.csv --target token_time --features batch,prompt --out est/

    Exit codes: 0 done, 2 usage, unreadable input or a table that can't be learnt from.
    """
    from laptime.cli.columns import columns, device_rates, run_work
    from laptime.data.run_folder import readable_json
    from laptime.estimate.estimator import Estimator
    from laptime.estimate.table.positions import TARGET as BY_POSITION
    from laptime.estimate.table.positions import by_position
    from laptime.estimate.table.reading import STAGE_TARGETS, is_run_frame, kept_flags, read_table, usable_rows

    rates = device_rates(bandwidth_gb_s, tflop_s)
    frame = read_table(table, kept_flags(keep), by_token=target is None)
    whole_run = target is None and is_run_frame(frame)
    tables: dict[str | None, polars.DataFrame] = {target: frame}
    if whole_run:
        tables = {name: frame for name in STAGE_TARGETS if frame[name].drop_nulls().len()}
        if not (features or categorical) and (stretches := by_position(frame)) is not None:
            tables[BY_POSITION] = stretches
    cards, skipped = {}, {}
    for name, measured in tables.items():
        began = time.perf_counter()
        try:
            chosen = columns(measured, name, features, categorical, group)
            parts = [chosen.target, *chosen.features, *chosen.categorical, *chosen.group]
            rows = usable_rows(measured, parts) if whole_run else measured
            rows, removed = _without_outliers(rows, chosen.target, [*chosen.features, *chosen.categorical], iqr)
            made = Estimator(
                target=chosen.target,
                features=chosen.features,
                categorical=chosen.categorical,
                group=chosen.group,
                work=run_work(rows, chosen, features or categorical, rates),
                seed=seed,
            ).fit(rows)
        except LaptimeError as error:
            if not whole_run:
                raise LaptimeError(f"{table}: {error}") from error
            skipped[str(name)] = str(error)  # a text-only run has no vision to learn
            continue
        folder = out / chosen.target.removesuffix("_ms") if whole_run else out
        made.save(folder)
        cards[str(folder)] = made.card
        if not as_json:
            _show(made, folder, time.perf_counter() - began, removed)
    if not cards:
        raise LaptimeError(f"{table}: no stage can be learnt ({'; '.join(f'{k}: {v}' for k, v in skipped.items())})")
    for name, why in skipped.items():
        typer.echo(f"{name}: left out ({why})", err=True)
    if as_json:
        typer.echo(
            readable_json({"schema": "laptime.fit/1", "estimators": cards, "skipped": skipped}).decode().rstrip()
        )
    return 0


def _without_outliers(
    frame: polars.DataFrame, target: str, features: list[str], iqr: float | None
) -> tuple[polars.DataFrame, Filtered | None]:
    from laptime.estimate.judge.evaluation import configuration_labels, target_of
    from laptime.estimate.judge.splits import filtered

    if iqr is None:
        return frame, None
    if not iqr > 0:
        raise LaptimeError(f"--iqr {iqr:g}: so many interquartile ranges beyond the quartiles, above 0; 1.5 is usual")
    keep, removed = filtered(target_of(frame, target), configuration_labels(frame, features, [])[0], iqr)
    return frame.filter(keep), removed


def _show(made: Estimator, folder: Path, took_s: float, removed: Filtered | None) -> None:
    from rich.console import Console

    from laptime.report.estimate.terminal import fit_report

    Console().print(fit_report(made.card, str(folder), took_s, removed))
