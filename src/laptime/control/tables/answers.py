"""Further questions under every choice, in batches and untimed: what is right doesn't depend on the clock.

A sweep times each question under each choice by itself, and few can be had so. Policies learn more from how many
questions were answered than from how often they were timed; the bounds stay the sweep's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.tables.decision_table import DecisionTable, ModelFacts, question_type
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.hidden import EqualBatch, collect_features, equal_batches, facts_of
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded
from laptime.workload.datasets import answer_text
from laptime.workload.example import Example
from laptime.workload.inputs import generation_arguments
from laptime.workload.scoring import check_scorable, score

Progress = Callable[[int, int], None]


def collect_answers(
    loaded: Loaded,
    examples: Sequence[Example],
    space: ChoiceSpace,
    *,
    kind: str,
    new_tokens: int,
    batch: int = 64,
    early_block: int = 1,
    progress: Progress = lambda done, of: None,
) -> tuple[DecisionTable, FeatureTable]:
    """Scores and lengths of every question under every choice, times unknown (NaN), and the questions' features.

    kind: the score, as laptime.workload.scoring names it. new_tokens: at most so many. batch: questions of equal input
    shapes a call. Raises LaptimeError for questions that can't be scored or taken.
    """
    if batch < 1 or new_tokens < 1:
        raise LaptimeError(f"batches of {batch} questions, {new_tokens} new tokens: 1 or more of each")
    check_scorable(kind, examples)
    shape = (len(examples), len(space))
    scores = np.zeros(shape, dtype=np.float32)
    counts = {name: np.zeros(shape, dtype=np.int32) for name in ("output", "prompt", "image", "crops")}
    crops = [None if tier is None else (tier.low, tier.high) for tier in space.tiers or (None,)]
    switch = KnobSwitch(loaded.model, crops=[one for one in crops if one], top_ks=space.top_ks, blocks=space.blocks)
    timer = StageTimer(loaded.model)
    arguments = generation_arguments(new_tokens=new_tokens, cache=None, compile=False)

    def answer(some: EqualBatch, choice: int) -> None:
        knobs = space.choice(choice)
        with switch.fixed(LateKnobs(knobs.top_k, knobs.blocks)), timer:
            timer.model.generate(**some.kwargs, **arguments)
        for row, ids in zip(some.rows, timer.samples.pop().output_ids, strict=True):
            scores[row, choice] = score(kind, answer_text(loaded, ids), examples[row])
            counts["output"][row, choice] = len(ids)
        counts["prompt"][some.rows, choice] = some.one.prompt_tokens
        counts["image"][some.rows, choice] = some.one.image_tokens
        counts["crops"][some.rows, choice] = some.one.crops

    for tier, cut in enumerate(crops):
        done = 0
        with switch.crops(cut):
            for some in equal_batches(loaded, examples, cut, batch, new_tokens):
                for late in range(space.late):
                    answer(some, tier * space.late + late)
                done += len(some.rows)
                progress(tier * len(examples) + done, len(crops) * len(examples))
    ids = tuple(example.id for example in examples)
    table = DecisionTable(
        space=space,
        model=facts_of(loaded),
        sample_ids=ids,
        question_types=tuple(map(question_type, ids)),
        score=scores,
        output_tokens=counts["output"],
        total_ms=np.full(shape, np.nan),
        prompt_tokens=counts["prompt"],
        image_tokens=counts["image"],
        crops=counts["crops"],
        most_tokens=max(new_tokens, int(counts["output"].max())),
    )
    return table, collect_features(loaded, examples, space, early_block=early_block, batch=batch)


SCHEMA = "laptime.answers/1"
COUNTS = ("output_tokens", "prompt_tokens", "image_tokens", "crops")
TABLES = ("score", "total_ms", *COUNTS)


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    space: ChoiceSpace
    model: ModelFacts
    sample_ids: tuple[str, ...]
    question_types: tuple[str, ...]
    most_tokens: int


def write_answers(table: DecisionTable, folder: str | Path) -> None:
    """Write answers.json and answers.safetensors; times are not written."""
    told = _Told(**{name: getattr(table, name) for name in _Told.__struct_fields__})
    arrays = {name: getattr(table, name) for name in ("score", *COUNTS)}
    write_value(Path(folder), "answers", SCHEMA, told, arrays)


def read_answers(folder: str | Path) -> DecisionTable:
    """Read what `write_answers` wrote, times NaN. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    told, arrays = read_value(place, "answers", SCHEMA, _Told, "a table of answers")
    n, file = len(told.sample_ids), place / "answers.safetensors"
    shape = (n, len(told.space))
    if len(set(told.sample_ids)) != n or len(told.question_types) != n or n == 0:
        raise LaptimeError(f"{place / 'answers.json'}: questions without a name or type of their own; ask them anew")
    score = take_array(arrays, "score", shape, file).astype(np.float32)
    counts = {name: take_array(arrays, name, shape, file).astype(np.int32) for name in COUNTS}
    if counts["output_tokens"].min() < 1 or counts["output_tokens"].max() > told.most_tokens:
        raise LaptimeError(f"{file}: answers of no tokens, or longer than told; ask the questions anew")
    if score.min() < 0 or score.max() > 1:
        raise LaptimeError(f"{file}: scores outside 0 to 1; ask the questions anew")
    return DecisionTable(
        space=told.space,
        model=told.model,
        sample_ids=told.sample_ids,
        question_types=told.question_types,
        score=score,
        output_tokens=counts["output_tokens"],
        total_ms=np.full(shape, np.nan),
        prompt_tokens=counts["prompt_tokens"],
        image_tokens=counts["image_tokens"],
        crops=counts["crops"],
        most_tokens=told.most_tokens,
    )


def joined(timed: DecisionTable, further: DecisionTable) -> DecisionTable:
    """A table with further questions below; of their choices those of `timed`'s space are taken.

    Raises LaptimeError when they lack one, are another model's, or share a question with `timed`.
    """
    if different := timed.model.differences(further.model):
        raise LaptimeError(f"the further answers are another model's ({', '.join(different)}); ask this one")
    _refuse_common(timed.sample_ids, further.sample_ids)
    try:
        columns = [further.space.number(timed.space.choice(number)) for number in range(len(timed.space))]
    except LaptimeError as error:
        raise LaptimeError(f"the further answers lack a choice of the sweep's: {error}") from error
    arrays = {name: np.concatenate([getattr(timed, name), getattr(further, name)[:, columns]]) for name in TABLES}
    return msgspec.structs.replace(
        timed,
        sample_ids=timed.sample_ids + further.sample_ids,
        question_types=timed.question_types + further.question_types,
        most_tokens=max(timed.most_tokens, further.most_tokens),
        **arrays,
    )


def joined_features(mine: FeatureTable, further: FeatureTable) -> FeatureTable:
    """Features with further questions' below; of their tiers those of `mine` are taken.

    Raises LaptimeError when they were collected after another block, or lack a tier or a part.
    """
    _refuse_common(mine.sample_ids, further.sample_ids)
    if mine.early_block != further.early_block:
        raise LaptimeError(
            f"features after block {mine.early_block} and after block {further.early_block}: collect both alike"
        )
    if missing := [tier.name for tier in mine.tiers if tier not in further.tiers]:
        raise LaptimeError(f"the further answers' features lack tier {missing[0]}; ask under the sweep's choices")
    tiers = [further.tiers.index(tier) for tier in mine.tiers] or [0]
    parts = {"language": further.language, "pixels": further.pixels, "hidden": further.hidden[:, tiers]}
    for name, array in parts.items():
        if array.shape[1:] != getattr(mine, name).shape[1:]:
            raise LaptimeError(f"the further answers' {name} features are of another width; collect both alike")
    return msgspec.structs.replace(
        mine,
        sample_ids=mine.sample_ids + further.sample_ids,
        **{name: np.concatenate([getattr(mine, name), array]) for name, array in parts.items()},
    )


def _refuse_common(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    if common := sorted(set(first) & set(second)):
        raise LaptimeError(
            f"question {common[0]} is among the sweep's and among the further answers ({len(common)} are): "
            "ask others, under ids of their own"
        )
