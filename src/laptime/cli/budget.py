"""`laptime budget EST --ms B`: is it within B, how surely, and which configurations are?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.data.stats import Floats
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars

    from laptime.estimate.predictor import Predictor


def budget(
    estimator: Annotated[
        Path, typer.Argument(help="The folder that fit wrote; a run's folder of stages answers for the total.")
    ],
    ms: Annotated[str, typer.Option(help="The budget: 170, 170ms or 0.17s.")],
    confidence: Annotated[str, typer.Option(help="How surely it must be kept: 0.95 or 95%.")] = "0.95",
    config: Annotated[
        list[str] | None, typer.Option(help="One configuration: NAME=VALUE, again or with commas for more.")
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="Many: YAML of NAME: [values], or a table with the features' columns.")
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option(help="The --grid table's column of accuracies (the larger the better).")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="(a run's stages) Output tokens, equally likely: 4,8,16. Else output_tokens=N.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON (laptime.budget/1) on stdout.")] = False,
) -> int:
    """Which configurations keep a budget, how surely? Example: laptime budget est/ --ms 170 --config batch=4,top_k=8

    Exit codes: 0 yes (of a grid: at least one), 1 no, 2 usage or unreadable input.
    """
    import polars

    from laptime.cli.columns import assignments, load_estimator, milliseconds
    from laptime.cli.columns import grid as read_grid
    from laptime.cli.compare import parse_share
    from laptime.data.run_folder import readable_json
    from laptime.estimate.budget import judge_budget
    from laptime.estimate.table.reading import read_table

    limit, sure = milliseconds("--ms", ms), parse_share("--confidence", confidence)
    made = load_estimator(estimator, tokens)
    if (grid is None) == (not config):
        raise LaptimeError("name one configuration (--config batch=4) or many (--grid grid.yaml)")
    known: list[float] | None = None
    measured: list[Floats] | None = None
    if grid is None:
        frame = polars.DataFrame([assignments(config or [])])
    elif grid.suffix.lower() in {".yaml", ".yml"}:
        frame = read_grid(grid)
    else:
        frame, known, measured = _configurations(made, read_table(grid), accuracy, grid)
    if accuracy is not None and known is None:
        raise LaptimeError(f"--accuracy {accuracy}: needs a --grid table that has this column")
    found = judge_budget(made, frame, budget_ms=limit, confidence=sure, accuracy=known, measured=measured)
    if as_json:
        typer.echo(readable_json(found).decode().rstrip())
    else:
        from rich.console import Console

        from laptime.report.estimate.budget_terminal import budget_report

        Console().print(budget_report(found))
    return 0 if found.feasible else 1


def _configurations(
    made: Predictor, table: polars.DataFrame, accuracy: str | None, file: Path
) -> tuple[polars.DataFrame, list[float] | None, list[Floats] | None]:
    """One row for each combination of features, with its mean accuracy and its measured times, where there are some."""
    import polars

    from laptime.estimate.table.table import require_columns

    features = list(dict.fromkeys([*made.features, *made.categorical]))
    require_columns(table, [*features, *([accuracy] if accuracy else [])])
    if accuracy and not table[accuracy].dtype.is_numeric():
        raise LaptimeError(f"{file}: column {accuracy} holds text; an accuracy is a number")
    wanted = []
    if accuracy:
        wanted.append(polars.col(accuracy).cast(polars.Float64).mean().alias("\x00accuracy"))
    if made.target in table.columns:
        wanted.append(polars.col(made.target).drop_nulls().cast(polars.Float64).alias("\x00measured"))
    rows = table.group_by(features, maintain_order=True).agg(wanted) if wanted else table.select(features).unique(
        maintain_order=True
    )  # fmt: skip
    known = rows["\x00accuracy"].fill_null(float("nan")).to_list() if accuracy else None
    times = [s.to_numpy() for s in rows["\x00measured"]] if made.target in table.columns else None
    return rows.select(features), known, times
