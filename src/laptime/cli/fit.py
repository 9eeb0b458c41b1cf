"""`laptime fit TABLE`: learn how long a configuration takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument
from laptime.cli.estimator_options import BandwidthGbS, Categorical, Features, Group, Iqr, Target, TflopS
from laptime.cli.options import Force, Json, Keep, OutFolder, Seed, names
from laptime.cli.output import say


def fit(
    table: Annotated[Path, argument(metavar="TABLE", help="A run folder, a Parquet or a CSV table.")],
    out: OutFolder,
    target: Target = None,
    features: Features = "",
    categorical: Categorical = "",
    group: Group = "",
    iqr: Iqr = None,
    bandwidth_gb_s: BandwidthGbS = None,
    tflop_s: TflopS = None,
    keep: Keep = "",
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Learn how long a configuration takes, with a bound.

    On a run or a sweep each stage and the total are learnt. Any other table needs --target and --features.

    Example: laptime fit runs.csv --target token_time --features batch,prompt --out est/

    Exit codes: 0 done, 2 usage, unreadable input or a table that can't be learnt from.
    """
    import sys

    from laptime.cli.output import give
    from laptime.cli.progress import progress
    from laptime.estimate.run_fit import FitOptions, device_rates, fit_run
    from laptime.estimate.table.reading import kept_flags

    options = FitOptions(
        target=target,
        features=names(features),
        categorical=names(categorical),
        group=names(group),
        iqr=iqr,
        rates=device_rates(bandwidth_gb_s, tflop_s),
        keep=kept_flags(keep),
        seed=seed,
    )
    if sys.stderr.isatty():
        with progress() as report:
            fitted = fit_run(
                table, out, options, force=force, progress=lambda target, done, of: report("fit", done, of)
            )
    else:
        fitted = fit_run(table, out, options, force=force)
    for name, why in fitted.skipped.items():
        say(f"{name}: left out ({why})", err=True)
    give(fitted, as_json=as_json)
    return 0
