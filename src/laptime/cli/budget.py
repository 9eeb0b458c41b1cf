"""`laptime budget EST --budget-ms B`: is it within B, how surely, and which configurations are?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import option
from laptime.cli.estimator_options import EstimatorFolder
from laptime.cli.options import QUESTION, BudgetMs, Confidence, Json, Keep, Tokens
from laptime.errors import LaptimeError


def budget(
    estimator: EstimatorFolder,
    budget_ms: BudgetMs = None,
    confidence: Confidence = "0.95",
    config: Annotated[
        list[str] | None,
        option(
            "--config", metavar="NAME=VALUE,...", help="One configuration. May be given again.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    grid: Annotated[
        Path | None,
        option(
            "--grid", metavar="FILE", help="Many: a YAML file of lists, or a table with the features' columns.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    accuracy: Annotated[
        str | None,
        option(
            "--accuracy", metavar="COL", help="The table's column of accuracies; the larger the better.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    tokens: Tokens = None,
    keep: Keep = "",
    as_json: Json = False,
) -> int:  # fmt: skip
    """Say which configurations keep a time budget, and how surely.

    Example: laptime budget est/ --budget-ms 170 --config batch=4,top_k=8

    Exit codes: 0 yes (of a grid: at least one), 1 no or unknown, 2 usage or unreadable input.
    """
    from laptime.cli.estimator_options import assignments, token_counts
    from laptime.cli.options import confidence_share, milliseconds
    from laptime.cli.output import give
    from laptime.estimate.budget import budget as judge
    from laptime.estimate.table.reading import kept_flags

    if budget_ms is None:
        raise LaptimeError("--budget-ms is needed: the time that an answer may take, such as --budget-ms 170")
    if (grid is None) == (not config):
        raise LaptimeError("name one configuration (--config batch=4) or many (--grid grid.yaml)")
    report = judge(
        estimator,
        grid if grid is not None else assignments(config or []),
        milliseconds("--budget-ms", budget_ms),
        confidence=confidence_share(confidence),
        accuracy=accuracy,
        tokens=token_counts(tokens),
        keep=kept_flags(keep),
    )
    give(report, as_json=as_json)
    return 0 if report.feasible else 1
