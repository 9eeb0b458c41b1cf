"""`laptime control features RUN`: what policies look at, collected once for every question of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.declared import argument, option
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_folder, whole_folder
from laptime.errors import LaptimeError, require_torch

MARKS = ("features.json",)
"""What a folder of this verb holds: only such a folder is replaced by --force."""

Sweep = Annotated[Path, argument(metavar="RUN", help="A sweep's folder, of scored questions.")]
SweepModel = Annotated[
    str | None,
    option(
        "--model", metavar="MODEL", help="The sweep's model, if it is in another place now.",
        rich_help_panel=options.MODEL,
    ),
]  # fmt: skip
SomeQuestions = Annotated[
    int | None,
    option(
        "--samples", metavar="N", min=1, help="Ask N of the questions instead of all.", rich_help_panel=options.INPUT
    ),
]
SweepDtype = Annotated[
    options.Dtype, option("--dtype", help="Precision; auto is the sweep's.", rich_help_panel=options.MODEL)
]
EarlyBlock = Annotated[
    int,
    option(
        "--early-block", metavar="N", min=1, help="Blocks that run before experts and blocks are chosen.",
        rich_help_panel=options.LEARNING,
    ),
]  # fmt: skip


def features(
    run: Sweep,
    out: options.OutFolder,
    force: options.Force = False,
    model: SweepModel = None,
    dtype: SweepDtype = options.Dtype.auto,
    device: options.Device = "auto",
    early_block: EarlyBlock = 1,
    keep: options.Keep = "",
    as_json: options.Json = False,
) -> int:
    """Collect what policies look at: words, small images and early hidden states of a sweep's questions.

    Example: laptime control features runs/glyphs --out runs/glyphs-features

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    check_new_folder(out, MARKS, force=force)
    if (out / "answers.json").exists():
        raise LaptimeError(f"--out {out}: holds answers of `laptime control ask`; choose another --out")
    require_torch()
    from laptime.cli.control_sweep import model_of, questions_of, scored_sweep
    from laptime.cli.progress import progress
    from laptime.control.tables.collection import collect_features
    from laptime.control.tables.feature_table import write_features

    sweep = scored_sweep(run, keep=keep)
    examples = questions_of(sweep, sweep.table.sample_ids)
    loaded = model_of(sweep, model, dtype.value, device)
    with progress() as report:
        table = collect_features(
            loaded,
            examples,
            sweep.table.space,
            early_block=early_block,
            progress=lambda done, of: report("features", done, of),
        )
    with whole_folder(out, MARKS, force=force) as folder:
        write_features(table, folder)
    hidden = table.hidden.shape[2]
    if as_json:
        print_json({"schema": "laptime.features/1", "folder": str(out), "questions": len(table), "hidden": hidden})
    else:
        say(f"{out}: words, pixels and {hidden} hidden values of {len(table)} questions under each tier")
    return 0
