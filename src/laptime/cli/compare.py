"""`laptime compare A B`: is B faster, by how much, and do we know?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from laptime.cli.options import QUESTION, Confidence, Json, Stage, share
from laptime.cli.output import give


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The run folder to compare with: the baseline.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The run folder in question.")],
    stage: Annotated[
        Stage | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Judge one alone: vision, prefill, decode, other, total or decode_per_token.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    min_effect: Annotated[
        str,
        typer.Option(
            "--min-effect",
            metavar="SHARE",
            help="A smaller change counts as none: 2% or 0.02.",
            rich_help_panel=QUESTION,
        ),
    ] = "2%",
    confidence: Confidence = "0.95",
    as_json: Json = False,
) -> int:
    """Is run B faster than run A, by how much, how sure?

    The confidence is that of all verdicts together.

    Example: laptime compare runs/main runs/branch --stage decode

    Exit codes: 0 not slower, 1 slower, 2 usage, unreadable input or nothing comparable.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices
    from laptime.comparisons import compare_runs
    from laptime.data.run_folder import load_run

    comparison = compare_runs(
        load_run(a),
        load_run(b),
        stage=None if stage is None else stage.value,
        min_effect=share("--min-effect", min_effect),
        confidence=share("--confidence", confidence),
    )
    give(comparison, as_json=as_json)
    return 1 if comparison.verdict == "slower" else 0
