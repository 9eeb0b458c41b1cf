"""What the verbs of `laptime control` read from a sweep's folder: its questions, its model, its decision table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.control.choices import ModelFacts
    from laptime.control.tables.decision_table import DecisionTable
    from laptime.control.tables.feature_table import FeatureTable
    from laptime.models.loading import Loaded
    from laptime.sweeps.config import SweepConfig
    from laptime.workload.example import Example


class ScoredSweep(NamedTuple):
    """A sweep of scored questions."""

    config: SweepConfig
    table: DecisionTable


def scored_sweep(run: Path, facts: ModelFacts | None = None, keep: str = "") -> ScoredSweep:
    """Read a sweep's folder. keep: flags whose samples are used all the same.

    Raises LaptimeError when it is not a sweep's folder, or its questions were not scored.
    """
    from laptime.control.tables.decision_table import decision_table
    from laptime.estimate.table.reading import kept_flags, read_table
    from laptime.sweeps.plan import read_plan

    kept = kept_flags(keep)
    frame = read_table(run, kept)
    plan = read_plan(run)
    if plan is None:
        raise LaptimeError(f"{run}: is not a sweep's folder (no plan.json there); laptime sweep CONFIG.yaml makes one")
    try:
        return ScoredSweep(plan.sweep_config, decision_table(frame, facts, kept))
    except LaptimeError as error:
        raise LaptimeError(f"{run}: {error}") from error


def questions_of(sweep: ScoredSweep, wanted: tuple[str, ...]) -> list[Example]:
    """The sweep's questions of these ids, in this order. Raises LaptimeError for one that its data doesn't hold."""
    from laptime.workload.reading import read_examples

    workload = sweep.config.workload
    if workload.data is None:
        raise LaptimeError(
            "this sweep asked no questions (workload.data is not set): there is nothing to be right about"
        )
    by_id = {
        one.id: one for one in read_examples(workload.data, annotations=workload.annotations, images=workload.images)
    }
    if missing := [name for name in wanted if name not in by_id]:
        raise LaptimeError(
            f"{workload.data}: question {missing[0]} of the sweep is not in it; use the file it was run on"
        )
    return [by_id[name] for name in wanted]


def model_of(sweep: ScoredSweep, model: str | None, dtype: str, device: str) -> Loaded:
    """The sweep's model as it was measured. model: if it is in another place now. dtype: auto is the sweep's."""
    from laptime.models.loading import load_model

    config = sweep.config
    return load_model(
        model or config.model,
        dtype=config.knobs.dtype[0] if dtype == "auto" else dtype,
        device=device,
        trust_remote_code=config.trust_remote_code,
        seed=config.seed,
    )


def with_answers(
    timed: DecisionTable, features: FeatureTable, answers: Path | None
) -> tuple[DecisionTable, FeatureTable]:
    """A sweep's training half and its features, continued by what `laptime control ask` wrote, if there is any."""
    from laptime.control.tables.answers import joined, joined_features, read_answers
    from laptime.control.tables.feature_table import read_features

    aligned = features.of(timed.sample_ids, timed.space)
    if answers is None:
        return timed, aligned
    return joined(timed, read_answers(answers)), joined_features(aligned, read_features(answers))


def score_kind(sweep: ScoredSweep) -> str:
    """How the sweep's answers were scored."""
    kind = sweep.config.workload.score
    if kind is None:
        raise LaptimeError("this sweep's answers were not scored; set workload.score")
    return str(kind)
