"""`laptime predict EST TABLE|NAME=VALUE…`: how long will it take, at most, and how surely within a budget?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument, option
from laptime.cli.estimator_options import EstimatorFolder
from laptime.cli.options import OUTPUT, BudgetMs, Confidence, Force, Json, Keep, Tokens
from laptime.cli.output import say
from laptime.errors import LaptimeError


def predict(
    estimator: EstimatorFolder,
    asked: Annotated[
        list[str],
        argument(metavar="TABLE|NAME=VALUE...", help="A table with the features' columns, or one row in words."),
    ],
    confidence: Confidence = "0.95",
    budget_ms: BudgetMs = None,
    tokens: Tokens = None,
    keep: Keep = "",
    to: Annotated[
        Path | None,
        option(
            "--to", metavar="FILE", help="Write the table with its predictions: .csv or .parquet.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Predict how long configurations take, with an upper bound.

    Example: laptime predict est/ top_k=4 output_tokens=64 --budget-ms 170

    Exit codes: 0 done, 1 nothing is known of any row (far larger than what was measured, or another value of what
    never varied), 2 usage or unreadable input.
    """
    from laptime.cli.estimator_options import assignments, token_counts
    from laptime.cli.options import confidence_share, milliseconds
    from laptime.cli.output import give
    from laptime.data.files import check_new_file, write_new_file
    from laptime.estimate.prediction import predict as predict_rows
    from laptime.estimate.table.reading import kept_flags

    sure = confidence_share(confidence)
    limit = None if budget_ms is None else milliseconds("--budget-ms", budget_ms)
    if to is not None and to.suffix.lower() not in {".csv", ".parquet", ".pq"}:
        raise LaptimeError(f"--to {to}: name a .csv or .parquet file")
    check_new_file(to, "--to", force=force)
    in_words = "=" in asked[0] and not Path(asked[0]).exists()
    if not in_words and len(asked) > 1:
        raise LaptimeError(f"{asked[1]}: give one table, or NAME=VALUE words, not both")
    prediction = predict_rows(
        estimator,
        assignments(asked) if in_words else asked[0],
        confidence=sure,
        budget_ms=limit,
        tokens=token_counts(tokens),
        keep=kept_flags(keep),
    )
    give(prediction, as_json=as_json)
    if to is not None:
        write_new_file(to, prediction.encoded_table(to.suffix), "--to", force=force)
        say(f"table: {to}", err=True)
    return 1 if prediction.nothing_known else 0
