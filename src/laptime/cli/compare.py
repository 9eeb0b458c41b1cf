"""`laptime compare A B`: is B faster, by how much, and do we know?"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from laptime.cli.ci import check_ci, tell_ci
from laptime.cli.declared import argument, option
from laptime.cli.options import (
    INPUT,
    MEASURING,
    OUTPUT,
    QUESTION,
    Confidence,
    GithubSummary,
    Json,
    Junit,
    Keep,
    Stage,
    confidence_share,
    share,
)
from laptime.cli.output import give
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.comparisons.launches import TurnsPlan
    from laptime.comparisons.result import Comparison


def compare(
    a: Annotated[
        Path | None, argument(metavar="A", help="The run folder to compare with; or a folder of --run, again.")
    ] = None,
    b: Annotated[Path | None, argument(metavar="B", help="The run folder in question.")] = None,
    run: Annotated[
        str | None,
        option(
            "--run",
            metavar="COMMAND",
            help="A: a laptime profile line, or any command with {out}.",
            rich_help_panel=MEASURING,
        ),
    ] = None,
    against: Annotated[
        str | None,
        option("--against", metavar="COMMAND", help="B: likewise.", rich_help_panel=MEASURING),
    ] = None,
    out: Annotated[
        Path | None,
        option(
            "--out",
            metavar="FOLDER",
            help="The folder to write \\[default: runs/compare-TIME].",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    processes: Annotated[
        int,
        option("--processes", metavar="N", help="Start at most this many processes.", min=4, rich_help_panel=MEASURING),
    ] = 40,
    baseline: Annotated[
        list[Path] | None,
        option(
            "--baseline",
            metavar="FOLDER",
            help="A further run of A on this machine; give three or more.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    keep: Keep = "",
    stage: Annotated[
        Stage | None,
        option(
            "--stage",
            metavar="STAGE",
            help="Judge one alone: vision, audio, encode, prefill, decode, other, total or decode_per_token;"
            " of a serving engine also preprocessing or queue.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    min_effect: Annotated[
        str,
        option(
            "--min-effect",
            metavar="SHARE",
            help="A smaller change counts as none: 2% or 0.02.",
            rich_help_panel=QUESTION,
        ),
    ] = "2%",
    confidence: Confidence = "0.95",
    github_summary: GithubSummary = False,
    junit: Junit = None,
    as_json: Json = False,
) -> int:
    """Is run B faster than run A, by how much, how sure?

    With --run and --against both are measured in turns, each time in a new process, until the answer is known. Two
    single runs can't say how much runs differ by themselves: their answer is inconclusive without --baseline.
    The confidence is that of all verdicts together.

    Example: laptime compare --run "laptime profile MODEL" --against "laptime profile MODEL --attention eager"

    Exit codes: 0 not slower, or not known; 1 slower; 2 usage, unreadable input or nothing comparable; 130 Ctrl-C.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices
    check_ci(github_summary=github_summary, junit=junit)
    asked = None if stage is None else stage.value
    effect, sure = share("--min-effect", min_effect), confidence_share(confidence, least=0.5)  # check_question's
    if run is not None or against is not None:
        if run is None or against is None or a is not None or baseline:
            raise LaptimeError("--run COMMAND and --against COMMAND belong together, and no run folder beside them")
        from laptime.comparisons.launches import TurnsPlan, turn_order
        from laptime.estimate.table.reading import kept_flags

        plan = TurnsPlan(
            a=run,
            b=against,
            order=turn_order(processes),
            stage=asked,
            min_effect=effect,
            confidence=sure,
            keep=sorted(kept_flags(keep)),
        )
        comparison = _in_turns(plan, out or Path("runs") / f"compare-{time.strftime('%Y%m%d-%H%M%S')}")
    elif keep and (a is None or b is not None):
        raise LaptimeError("--keep goes with --run and --against: there the flags hit both sides alike")
    elif a is None:
        raise LaptimeError("compare what? Name two run folders, or write --run COMMAND --against COMMAND")
    elif b is None:
        from laptime.comparisons.launches import read_turns
        from laptime.estimate.table.reading import kept_flags

        if baseline:
            raise LaptimeError("--baseline goes with two run folders")
        if (a / "run.json").exists():
            raise LaptimeError(f"compare {a} with what? Name a second run folder")
        comparison = read_turns(a, kept_flags(keep))
    else:
        from laptime.comparisons import compare_two_runs
        from laptime.comparisons.compared_run import load_compared

        first, second, *repeats = (load_compared(folder) for folder in (a, b, *(baseline or ())))
        comparison = compare_two_runs(first, second, baselines=repeats, stage=asked, min_effect=effect, confidence=sure)
    give(comparison, as_json=as_json)
    tell_ci(comparison, github_summary=github_summary, junit=junit)
    if comparison.reason == "interrupted":
        return 130
    return 1 if comparison.verdict == "slower" else 0


def _in_turns(plan: TurnsPlan, out: Path) -> Comparison:
    from laptime.comparisons.launches import command_launch, measure_turns
    from laptime.comparisons.turns import standing

    launch = {"A": command_launch(plan.a, "--run"), "B": command_launch(plan.b, "--against")}
    comparison = measure_turns(
        plan,
        out,
        launch,
        lambda so_far, most: print(standing(so_far, most), file=sys.stderr, flush=True),  # noqa: T201
    )
    print(f"runs: {out}; laptime compare {out} judges them again", file=sys.stderr)  # noqa: T201
    return comparison
