"""Further questions under every choice, scored and not timed: a table beside a sweep's. No torch.

A sweep times each question under each choice by itself, so it has few questions. Whether an answer is right doesn't
depend on the clock, so further questions are asked in batches (laptime.control.tables.collection). Policies learn what
is right from both; bounds are calibrated on the sweep's times alone. On disk the table is answers.json and
answers.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace, ModelFacts
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.errors import LaptimeError

SCHEMA = "laptime.answers/1"
COUNTS = ("output_tokens", "prompt_tokens", "image_tokens", "crops")
TABLES = ("score", "total_ms", *COUNTS)


class _AnswerFacts(msgspec.Struct, frozen=True, kw_only=True):
    space: ChoiceSpace
    model: ModelFacts
    sample_ids: tuple[str, ...]
    question_types: tuple[str, ...]
    most_tokens: int


def write_answers(table: DecisionTable, folder: str | Path) -> None:
    """Write answers.json and answers.safetensors; times are not written."""
    facts = _AnswerFacts(**{name: getattr(table, name) for name in _AnswerFacts.__struct_fields__})
    arrays = {name: getattr(table, name) for name in ("score", *COUNTS)}
    write_value(Path(folder), "answers", SCHEMA, facts, arrays)


def read_answers(folder: str | Path) -> DecisionTable:
    """Read what `write_answers` wrote, times NaN. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    facts, arrays = read_value(place, "answers", SCHEMA, _AnswerFacts, "a table of answers")
    n, file = len(facts.sample_ids), place / "answers.safetensors"
    shape = (n, len(facts.space))
    if len(set(facts.sample_ids)) != n or len(facts.question_types) != n or n == 0:
        raise LaptimeError(f"{place / 'answers.json'}: questions without a name or type of their own; ask them anew")
    score = take_array(arrays, "score", shape, file).astype(np.float32)
    counts = {name: take_array(arrays, name, shape, file).astype(np.int32) for name in COUNTS}
    if counts["output_tokens"].min() < 1 or counts["output_tokens"].max() > facts.most_tokens:
        raise LaptimeError(f"{file}: answers of no tokens, or longer than the limit; ask the questions anew")
    if score.min() < 0 or score.max() > 1:
        raise LaptimeError(f"{file}: scores outside 0 to 1; ask the questions anew")
    return DecisionTable(
        space=facts.space,
        model=facts.model,
        sample_ids=facts.sample_ids,
        question_types=facts.question_types,
        score=score,
        output_tokens=counts["output_tokens"],
        total_ms=np.full(shape, np.nan),
        prompt_tokens=counts["prompt_tokens"],
        image_tokens=counts["image_tokens"],
        crops=counts["crops"],
        most_tokens=facts.most_tokens,
    )


def joined(timed: DecisionTable, further: DecisionTable) -> DecisionTable:
    """The timed table, continued by further questions. Of their choices only those of `timed` are used.

    Raises LaptimeError when `further` lacks a choice, is another model's, or shares a question with `timed`.
    """
    if different := timed.model.differences(further.model):
        raise LaptimeError(f"the further answers are another model's ({', '.join(different)}); ask this one")
    _refuse_common(timed.sample_ids, further.sample_ids)
    ran, others = timed.space.active_blocks, further.space.active_blocks
    if others_ran := [count for count in timed.space.blocks if ran.get(count) != others.get(count)]:
        raise LaptimeError(
            f"the further answers were made with other blocks than the sweep's where {others_ran[0]} of them run; ask "
            "them anew"
        )
    had, others_had = timed.space.experts_by_block, further.space.experts_by_block
    if others_had_at := [k for k in timed.space.top_ks if had.get(k) != others_had.get(k)]:
        raise LaptimeError(
            f"the further answers were made with other experts by block than the sweep's at top-k {others_had_at[0]}; "
            "ask them anew"
        )
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


def joined_features(timed: FeatureTable, further: FeatureTable) -> FeatureTable:
    """The features of the timed questions, continued by those of further ones. Only the tiers of `timed` are used.

    Raises LaptimeError when `further` was collected after another block, or lacks a tier or a part.
    """
    _refuse_common(timed.sample_ids, further.sample_ids)
    if timed.early_block != further.early_block:
        raise LaptimeError(
            f"features after block {timed.early_block} and after block {further.early_block}: collect both alike"
        )
    if missing := [tier.name for tier in timed.tiers if tier not in further.tiers]:
        raise LaptimeError(f"the further answers' features lack tier {missing[0]}; ask under the sweep's choices")
    tiers = [further.tiers.index(tier) for tier in timed.tiers] or [0]
    parts = {"language": further.language, "pixels": further.pixels, "hidden": further.hidden[:, tiers]}
    for name, array in parts.items():
        if array.shape[1:] != getattr(timed, name).shape[1:]:
            raise LaptimeError(f"the further answers' {name} features are of another width; collect both alike")
    return msgspec.structs.replace(
        timed,
        sample_ids=timed.sample_ids + further.sample_ids,
        **{name: np.concatenate([getattr(timed, name), array]) for name, array in parts.items()},
    )


def _refuse_common(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    if common := sorted(set(first) & set(second)):
        raise LaptimeError(
            f"question {common[0]} is among the sweep's and among the further answers ({len(common)} are): "
            "ask others, under ids of their own"
        )
