"""Further questions under every choice, in batches and untimed: what is right doesn't depend on the clock.

A sweep times each question under each choice by itself, and few can be had so. Policies learn more from how many
questions were answered than from how often they were timed; the bounds stay the sweep's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.tables.decision_table import DecisionTable, question_type
from laptime.control.tables.equal_batches import EqualBatch, equal_batches
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.hidden import collect_features
from laptime.control.tables.loaded_facts import facts_of
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.loading import Loaded
from laptime.workload.answer_text import answer_text
from laptime.workload.example import Example
from laptime.workload.generation import generation_arguments
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
