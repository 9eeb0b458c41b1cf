"""The search for blocks or for experts by block, and its ablations: other ways to choose as many.

One half of the questions is searched on, the other half judges: a hash of a question's id decides, as for policies.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from laptime.control.judge.significance import holm, paired_p
from laptime.control.search.beam import Beam, Scores, Setting, beam_search
from laptime.control.search.result import JudgedSetting, KnobSearch
from laptime.control.search.scored_set import ScoredSet, SearchedKnob, SetSettings
from laptime.control.tables.decision_table import half_of
from laptime.data.record import Interval
from laptime.data.stats import Floats, accuracy, t_quantile, wilson
from laptime.errors import LaptimeError
from laptime.models.active_blocks import always_active, choose_blocks
from laptime.models.anatomy import find_anatomy
from laptime.models.block_experts import check_experts, own_experts
from laptime.models.block_importance import measure_importance, takeable_numbers
from laptime.models.config_changes import text_configs
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from laptime.models.loading import Loaded
from laptime.workload.example import Example

RANDOM = 5
"""How many random settings stand for "random" at each total."""


class Levels(NamedTuple):
    """The levels that each block may take."""

    lowest: Setting
    highest: Setting


def levels_of(loaded: Loaded, knob: SearchedKnob) -> Levels:
    """What a search of this model goes through. Raises LaptimeError for a model that doesn't have the knob."""
    model = loaded.model
    count = len(find_anatomy(model).layers)
    if knob == "blocks":
        numbers = takeable_numbers(model)
        if not numbers:
            check_knobs(model, ModelKnobs(blocks=max(1, count - 1)))
            raise LaptimeError(f"{loaded.name}: all of its {count} blocks always run; there is nothing to search")
        kept = always_active(model, count)
        return Levels(tuple(int(index in kept) for index in range(count)), (1,) * count)
    own = own_experts(model)
    check_experts(str(getattr(text_configs(model)[0], "model_type", loaded.name)), find_anatomy(model), own)
    return Levels(tuple(min(1, number) for number in own), own)


def default_totals(levels: Levels, knob: SearchedKnob) -> list[int]:
    """Without a word from the user: down to two thirds of the blocks, or half and a quarter of the experts."""
    most, least = sum(levels.highest), sum(levels.lowest)
    if knob == "blocks":
        return list(range(most - 1, max(least, most - max(1, most // 3)) - 1, -1))
    return sorted({max(least, most // 2), max(least, most // 4)}, reverse=True)


def search_knob(
    loaded: Loaded,
    examples: Sequence[Example],
    settings: SetSettings,
    knob: SearchedKnob = "blocks",
    totals: Sequence[int] = (),
    beam: Beam | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> KnobSearch:
    """Search on one half of the questions; judge what was found, and the simpler ways, on the other half.

    totals: how many blocks run, or how many experts a token is sent to over all blocks; empty: default_totals.
    Raises LaptimeError for a model without the knob, a total that it can't take, or too few questions.
    """
    levels, beam = levels_of(loaded, knob), beam or Beam()
    wanted = sorted(set(totals or default_totals(levels, knob)), reverse=True)
    halves = [[one for one in examples if half_of(one.id) == half] for half in ("train", "held-out")]
    if min(map(len, halves)) < 2:
        raise LaptimeError(
            f"search: {len(halves[0])} questions to search on and {len(halves[1])} to judge by; give at least 2 of "
            "each (a hash of a question's id decides)"
        )
    searched, judged = (ScoredSet(loaded, half, settings, knob) for half in halves)
    found = beam_search(levels.lowest, levels.highest, wanted, Scores(searched.close, searched.right), beam, progress)
    with applied(loaded.model, ModelKnobs(crops=settings.crops)):
        importance = measure_importance(loaded.model, searched.inputs)
    rows: list[JudgedSetting] = []
    for total in wanted:
        best = found[total]
        ours = judged.scores(best.setting)
        rows.append(
            JudgedSetting(way="beam", total=total, levels=list(best.setting), right=_mean(ours), found=best.right)
        )
        for way, some in _other_ways(knob, levels, total, importance).items():
            scores = np.mean([judged.scores(one) for one in some], axis=0)
            rows.append(
                JudgedSetting(
                    way=way,
                    total=total,
                    levels=list(some[0]) if len(some) == 1 else [],
                    right=_mean(scores),
                    less=_paired(scores, ours),
                    p=paired_p(scores, ours),
                )
            )
    values = iter(holm([row.p for row in rows if row.less is not None]))
    return KnobSearch(
        model=loaded.name,
        knob=knob,
        score=settings.kind,
        searched=len(searched),
        judged=len(judged),
        width=beam.width,
        tries=beam.tries,
        settings=searched.asked,
        whole=_mean(judged.scores(levels.highest)),
        importance=importance,
        rows=[row if row.less is None else msgspec.structs.replace(row, p=next(values)) for row in rows],
    )


def _other_ways(
    knob: SearchedKnob, levels: Levels, total: int, importance: Sequence[float]
) -> dict[str, list[Setting]]:
    """The simpler ways to choose a setting of this total, with their settings."""
    drawn = random.Random(total)  # noqa: S311 - which settings, no secret
    ways: dict[str, list[Setting]] = {}
    if knob == "blocks":
        count = len(levels.highest)
        kept = {index for index, level in enumerate(levels.lowest) if level}
        ways["importance"] = [_mask(count, choose_blocks(count, total, kept, importance))]
        ways["prefix"] = [_mask(count, choose_blocks(count, total, kept))]
    else:
        gated = [index for index, level in enumerate(levels.highest) if level]
        each, rest = divmod(total, len(gated))
        if rest == 0 and each <= min(levels.highest[index] for index in gated):
            ways["one for all"] = [tuple(each if index in gated else 0 for index in range(len(levels.highest)))]
        first = [index for index in gated for _ in range(levels.highest[index])]
        ways["early blocks first"] = [_filled(levels, total, first)]
    ways["random"] = [_filled(levels, total, _shuffled(levels, drawn)) for _ in range(RANDOM)]
    return ways


def _shuffled(levels: Levels, drawn: random.Random) -> list[int]:
    """Every block as often as it has levels to gain, in any order."""
    gains = [
        index
        for index, (low, high) in enumerate(zip(levels.lowest, levels.highest, strict=True))
        for _ in range(high - low)
    ]
    drawn.shuffle(gains)
    return gains


def _filled(levels: Levels, total: int, order: Sequence[int]) -> Setting:
    """From the lowest levels on, a level more for each block of `order` (again and again), up to this total."""
    filled = list(levels.lowest)
    while sum(filled) < total:
        for index in order:
            if sum(filled) == total:
                break
            if filled[index] < levels.highest[index]:
                filled[index] += 1
    return tuple(filled)


def _mask(count: int, active: Sequence[int]) -> Setting:
    return tuple(int(index in active) for index in range(count))


def _mean(scores: Floats) -> Interval:
    interval, _ = accuracy(scores)
    assert interval is not None
    return interval


def _paired(first: Floats, second: Floats) -> Interval:
    """The mean of the first less the second, with Student's t interval at 95 %; Wilson's end where nothing differs."""
    gaps = first - second
    n, mean = len(gaps), float(gaps.mean())
    spread = float(gaps.std(ddof=1))
    half = t_quantile(n - 1, 0.975) * spread / n**0.5 if spread > 0 else float(wilson(0.0, n).high or 0.0)
    return Interval(mean, mean - half, mean + half, n)
