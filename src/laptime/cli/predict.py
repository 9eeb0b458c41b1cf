"""`laptime predict EST TABLE|k=v…`: how long will it take, at most, and with what probability within a budget?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError

SHOWN = 50


def predict(
    estimator: Annotated[
        Path, typer.Argument(help="The folder that fit wrote; a run's folder of stages answers for the total.")
    ],
    asked: Annotated[list[str], typer.Argument(help="A table with the features' columns, or one row as NAME=VALUE …")],
    quantile: Annotated[str, typer.Option(help="Coverage of the upper bound: 0.95 or 95%.")] = "0.95",
    budget_ms: Annotated[str | None, typer.Option(help="Also the probability of taking no longer: 170.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="(a run's stages) Output tokens, equally likely: 4,8,16. Else output_tokens=N.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table with its predictions: .csv or .parquet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answers as JSON (laptime.predict/1) on stdout.")] = False,
) -> int:
    """How long will a configuration take? Example: laptime predict est/ batch=4 prompt=512 --budget-ms 170

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    import polars

    from laptime.cli.columns import assignments, load_estimator, milliseconds
    from laptime.cli.compare import parse_share
    from laptime.estimate.budget import predictions, predictions_json, write_predictions
    from laptime.estimate.table.reading import read_table

    level = parse_share("--quantile", quantile)
    budget = None if budget_ms is None else milliseconds("--budget-ms", budget_ms)
    made = load_estimator(estimator, tokens)
    one_row = "=" in asked[0] and not Path(asked[0]).exists()
    if not one_row and len(asked) > 1:
        raise LaptimeError(f"{asked[1]}: one table, or NAME=VALUE words, not both")
    frame = polars.DataFrame([assignments(asked)]) if one_row else read_table(asked[0])
    found = predictions(made, frame, level, budget)
    if out is not None:
        write_predictions(out, frame, found)
    if as_json:
        typer.echo(predictions_json(made, found, level, budget).decode().rstrip())
    else:
        from rich.console import Console

        from laptime.report.estimate.terminal import predict_report

        Console().print(predict_report(made, frame, found, level, budget, shown=SHOWN))
    if out is not None:
        typer.echo(str(out), err=as_json)
    return 0
