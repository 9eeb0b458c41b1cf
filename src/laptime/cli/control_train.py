"""`laptime control train RUN`: a policy from a sweep's table, with the bounds that it has to keep."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from laptime.cli import options
from laptime.cli.control_features import Sweep
from laptime.cli.declared import option
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_folder, whole_folder
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.control.policies.policy import Needs
    from laptime.control.policies.saved_policy import SavedPolicy
    from laptime.control.training.early_search import EarlySearch
    from laptime.data.record import Scalar

SEEN = ("language", "pixels", "hidden")


class PolicyKind(str, Enum):
    """Policies that can be trained."""

    grpo = "grpo"
    supervised = "supervised"
    logistic = "logistic"
    static = "static"
    lookup = "lookup"


class PromiseScope(str, Enum):
    """What the promised share is a share of."""

    overall = "overall"
    each = "each"


Features = Annotated[
    Path,
    option("--features", metavar="FOLDER", help="What control features wrote.", rich_help_panel=options.INPUT),
]
SeveralFeatures = Annotated[
    list[Path],
    option(
        "--features", metavar="FOLDER",
        help="What control features wrote. Several, each with another --early-block: the best block is searched.",
        rich_help_panel=options.INPUT,
    ),
]  # fmt: skip
Answers = Annotated[
    Path | None,
    option(
        "--answers", metavar="FOLDER", help="What control ask wrote: further questions to learn from.",
        rich_help_panel=options.INPUT,
    ),
]  # fmt: skip


def train(
    run: Sweep,
    estimator: Annotated[
        Path,
        option(
            "--estimator", metavar="FOLDER", help="What laptime fit wrote of this sweep.", rich_help_panel=options.INPUT
        ),
    ],
    features: SeveralFeatures,
    out: options.OutFolder,
    force: options.Force = False,
    answers: Answers = None,
    keep: options.Keep = "",
    kind: Annotated[
        PolicyKind, option("--policy", help="Which policy.", rich_help_panel=options.LEARNING)
    ] = PolicyKind.grpo,
    sees: Annotated[
        str,
        option(
            "--sees",
            metavar="NAME,...",
            help="What it looks at besides the budget: language,pixels,hidden; none; or all.",
            rich_help_panel=options.LEARNING,
        ),
    ] = "all",
    budget_range: Annotated[
        str | None,
        option(
            "--budget-range",
            metavar="LOW:HIGH",
            help="Budgets in ms to train on. Without it: all where choices differ.",
            rich_help_panel=options.LEARNING,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        option("--steps", metavar="N", min=1, help="Steps of training.", rich_help_panel=options.LEARNING),
    ] = None,
    name: Annotated[
        str | None,
        option(
            "--name",
            metavar="NAME",
            help="What tables call it. Without it: its kind.",
            rich_help_panel=options.LEARNING,
        ),
    ] = None,
    seed: options.Seed = 0,
    confidence: options.Confidence = "0.95",
    promise: Annotated[
        PromiseScope,
        option(
            "--promise",
            help="overall: that share of all answers is in time; each: every question keeps it by itself.",
            rich_help_panel=options.QUESTION,
        ),
    ] = PromiseScope.overall,
    as_json: options.Json = False,
) -> int:
    """Train a policy on the training half of a sweep's questions.

    Example: laptime control train runs/glyphs --estimator est --features runs/glyphs-features --out policy

    Exit codes: 0 done, 2 usage, unreadable input or a sweep that can't be learned from.
    """
    share = options.confidence_share(confidence)
    if len(features) > 1 and answers is not None:
        raise LaptimeError(
            "--answers holds the features of one early block: search with several --features first, then train with "
            "the --features and --answers of the block that was chosen"
        )
    needs, budgets = _needs(sees), _budget_range(budget_range)
    from laptime.cli.control_sweep import scored_sweep, with_answers
    from laptime.control.bounds.calibrated_bounds import make_bounds
    from laptime.control.policies.saved_policy import MARKS, write_policy
    from laptime.control.tables.feature_table import read_features
    from laptime.estimate.total import load_predictor

    check_new_folder(out, MARKS, force=force)
    tables = [read_features(folder) for folder in features]
    collected = tables[0]
    sweep = scored_sweep(run, collected.model, keep)
    half, seen = with_answers(sweep.table.half("train"), collected, answers)
    bounds = make_bounds(load_predictor(estimator, None), half, seen.language, confidence=share)
    from laptime.control.training.kinds import PolicySpec, train_policy

    tried: dict[str, Scalar] = {}
    if len(tables) > 1:
        from laptime.control.training.early_search import search_early_block

        found = search_early_block(half, tables, bounds, seed=seed)
        seen = next(one for one in tables if one.early_block == found.chosen).of(half.sample_ids, half.space)
        tried = {f"early_block_{one.early_block}": one.score for one in found.scores}
        say(_searched(found), err=True)
    spec = PolicySpec(
        kind=kind.value,
        needs=needs,
        budgets=budgets,
        steps=steps,
        name=name,
        overall=promise is PromiseScope.overall,
        seed=seed,
    )
    saved = train_policy(half, seen, bounds, spec)
    saved = msgspec.structs.replace(saved, settings=saved.settings | tried)
    with whole_folder(out, MARKS, force=force) as folder:
        write_policy(saved, bounds, folder)
    if as_json:
        print_json(saved.curve)
        return 0
    from laptime.control.judge.lineup import what_it_kept
    from laptime.report.kit.numbers import plain_percent

    say(f"{out}: {saved.policy.name} of {len(half)} questions, {len(half.space)} choices{_trained(saved)}")
    if (kept := what_it_kept(saved.policy)) is not None:
        say(kept, err=True)
    say(f"{plain_percent(share)} in time are promised {_promised(saved, promise)}", err=True)
    return 0


def _searched(found: EarlySearch) -> str:
    """Which early block is taken, and what the others scored."""
    from laptime.report.kit.numbers import percent

    scores = ", ".join(f"block {one.early_block} {percent(one.score)}" for one in found.scores)
    return (
        f"the late choice is taken after block {found.chosen}, the earliest that isn't surely worse: right and in time "
        f"{scores} ({found.questions} questions, a supervised policy)"
    )


def _trained(saved: SavedPolicy) -> str:
    """How fast it learned; nothing for a policy that doesn't learn, or not by decisions."""
    from laptime.report.kit.numbers import count, duration, number

    if saved.curve is None or not saved.curve.decisions:
        return ""
    rate = saved.curve.decisions / max(saved.curve.seconds, 1e-9) * 60
    return f", {count(saved.curve.decisions)} decisions in {duration(saved.curve.seconds)} ({number(rate)} a minute)"


def _promised(saved: SavedPolicy, promise: PromiseScope) -> str:
    from laptime.report.kit.numbers import number

    if saved.leeway is None:
        few = promise is PromiseScope.overall and saved.curve is not None  # a policy that learns
        return "for each question by itself" + (": too few were timed to prove more over all" if few else "")
    most = number(max(saved.leeway.times))
    return f"over all questions: a choice may be late up to {most} times as often, by budget"


def _needs(sees: str) -> Needs | None:
    """What --sees names. None is all that was collected."""
    from laptime.control.policies.policy import Needs

    words = options.names(sees)
    if words == ["all"]:
        return None
    if words == ["none"]:
        return Needs()
    if not words or any(word not in SEEN for word in words):
        raise LaptimeError(f"--sees {sees}: write {', '.join(SEEN)} with commas between, or none, or all")
    return Needs(**dict.fromkeys(words, True))


def _budget_range(words: str | None) -> tuple[float, float] | None:
    if words is None:
        return None
    low, colon, high = words.partition(":")
    if not colon:
        raise LaptimeError(f"--budget-range {words}: write LOW:HIGH in ms, such as 20:80")
    ends = (options.milliseconds("--budget-range", low), options.milliseconds("--budget-range", high))
    if not ends[0] < ends[1]:
        raise LaptimeError(f"--budget-range {words}: write the lower one first, such as 20:80")
    return ends
