"""`laptime compare A B`: is B faster, by how much, and do we know?"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError


def compare(
    a: Annotated[Path, typer.Argument(help="The run folder to compare with: the baseline.")],
    b: Annotated[Path, typer.Argument(help="The run folder in question.")],
    stage: Annotated[
        str | None,
        typer.Option(help="Decide by one alone: vision, prefill, decode, other, total, decode_per_token."),
    ] = None,
    min_effect: Annotated[str, typer.Option(help="A smaller change is none: 2% or 0.02.")] = "2%",
    confidence: Annotated[str, typer.Option(help="Of all verdicts together: 0.95 or 95%.")] = "0.95",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON (laptime.compare/1) on stdout.")] = False,
) -> int:
    """Is B faster than A, by how much, how sure? Example: laptime compare runs/main runs/branch --stage decode

    Exit codes: 0 not slower, 1 slower, 2 usage, unreadable input or nothing comparable.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices
    from laptime.comparisons import compare_runs
    from laptime.data.run_folder import load_run, readable_json

    effect, sure = parse_share("--min-effect", min_effect), parse_share("--confidence", confidence)
    compared = compare_runs(load_run(a), load_run(b), stage=stage, min_effect=effect, confidence=sure)
    if as_json:
        typer.echo(readable_json(compared).decode().rstrip())
    else:
        from rich.console import Console

        from laptime.report.compare.terminal import compare_report

        Console().print(compare_report(compared))
    return 1 if compared.verdict == "slower" else 0


def parse_share(option: str, words: str) -> float:
    """A share written as 2% or 0.02. Raises LaptimeError for anything else, a bare 2 included."""
    bare = words.strip()
    try:
        share = float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < 1:
        raise LaptimeError(f"{option} {words}: a share from 0 to below 1, written as 2% or 0.02")
    return share
