"""`laptime control ask RUN`: further questions under a sweep's choices, scored in batches and not timed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import require_torch


def ask(
    run: Annotated[Path, typer.Argument(help="A sweep's folder, of scored questions: its model, choices and score.")],
    data: Annotated[Path, typer.Option(help="Further questions, other ones than the sweep's.")],
    out: Annotated[Path, typer.Option(help="Folder for the answers and their features.")],
    annotations: Annotated[Path | None, typer.Option(help="The questions' answers, where they lie apart.")] = None,
    images: Annotated[Path | None, typer.Option(help="The questions' images, where they lie apart.")] = None,
    samples: Annotated[int | None, typer.Option(help="So many of the questions. Default: all.", min=1)] = None,
    batch: Annotated[int, typer.Option(help="Questions of equal shapes that are answered together.", min=1)] = 64,
    model: Annotated[str | None, typer.Option(help="The sweep's model, where it lies elsewhere now.")] = None,
    early_block: Annotated[int, typer.Option(help="Blocks that run before experts and blocks are chosen.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="auto (the sweep's), float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    keep: Annotated[str, typer.Option(help="Flags whose samples are used all the same: foreign-process.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="What was asked, as JSON on stdout.")] = False,
) -> int:
    """Ask further questions under every choice of a sweep, for policies to learn from (control train --answers).

    Example: laptime control ask runs/glyphs --data more/questions.jsonl --out answers

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    require_torch()
    import json

    from laptime.cli.control_sweep import model_of, score_kind, scored_sweep
    from laptime.cli.progress import progress
    from laptime.control.tables.answers import collect_answers, write_answers
    from laptime.control.tables.feature_table import write_features
    from laptime.workload.reading import read_examples

    sweep = scored_sweep(run, keep=keep)
    examples = read_examples(data, annotations=annotations, images=images, samples=samples, seed=sweep.config.seed)
    loaded = model_of(sweep, model, dtype, device)
    with progress() as report:
        table, features = collect_answers(
            loaded,
            examples,
            sweep.table.space,
            kind=score_kind(sweep),
            new_tokens=sweep.table.most_tokens,
            batch=batch,
            early_block=early_block,
            progress=lambda done, of: report("answers", done, of),
        )
    write_answers(table, out)
    write_features(features, out)
    told = {
        "schema": "laptime.answers/1",
        "folder": str(out),
        "questions": len(table),
        "choices": len(table.space),
        "right": float(table.score.mean()),
    }
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        typer.echo(
            f"{out}: {len(table)} questions under {len(table.space)} choices, {table.score.mean():.1%} of them right"
        )
    return 0
