"""`laptime control ask RUN`: further questions under a sweep's choices, scored in batches and not timed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.control_features import EarlyBlock, SomeQuestions, Sweep, SweepDtype, SweepModel
from laptime.cli.declared import option
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_folder, whole_folder
from laptime.errors import require_torch

MARKS = ("answers.json",)
"""What a folder of this verb holds: only such a folder is replaced by --force."""


def ask(
    run: Sweep,
    data: Annotated[
        Path,
        option("--data", metavar="FILE", help="Questions that the sweep didn't ask.", rich_help_panel=options.INPUT),
    ],
    out: options.OutFolder,
    force: options.Force = False,
    annotations: Annotated[
        Path | None,
        option(
            "--annotations",
            metavar="FILE",
            help="The questions' answers, if they are in a file of their own.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        option(
            "--images",
            metavar="FOLDER",
            help="The questions' images, if they are in a folder of their own.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    samples: SomeQuestions = None,
    keep: options.Keep = "",
    model: SweepModel = None,
    dtype: SweepDtype = options.Dtype.auto,
    device: options.Device = "auto",
    batch: Annotated[
        int,
        option(
            "--batch",
            metavar="N",
            min=1,
            help="The most questions of equal shapes in one call.",
            rich_help_panel=options.MEASURING,
        ),
    ] = 64,
    early_block: EarlyBlock = 1,
    as_json: options.Json = False,
) -> int:
    """Ask further questions under every choice of a sweep, for policies to learn from (control train --answers).

    Example: laptime control ask runs/glyphs --data more/questions.jsonl --out answers

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    check_new_folder(out, MARKS, force=force)
    require_torch()
    from laptime.cli.control_sweep import model_of, score_kind, scored_sweep
    from laptime.cli.progress import progress
    from laptime.control.tables.answers import write_answers
    from laptime.control.tables.collection import AskSettings, collect_answers
    from laptime.control.tables.feature_table import write_features
    from laptime.report.kit.numbers import percent
    from laptime.workload.reading import read_examples

    sweep = scored_sweep(run, keep=keep)
    examples = read_examples(data, annotations=annotations, images=images, samples=samples, seed=sweep.config.seed)
    loaded = model_of(sweep, model, dtype.value, device)
    settings = AskSettings(
        kind=score_kind(sweep), new_tokens=sweep.table.most_tokens, batch=batch, early_block=early_block
    )
    with progress() as report:
        table, features = collect_answers(
            loaded, examples, sweep.table.space, settings, lambda done, of: report("answers", done, of)
        )
    with whole_folder(out, MARKS, force=force) as folder:
        write_answers(table, folder)
        write_features(features, folder)
    right = float(table.score.mean())
    if as_json:
        print_json({
            "schema": "laptime.answers/1", "folder": str(out), "questions": len(table), "choices": len(table.space),
            "right": right,
        })  # fmt: skip
    else:
        say(f"{out}: {len(table)} questions under {len(table.space)} choices, {percent(right)} of them right")
    return 0
