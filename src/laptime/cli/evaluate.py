"""`laptime evaluate`: how good is an estimator, and how good could any be?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument, option
from laptime.cli.estimator_options import BandwidthGbS, Categorical, Features, Group, Iqr, Target, TflopS
from laptime.cli.options import Confidence, Force, Html, Json, Keep
from laptime.errors import LaptimeError

JUDGING = "Judging"


def evaluate(
    what: Annotated[
        Path,
        argument(metavar="EST|TABLE", help="What fit wrote, or a table."),
    ],
    table: Annotated[
        Path | None,
        argument(metavar="TABLE", help="The table to judge EST on."),
    ] = None,
    target: Target = None,
    features: Features = "",
    categorical: Categorical = "",
    group: Group = "",
    splits: Annotated[
        str,
        option(
            "--splits", metavar="KINDS", help="What to hold out: random,new-config,largest,held-out.",
            rich_help_panel=JUDGING,
        ),
    ] = "",
    size: Annotated[
        str,
        option(
            "--size", metavar="A,B", help="(largest) Columns whose product is the size.", rich_help_panel=JUDGING
        ),
    ] = "",
    hold_out: Annotated[
        str,
        option(
            "--hold-out", metavar="A,B", help="(held-out) Columns whose values are held out one by one.",
            rich_help_panel=JUDGING,
        ),
    ] = "",
    seeds: Annotated[
        int,
        option(
            "--seeds", metavar="N", help="Random splits of each kind.", min=1, max=100, rich_help_panel=JUDGING
        ),
    ] = 3,
    confidence: Confidence = "0.95",
    iqr: Iqr = None,
    bandwidth_gb_s: BandwidthGbS = None,
    tflop_s: TflopS = None,
    keep: Keep = "",
    html: Html = None,
    force: Force = False,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Judge an estimator on measured times, beside the best that any could reach.

    A table alone is fitted and held out in turns: laptime evaluate runs.csv --target token_time --features batch,prompt

    Example: laptime evaluate est/ tomorrow.csv --html eval.html

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from laptime.cli.options import confidence_share, names
    from laptime.cli.output import give
    from laptime.cli.progress import progress
    from laptime.data.files import check_new_file
    from laptime.estimate.run_evaluation import KINDS, SplitOptions, evaluate_saved, evaluate_table
    from laptime.estimate.run_fit import FitOptions, device_rates
    from laptime.estimate.table.reading import kept_flags
    from laptime.estimate.total import is_estimator

    sure = confidence_share(confidence)
    check_new_file(html, "--html", force=force)
    if is_estimator(what):
        if table is None:
            raise LaptimeError(f"{what} is an estimator; name the table to judge it on too")
        if any((target, features, categorical, group, splits, size, hold_out)) or not (
            iqr is bandwidth_gb_s is tflop_s is None
        ):
            raise LaptimeError(f"{what} is fitted already: columns, splits, rates and --iqr go with a table alone")
        judged = evaluate_saved(what, table, confidence=sure, keep=kept_flags(keep))
    elif table is not None:
        if not Path(what).exists():
            raise LaptimeError(f"{what}: no such folder; name one that laptime fit wrote")
        raise LaptimeError(f"{what} holds no estimator (no estimator.json there); laptime fit writes one")
    else:
        kinds = tuple(names(splits)) or KINDS
        if strange := [kind for kind in kinds if kind not in KINDS]:
            raise LaptimeError(f"--splits {strange[0]}: no such split; there are {', '.join(KINDS)}")
        options = FitOptions(
            target=target,
            features=names(features),
            categorical=names(categorical),
            group=names(group),
            iqr=iqr,
            rates=device_rates(bandwidth_gb_s, tflop_s),
            keep=kept_flags(keep),
        )
        held_out = SplitOptions(kinds=kinds, size=names(size), hold_out=names(hold_out), seeds=seeds)
        with progress() as report:
            judged = evaluate_table(what, options, held_out, confidence=sure, progress=report)
    give(judged, as_json=as_json, html=html, force=force)
    return 0
