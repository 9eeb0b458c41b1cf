"""`laptime evaluate`: how good is an estimator, and how good could any be?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

    from laptime.estimate.judge.evaluation_result import Evaluation
    from laptime.estimate.judge.splits import Split
    from laptime.estimate.learn.card import ModelCard
    from laptime.estimate.roofline.roofline import Rates
    from laptime.estimate.table.reading import Columns

KINDS = ("random", "new-config", "largest", "held-out")


def evaluate(
    what: Annotated[Path, typer.Argument(help="What fit wrote; or a table, to fit and hold out in turns.")],
    table: Annotated[Path | None, typer.Argument(help="The table to judge the estimator on, with its target.")] = None,
    target: Annotated[str | None, typer.Option(help="(a table alone) The column to predict, in ms.")] = None,
    features: Annotated[str, typer.Option(help="(a table alone) Columns it depends on: a,b,c.")] = "",
    categorical: Annotated[str, typer.Option(help="(a table alone) Those that are names.")] = "",
    group: Annotated[str, typer.Option(help="(a table alone) Columns whose rows belong together.")] = "",
    splits: Annotated[str, typer.Option(help="What to hold out: random,new-config,largest,held-out.")] = "",
    size: Annotated[str, typer.Option(help="Columns whose product is the size, for largest: batch,context.")] = "",
    hold_out: Annotated[str, typer.Option(help="Columns whose levels are held out one by one: model,gpu.")] = "",
    seeds: Annotated[int, typer.Option(help="Random splits of each kind.", min=1, max=100)] = 3,
    quantile: Annotated[str, typer.Option(help="Coverage that is asked of the bound: 0.95 or 95%.")] = "0.95",
    iqr: Annotated[
        float | None, typer.Option(help="Fit without times beyond so many interquartile ranges; says what it did.")
    ] = None,
    bandwidth_gb_s: Annotated[
        float | None, typer.Option(help="(a run) The device's measured memory bandwidth; laptime remedy prints it.")
    ] = None,
    tflop_s: Annotated[
        float | None, typer.Option(help="(a run) Its measured dense rate at the run's precision.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON (laptime.evaluation/1).")] = False,
) -> int:
    """How good is an estimator, and how good could any be? Example: laptime evaluate est/ tomorrow.csv --html eval.html

    A table alone is fitted and held out in turns: laptime evaluate runs.csv --target token_time --features batch,prompt

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from laptime.cli.columns import device_rates, is_estimator
    from laptime.cli.compare import parse_share
    from laptime.data.run_folder import readable_json

    q = parse_share("--quantile", quantile)
    card: ModelCard | None = None
    if is_estimator(what):
        if table is None:
            raise LaptimeError(f"{what} is an estimator; name the table to judge it on too")
        rates_named = bandwidth_gb_s is not None or tflop_s is not None
        if target or features or categorical or group or splits or size or hold_out or iqr is not None or rates_named:
            raise LaptimeError(f"{what} is fitted already: columns, splits, rates and --iqr go with a table alone")
        found, card = _judge(what, table, q)
    elif table is not None:
        raise LaptimeError(f"{what} holds no estimator (no estimator.json there); laptime fit writes one")
    else:
        rates = device_rates(bandwidth_gb_s, tflop_s)
        found, card = _hold_out(
            what, target, features, categorical, group, splits, size, hold_out, seeds, q, iqr, rates
        )
    if as_json:
        typer.echo(readable_json(found).decode().rstrip())
    if html is not None:
        from laptime.cli.columns import write_page
        from laptime.report.estimate.page import estimate_page

        write_page(html, estimate_page(found, card))
        typer.echo(str(html), err=as_json)
    elif not as_json:
        from rich.console import Console

        from laptime.report.estimate.terminal import evaluation_report

        Console().print(evaluation_report(found))
    return 0


def _judge(folder: Path, table: Path, q: float) -> tuple[Evaluation, ModelCard | None]:
    from laptime.cli.columns import load_estimator
    from laptime.estimate.estimator import Estimator
    from laptime.estimate.judge import evaluation
    from laptime.estimate.table.reading import read_table, usable_rows

    made = load_estimator(folder, None)
    frame = read_table(table)
    if made.target in frame.columns:
        frame = usable_rows(frame, [made.target])
    try:
        found = evaluation.evaluate(made, frame, q=q, source=str(table))
    except LaptimeError as error:
        raise LaptimeError(f"{table}: {error}") from error
    return found, made.card if isinstance(made, Estimator) else None


def _hold_out(
    table: Path,
    target: str | None,
    features: str,
    categorical: str,
    group: str,
    kinds: str,
    size: str,
    hold_out: str,
    seeds: int,
    q: float,
    iqr: float | None,
    rates: Rates | None,
) -> tuple[Evaluation, ModelCard]:
    from laptime.cli.columns import columns, names, run_work
    from laptime.cli.progress import progress
    from laptime.estimate.estimator import Estimator
    from laptime.estimate.judge import evaluation
    from laptime.estimate.judge.splits import filtered
    from laptime.estimate.table.reading import is_run_frame, read_table, usable_rows

    frame = read_table(table)
    chosen = columns(frame, target, features, categorical, group)
    if is_run_frame(frame):
        frame = usable_rows(frame, [chosen.target, *chosen.features, *chosen.categorical])
    wanted = names(kinds) or list(KINDS)
    if strange := [kind for kind in wanted if kind not in KINDS]:
        raise LaptimeError(f"--splits {strange[0]}: not known; {', '.join(KINDS)} are")
    if iqr is not None and not iqr > 0:
        raise LaptimeError(f"--iqr {iqr:g}: so many interquartile ranges beyond the quartiles, above 0; 1.5 is usual")
    try:
        planned = list(_splits(frame, chosen, wanted, names(size), names(hold_out), seeds))
    except LaptimeError as error:
        raise LaptimeError(f"{table}: {error}") from error
    keep, removed = None, None
    if iqr is not None:
        labels, _ = evaluation.configuration_labels(frame, [*chosen.features, *chosen.categorical], chosen.group)
        keep, removed = filtered(evaluation.target_of(frame, chosen.target), labels, iqr)
    made: list[Estimator] = []

    def fit(rows: polars.DataFrame, seed: int) -> Estimator:
        made.append(
            Estimator(
                target=chosen.target,
                features=chosen.features,
                categorical=chosen.categorical,
                group=chosen.group,
                work=run_work(rows, chosen, features or categorical, rates),
                seed=seed,
            ).fit(rows)
        )
        return made[-1]

    with progress() as report:
        done = 0

        def one(split: Split) -> None:
            nonlocal done
            done += 1
            report("splits", done, len(planned))

        try:
            found = evaluation.cross_evaluate(
                fit, frame, planned, q=q, source=str(table), keep=keep, filtered=removed, progress=one
            )
        except LaptimeError as error:
            raise LaptimeError(f"{table}: {error}") from error
    return found, made[0].card


def _splits(
    frame: polars.DataFrame, chosen: Columns, kinds: list[str], size: list[str], hold_out: list[str], seeds: int
) -> Iterator[Split]:
    from laptime.estimate.judge import evaluation, splits
    from laptime.estimate.table.table import require_columns

    require_columns(frame, [*size, *hold_out])
    features = [*chosen.features, *chosen.categorical]
    alike = splits.row_labels([frame[name].to_numpy() for name in features], len(frame))
    group = splits.row_labels([frame[name].to_numpy() for name in chosen.group], len(frame)) if chosen.group else alike
    same = len(set(zip(alike.tolist(), group.tolist(), strict=True))) == len(set(alike.tolist()))
    several = len(set(group.tolist())) > 1
    if "random" in kinds and not (same and "new-config" in kinds and several and group.max() == alike.max()):
        yield from splits.by_group("random", alike, seeds=range(seeds))
    if "new-config" in kinds and several:
        yield from splits.by_group("new-config", group, seeds=range(seeds))
    actual = evaluation.target_of(frame, chosen.target)
    by = size or splits.growing(
        {n: frame[n].to_numpy() for n in chosen.features if frame[n].dtype.is_numeric()}, actual
    )
    if "largest" in kinds and by:
        yield from splits.largest(splits.product([frame[name].to_numpy() for name in by]), name=" × ".join(by))
    if "held-out" in kinds:
        for name in hold_out or chosen.categorical:
            yield from splits.held_out(name, frame[name].to_list())
