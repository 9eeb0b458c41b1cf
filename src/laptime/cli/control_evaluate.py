"""`laptime control evaluate RUN POLICY...`: policies against each other and the oracle, measured or replayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from laptime.cli import options
from laptime.cli.control_features import SweepDtype, SweepModel
from laptime.cli.control_train import Answers, Features
from laptime.cli.declared import argument, option
from laptime.cli.output import give, say
from laptime.data.files import check_new_file
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.cli.control_sweep import ScoredSweep
    from laptime.control.bounds.bounds import Bounds
    from laptime.control.judge.result import ControlEvaluation, SlowDown
    from laptime.control.policies.saved_policy import SavedPolicy
    from laptime.control.tables.decision_table import DecisionTable
    from laptime.control.tables.feature_table import FeatureTable
    from laptime.models.loading import Loaded


class Judgement(NamedTuple):
    """What is judged: policies and their bounds, their sweep and its features, and what peers know."""

    saved: list[SavedPolicy]
    bounds: Bounds
    sweep: ScoredSweep
    features: FeatureTable
    known: DecisionTable
    known_features: FeatureTable
    held_out: DecisionTable
    budgets: list[float]


def evaluate(
    run: Annotated[Path, argument(metavar="RUN", help="The sweep's folder that the policies were trained on.")],
    policies: Annotated[
        list[Path],
        argument(metavar="POLICY", help="What laptime control train wrote; the first is the one in question."),
    ],
    features: Features,
    answers: Answers = None,
    keep: options.Keep = "",
    budgets: Annotated[
        str,
        option(
            "--budgets",
            metavar="MS,...",
            help="Budgets: 20,30,40. Without it: five, spread over where choosing can gain.",
            rich_help_panel=options.QUESTION,
        ),
    ] = "",
    questions: Annotated[
        int | None,
        option(
            "--questions",
            metavar="N",
            min=1,
            help="Ask N held-out questions instead of all.",
            rich_help_panel=options.QUESTION,
        ),
    ] = None,
    replay: Annotated[
        bool,
        option(
            "--replay",
            help="Look answers and times up; measure nothing.",
            rich_help_panel=options.MEASURING,
        ),
    ] = False,
    online: options.Online = True,
    time_limit: Annotated[
        float | None,
        option(
            "--time-limit",
            metavar="SECONDS",
            min=1,
            help="Ask no further question after this time.",
            rich_help_panel=options.MEASURING,
        ),
    ] = None,
    slow_down: Annotated[
        float | None,
        option(
            "--slow-down",
            metavar="FACTOR",
            help="Also replay a stream on a machine that becomes slower by this factor.",
            rich_help_panel=options.MEASURING,
        ),
    ] = None,
    model: SweepModel = None,
    dtype: SweepDtype = options.Dtype.auto,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    html: options.Html = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> int:
    """Say how often each policy is right and in time, beside a fixed setting, a lookup table and the oracle.

    Example: laptime control evaluate runs/glyphs policy --features runs/glyphs-features --html control.html

    Exit codes: 0 done, 1 the first policy misses a budget that its bounds say can be kept, 2 usage or unreadable input,
    130 stopped: what all answered is judged.
    """
    check_new_file(html, "--html", force=force)
    limits = [options.milliseconds("--budgets", word) for word in options.names(budgets)]
    import msgspec

    judgement = _read(run, policies, features, answers, keep, limits)
    if replay:
        evaluation = _replayed(judgement)
    else:
        from laptime.errors import require_torch

        require_torch()
        from laptime.cli.control_sweep import model_of

        loaded = model_of(judgement.sweep, model, dtype.value, device)
        evaluation = _measured(judgement, loaded, questions, time_limit, online=online, seed=seed)
    slow = [] if slow_down is None else _slow(judgement, slow_down)
    curves = [one.curve for one in judgement.saved if one.curve is not None]
    evaluation = msgspec.structs.replace(evaluation, training=curves, slow_downs=slow)
    give(evaluation, as_json=as_json, html=html, force=force)
    if any(one.code == "interrupted" for one in evaluation.findings):
        return 130
    return 0 if _kept(evaluation, judgement.saved[0].policy.name) else 1


def _read(
    run: Path, policies: list[Path], features: Path, answers: Path | None, keep: str, budgets: list[float]
) -> Judgement:
    """What is judged. Raises LaptimeError for policies of different bounds, or of bounds measured on FastModel."""
    from laptime.cli.control_sweep import scored_sweep, with_answers
    from laptime.control.bounds.bounds import same_bounds
    from laptime.control.judge.replay import spread_budgets
    from laptime.control.policies.saved_policy import read_policy
    from laptime.control.policies.static import static_policy
    from laptime.control.tables.feature_table import read_features

    pairs = [read_policy(folder) for folder in policies]
    bounds = pairs[0][1]
    for folder, (_, others) in zip(policies, pairs, strict=True):
        if not same_bounds(bounds, others):
            raise LaptimeError(f"{folder}: has other bounds than {policies[0]}; judge each by itself")
    if bounds.fast:
        raise LaptimeError(
            f"{policies[0]}: its bounds are of FastModel, and the sweep's times are not, so its peers would be late or "
            "waste time; judge the policy that `control train` wrote"
        )
    collected = read_features(features)
    sweep = scored_sweep(run, collected.model, keep)
    held_out = sweep.table.half("held-out")
    known, known_features = with_answers(sweep.table.half("train"), collected, answers)
    if not budgets:
        language = collected.of(held_out.sample_ids, held_out.space).language
        budgets = spread_budgets(held_out, bounds, language, static_policy(known, bounds))
    return Judgement([saved for saved, _ in pairs], bounds, sweep, collected, known, known_features, held_out, budgets)


def _replayed(judgement: Judgement) -> ControlEvaluation:
    from laptime.control.judge.lineup import EvaluationScope, Training, leeways_of, lineup, replayed_evaluation

    saved, bounds, held_out = judgement.saved, judgement.bounds, judgement.held_out
    training = Training(judgement.known, judgement.known_features.language)
    everyone = lineup([one.policy for one in saved], training, held_out, bounds)
    comparison = EvaluationScope(
        budgets_ms=judgement.budgets, compared=[saved[0].policy.name], leeways=leeways_of(saved)
    )
    return replayed_evaluation(everyone, held_out, judgement.features, bounds, comparison)


def _measured(
    judgement: Judgement, loaded: Loaded, questions: int | None, limit_s: float | None, *, online: bool, seed: int
) -> ControlEvaluation:
    from laptime.cli.control_sweep import questions_of, score_kind
    from laptime.cli.progress import progress
    from laptime.control.judge.contest import Examination, JudgedSweep, measured_evaluation
    from laptime.workload.example import pick

    sweep, names = judgement.sweep, judgement.held_out.sample_ids
    examination = Examination(
        examples=questions_of(sweep, tuple(pick(names, names, questions, seed))),
        budgets_ms=judgement.budgets,
        kind=score_kind(sweep),
        online=online,
        seed=seed,
        limit_s=limit_s,
    )
    say(_announcement(judgement, len(examination.examples), limit_s), err=True)
    judged = JudgedSweep(
        table=sweep.table,
        features=judgement.features,
        bounds=judgement.bounds,
        known=judgement.known,
        known_language=judgement.known_features.language,
    )
    with progress() as report:
        evaluation, _ = measured_evaluation(
            loaded, judgement.saved, judged, examination, lambda done, of: report("questions", done, of)
        )
    return evaluation


def _announcement(judgement: Judgement, questions: int, limit_s: float | None) -> str:
    """How many calls follow, and how long they take if a call takes what it took in the sweep."""
    import numpy as np

    from laptime.control.judge.lineup import peers_of
    from laptime.control.judge.live import planned_calls
    from laptime.report.kit.numbers import count, duration

    held_out = judgement.held_out
    before, counted = planned_calls(
        len(judgement.saved) + peers_of(held_out.space), questions, len(judgement.budgets), len(held_out.space)
    )
    seconds = (before + counted) * float(np.median(held_out.total_ms)) / 1e3
    line = f"{count(before + counted)} calls, {count(before)} of them to warm up: about {duration(seconds)}"
    if limit_s is not None and seconds > limit_s:
        return f"{line}; no question begins after {duration(limit_s)} (--time-limit)"
    return line if limit_s is not None else f"{line}; --questions and --time-limit make it shorter"


def _slow(judgement: Judgement, factor: float) -> list[SlowDown]:
    """The held-out half as a stream, at the middle budget, with and without online correction."""
    from laptime.control.judge.slow_stream import StreamSettings, slow_down, slow_stream

    saved, bounds, held_out = judgement.saved[0], judgement.bounds, judgement.held_out
    aligned = judgement.features.of(held_out.sample_ids, held_out.space)
    budget = sorted(judgement.budgets)[len(judgement.budgets) // 2] * factor
    streams = []
    for online in (False, True):
        settings = StreamSettings(budget_ms=budget, factor=factor, online=online, leeway=saved.leeway)
        streams.append(
            slow_down(
                slow_stream(saved.policy, held_out, aligned, bounds, settings),
                at=settings.at,
                settling=settings.settling,
                factor=factor,
                how=f"measured times multiplied by {factor:g}",
                online=online,
            )
        )
    return streams


def _kept(evaluation: ControlEvaluation, policy: str) -> bool:
    """Whether the policy kept every budget that some choice was known to keep, as far as the answers can tell."""
    miss = 1 - evaluation.confidence
    feasible = [one for one in evaluation.points if one.policy == policy and one.unfit < miss * one.questions]
    return all(one.attainment.high is None or one.attainment.high >= evaluation.confidence for one in feasible)
