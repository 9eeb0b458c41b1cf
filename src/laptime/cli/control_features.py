"""`laptime control features RUN`: what policies look at, collected once for every question of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import require_torch


def features(
    run: Annotated[Path, typer.Argument(help="A sweep's folder, of scored questions.")],
    out: Annotated[Path, typer.Option(help="Folder for the features.")],
    model: Annotated[str | None, typer.Option(help="The sweep's model, where it lies elsewhere now.")] = None,
    early_block: Annotated[int, typer.Option(help="Blocks that run before experts and blocks are chosen.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="auto (the sweep's), float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    keep: Annotated[str, typer.Option(help="Flags whose samples are used all the same: foreign-process.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="What was collected, as JSON on stdout.")] = False,
) -> int:
    """Collect words, small images and the early block's hidden states of a sweep's questions.

    Example: laptime control features runs/glyphs --out runs/glyphs-features

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    require_torch()
    import json

    from laptime.cli.control_sweep import model_of, questions_of, scored_sweep
    from laptime.cli.progress import progress
    from laptime.control.tables.feature_table import write_features
    from laptime.control.tables.collection import collect_features

    sweep = scored_sweep(run, keep=keep)
    examples = questions_of(sweep, sweep.table.sample_ids)
    loaded = model_of(sweep, model, dtype, device)
    with progress() as report:
        table = collect_features(
            loaded,
            examples,
            sweep.table.space,
            early_block=early_block,
            progress=lambda done, of: report("features", done, of),
        )
    write_features(table, out)
    told = {
        "schema": "laptime.features/1",
        "folder": str(out),
        "questions": len(table),
        "hidden": table.hidden.shape[2],
    }
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        typer.echo(f"{out}: words, pixels and {told['hidden']} hidden values of {len(table)} questions under each tier")
    return 0
