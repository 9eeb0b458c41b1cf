"""`laptime control evaluate RUN POLICY…`: policies against each other and the oracle, measured or replayed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from laptime.cli.control_sweep import ScoredSweep
    from laptime.control.bounds.bounds import Bounds
    from laptime.control.judge.result import ControlEvaluation, SlowDown
    from laptime.control.tables.decision_table import DecisionTable
    from laptime.control.tables.feature_table import FeatureTable
    from laptime.control.policies.saved_policy import SavedPolicy


def evaluate(
    run: Annotated[Path, typer.Argument(help="The sweep's folder that the policies were trained on.")],
    policies: Annotated[
        list[Path], typer.Argument(help="What `laptime control train` wrote, the one in question first.")
    ],
    features: Annotated[Path, typer.Option(help="What `laptime control features RUN` wrote.")],
    answers: Annotated[
        Path | None, typer.Option(help="What `laptime control ask RUN` wrote, for the peers to know too.")
    ] = None,
    budgets: Annotated[
        str, typer.Option(help="In ms: 20,30,40. Default: five, spread over where choosing can gain.")
    ] = "",
    questions: Annotated[int | None, typer.Option(help="Held-out questions to ask. Default: all.", min=1)] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Look answers and times up in the sweep instead of measuring.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online/--as-calibrated", help="Whether measured calls correct the bounds of later ones.")
    ] = True,
    slow_down: Annotated[
        float | None, typer.Option(help="Also replay a stream in which the machine becomes so many times slower.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The sweep's model, where it lies elsewhere now.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the questions that are asked, and the order of calls.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    keep: Annotated[str, typer.Option(help="Flags whose samples are used all the same: foreign-process.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON (laptime.control/1) on stdout.")] = False,
) -> int:
    """How often is each policy right, and in time? Beside them a fixed setting, a lookup table and the oracle.

    Example: laptime control evaluate runs/glyphs policy --features runs/glyphs-features --html control.html

    Exit codes: 0 done, 1 the first policy misses a budget that its bounds say can be kept, 2 usage or unreadable input.
    """
    import msgspec

    from laptime.cli.control_sweep import scored_sweep, with_answers
    from laptime.control.bounds.bounds import read_bounds
    from laptime.control.judge.replay import spread_budgets
    from laptime.control.policies.static import static_policy
    from laptime.control.tables.feature_table import read_features
    from laptime.control.policies.saved_policy import read_policy
    from laptime.data.run_folder import readable_json
    from laptime.workload.example import pick

    saved = [read_policy(folder) for folder in policies]
    bounds = read_bounds(policies[0])
    collected = read_features(features)
    sweep = scored_sweep(run, collected.model, keep)
    held_out = sweep.table.half("held-out")
    mine = collected.of(held_out.sample_ids, held_out.space)
    known, _ = with_answers(sweep.table.half("train"), collected, answers)
    wanted = _budgets(budgets) or spread_budgets(held_out, bounds, mine.language, static_policy(known, bounds))
    if replay:
        found = _replayed(saved, known, held_out, collected, bounds, wanted)
    else:
        asked = tuple(pick(held_out.sample_ids, held_out.sample_ids, questions, seed))
        found = _measured(
            saved,
            sweep,
            known,
            asked,
            collected,
            bounds,
            wanted,
            model=model,
            dtype=dtype,
            device=device,
            online=online,
            seed=seed,
        )
    slow = [] if slow_down is None else _slow(saved[0], sweep.table, collected, bounds, wanted, slow_down)
    curves = [one.curve for one in saved if one.curve is not None]
    found = msgspec.structs.replace(found, training=curves, slow_downs=slow)
    if html is not None:
        from laptime.cli.output import write_page
        from laptime.report.control.page import control_page

        write_page(html, control_page(found), force=True)
    if as_json:
        sys.stdout.write(readable_json(found).decode())
    else:
        from rich.console import Console

        from laptime.report.control.terminal import control_report

        Console().print(control_report(found))
    return 0 if _kept(found, saved[0].policy.name) else 1


def _replayed(
    saved: list[SavedPolicy],
    known: DecisionTable,
    held_out: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    budgets: list[float],
) -> ControlEvaluation:
    from laptime.control.judge.contest import leeways_of, lineup
    from laptime.control.judge.replay import replayed_evaluation

    everyone = lineup([one.policy for one in saved], known, held_out, bounds)
    return replayed_evaluation(
        everyone,
        held_out,
        features,
        bounds,
        budgets,
        compared=[saved[0].policy.name],
        leeways=leeways_of(saved),
        level=bounds.confidence,
    )


def _measured(
    saved: list[SavedPolicy],
    sweep: ScoredSweep,
    known: DecisionTable,
    asked: tuple[str, ...],
    features: FeatureTable,
    bounds: Bounds,
    budgets: list[float],
    *,
    model: str | None,
    dtype: str,
    device: str,
    online: bool,
    seed: int,
) -> ControlEvaluation:
    from laptime.cli.control_sweep import model_of, questions_of, score_kind
    from laptime.cli.progress import progress
    from laptime.errors import require_torch

    require_torch()
    from laptime.control.judge.contest import measured_evaluation

    examples, loaded = questions_of(sweep, asked), model_of(sweep, model, dtype, device)
    with progress() as report:
        found, _ = measured_evaluation(
            loaded,
            saved,
            bounds,
            sweep.table,
            features,
            examples,
            budgets,
            kind=score_kind(sweep),
            known=known,
            online=online,
            seed=seed,
            progress=lambda done, of: report("questions", done, of),
        )
    return found


def _slow(
    saved: SavedPolicy,
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    budgets: list[float],
    factor: float,
) -> list[SlowDown]:
    """The held-out half as a stream, at the middle budget, with and without online correction."""
    from laptime.control.judge.slow_stream import StreamSettings, online_baseline, slow_down, slow_stream

    train, held_out = table.half("train"), table.half("held-out")
    settings = StreamSettings(factor=factor)
    baseline = online_baseline(train, bounds, features.of(train.sample_ids, train.space).language)
    mine = features.of(held_out.sample_ids, held_out.space)
    budget = sorted(budgets)[len(budgets) // 2] * factor
    return [
        slow_down(
            slow_stream(
                saved.policy, held_out, mine, bounds, budget, baseline, settings, online=online, leeway=saved.leeway
            ),
            at=settings.at,
            settling=settings.settling,
            factor=factor,
            how=f"measured times multiplied by {factor:g}",
            online=online,
        )
        for online in (False, True)
    ]


def _budgets(words: str) -> list[float]:
    from laptime.cli.options import milliseconds, names

    return [milliseconds("--budgets", word) for word in names(words)]


def _kept(found: ControlEvaluation, policy: str) -> bool:
    """Whether the policy kept every budget that some choice was known to keep, as far as the answers can tell."""
    mine = [one for one in found.points if one.policy == policy and one.unfit < (1 - found.confidence) * one.questions]
    return all(one.attainment.high is None or one.attainment.high >= found.confidence for one in mine)
