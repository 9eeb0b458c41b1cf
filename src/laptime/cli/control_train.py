"""`laptime control train RUN`: a policy from a sweep's table, with the bounds that it is to keep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.control.policies.policy import Needs
    from laptime.control.policies.saved_policy import SavedPolicy

Kind = Literal["grpo", "supervised", "static", "lookup"]
Promise = Literal["overall", "each"]
SEEN = ("language", "pixels", "hidden")


def train(
    run: Annotated[Path, typer.Argument(help="A sweep's folder, of scored questions.")],
    estimator: Annotated[Path, typer.Option(help="What `laptime fit RUN` wrote of that sweep.")],
    features: Annotated[Path, typer.Option(help="What `laptime control features RUN` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the policy and its bounds.")],
    answers: Annotated[Path | None, typer.Option(help="What `laptime control ask RUN` wrote, to learn from.")] = None,
    kind: Annotated[Kind, typer.Option("--policy", help="grpo, supervised, static or lookup.")] = "grpo",
    sees: Annotated[
        str, typer.Option(help="What it looks at besides the budget: language,pixels,hidden; none; or all.")
    ] = "all",
    budgets: Annotated[str | None, typer.Option(help="LOW:HIGH ms to train on. Default: where choices differ.")] = None,
    confidence: Annotated[str, typer.Option(help="Share of answers that must be in time: 0.95 or 95%.")] = "0.95",
    promise: Annotated[
        Promise, typer.Option(help="overall: that share of all answers; each: of every question's by itself.")
    ] = "overall",
    steps: Annotated[int | None, typer.Option(help="Steps of training.", min=1)] = None,
    name: Annotated[str | None, typer.Option(help="What tables call it. Default: its kind.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed and sweep give the same policy.")] = 0,
    keep: Annotated[str, typer.Option(help="Flags whose samples are used all the same: foreign-process.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The training curve as JSON on stdout.")] = False,
) -> int:
    """Train a policy on the training half of a sweep's questions.

    Example: laptime control train runs/glyphs --estimator est --features runs/glyphs-features --out policy

    Exit codes: 0 done, 2 usage, unreadable input or a sweep that can't be learnt from.
    """
    from laptime.cli.compare import parse_share
    from laptime.cli.control_sweep import scored_sweep, with_answers
    from laptime.control.bounds.bounds import write_bounds
    from laptime.control.bounds.calibrated_bounds import make_bounds
    from laptime.control.tables.feature_table import read_features
    from laptime.control.policies.saved_policy import write_policy
    from laptime.data.run_folder import readable_json
    from laptime.estimate.total import load_predictor

    share = parse_share("--confidence", confidence)
    wanted, limits = _needs(sees), _budgets(budgets)
    collected = read_features(features)
    sweep = scored_sweep(run, collected.model, keep)
    half, mine = with_answers(sweep.table.half("train"), collected, answers)
    bounds = make_bounds(load_predictor(estimator, None), half, mine.language, confidence=share)
    from laptime.control.training.kinds import train_kind

    saved: SavedPolicy = train_kind(
        kind,
        half,
        mine,
        bounds,
        needs=wanted,
        budgets=limits,
        steps=steps,
        name=name or kind,
        promise=promise,
        seed=seed,
    )
    write_policy(saved, out)
    write_bounds(bounds, out)
    if as_json:
        sys.stdout.write(readable_json(saved.curve).decode() if saved.curve else "null\n")
    else:
        trained = ""
        if saved.curve is not None:
            rate = saved.curve.decisions / max(saved.curve.seconds, 1e-9) * 60
            trained = f", {saved.curve.decisions:,} decisions in {saved.curve.seconds:.1f} s ({rate:,.0f} a minute)"
        typer.echo(f"{out}: {saved.policy.name} of {len(half)} questions, {len(half.space)} choices{trained}")
        typer.echo(f"{100 * share:g} % in time are promised {_promised(saved, promise)}", err=True)
    return 0


def _promised(saved: SavedPolicy, promise: Promise) -> str:
    if saved.leeway is None:
        few = promise == "overall" and saved.curve is not None  # a policy that learns
        return "for each question by itself" + (": too few were timed to prove more over all" if few else "")
    times = saved.leeway.times
    return f"over all questions: a choice may be late up to {max(times):.3g} times as often, by budget"


def _needs(sees: str) -> Needs | None:
    """What --sees names; None is all that was collected."""
    from laptime.cli.options import names
    from laptime.control.policies.policy import Needs

    words = names(sees)
    if words == ["all"]:
        return None
    if words == ["none"]:
        return Needs()
    if not words or any(word not in SEEN for word in words):
        raise LaptimeError(f"--sees {sees}: {', '.join(SEEN)} with commas between, none, or all")
    return Needs(**dict.fromkeys(words, True))


def _budgets(words: str | None) -> tuple[float, float] | None:
    from laptime.cli.options import milliseconds

    if words is None:
        return None
    low, colon, high = words.partition(":")
    if not colon:
        raise LaptimeError(f"--budgets {words}: LOW:HIGH in ms, such as 20:80")
    ends = (milliseconds("--budgets", low), milliseconds("--budgets", high))
    if not ends[0] < ends[1]:
        raise LaptimeError(f"--budgets {words}: the lower one first, such as 20:80")
    return ends
