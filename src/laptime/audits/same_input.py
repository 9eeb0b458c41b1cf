"""Rules about repeats of one input: the same prompt makes the same tokens, and takes as long when it comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, signed_percent

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

GIVEN = ("prompt_tokens", "image_tokens", "crops")
"""What an input and a configuration decide, whatever is answered."""

VARY = 0.05
"""A share of inputs whose answers differ in length from which totals hold the lengths, too."""

INPUTS = 6
"""From six inputs on, all of them in one direction is no chance (1 of 64)."""

SLOWER = 0.1
"""A first call of an input that is slower by less is no compilation."""

MOST = 0.7
"""In this share of the inputs, at least, the first call is that much slower."""

NEIGHBOURS = 4
"""A first call is compared with so many calls of its worker that lie next to it and are no first calls."""


def inputs_changed(measurements: Measurements) -> RuleOutcome:
    """Repeats of one input under one configuration whose prompts have different sizes."""
    from polars import any_horizontal, col

    rows = measurements.of(*GIVEN).filter(col("sample_id").is_not_null())
    names = [name for name in GIVEN if measurements.has(name)]
    if not names:
        return NotJudged(f"no column {', '.join(GIVEN)}")
    inputs = rows.group_by("config_id", "sample_id", maintain_order=True).agg(
        *(col(name).drop_nulls().unique(maintain_order=True) for name in names), n=col("row").len(),
        row=col("row").first(),
    )  # fmt: skip
    repeated = inputs.filter(col("n") > 1)
    if repeated.is_empty():
        return NotJudged("no input was measured twice under a configuration")
    changed = repeated.filter(any_horizontal(*(col(name).list.len() > 1 for name in names)))
    if changed.is_empty():
        return Judged(repeated.height)
    which = [name for name in names if bool((changed[name].list.len() > 1).any())]
    shown = changed.head(5).to_dicts()
    return Judged(
        repeated.height,
        AuditFinding(
            code="inputs-changed",
            severity="warning",
            count=changed.height,
            of=repeated.height,
            unit="input",
            examples=[f"{key_of(row)}: {_values(row, which)}" for row in shown],
            reason=f"{counted(changed.height, 'input')} of {repeated.height:,} have repeats of different size under "
            f"the same configuration ({', '.join(which).replace('_', ' ')}): their times are of different work. "
            "Another processor or chat template, a prompt that holds the date, or one id for two inputs would each "
            "look so.",
            mend="Give every input an id of its own; measure all repeats with one processor and one template",
        ),
    )


def lengths_vary(measurements: Measurements) -> RuleOutcome:
    """Repeats of one input whose answers have different lengths."""
    from polars import col

    rows = measurements.of("output_tokens")
    rows = rows.filter(col("sample_id").is_not_null(), col("output_tokens").is_not_null())
    inputs = rows.group_by("config_id", "sample_id", maintain_order=True).agg(
        n=col("row").len(), row=col("row").first(), low=col("output_tokens").min(), high=col("output_tokens").max()
    )
    repeated = inputs.filter(col("n") > 1)
    if repeated.is_empty():
        return NotJudged("no input was measured twice under a configuration")
    vary = repeated.filter(col("low") < col("high"))
    if vary.height < max(1, VARY * repeated.height):
        return Judged(repeated.height)
    return Judged(
        repeated.height,
        AuditFinding(
            code="lengths-vary",
            severity="info",
            count=vary.height,
            of=repeated.height,
            unit="input",
            examples=[f"{key_of(row)}: {row['low']:,} to {row['high']:,} tokens" for row in vary.head(5).to_dicts()],
            reason=f"{counted(vary.height, 'input')} of {repeated.height:,} were answered with different numbers of "
            "tokens by the same configuration: totals and decode hold the lengths, too. Sampling does that, and so do "
            "kernels that round differently from call to call.",
            mend="Compare the time per token, or decode greedily to a fixed length",
        ),
    )


def first_calls_slow(measurements: Measurements) -> RuleOutcome:
    """Inputs whose first call is slower in all that it does, beside repeats of other inputs at the same time."""
    from polars import col

    used = measurements.used.filter(col("sample_id").is_not_null())
    if not measurements.repeated:
        return NotJudged("most inputs were measured fewer than three times")
    ordered = used.with_columns(place=col("at").rank("ordinal").over("config_id", "sample_id"))
    later = (
        ordered.filter(col("place") > 1)
        .group_by("config_id", "sample_id")
        .agg(usual=col("equal_ms").log().median(), decode=col("decode_ms").median())
    )
    ordered = ordered.join(later, on=["config_id", "sample_id"], how="inner", maintain_order="left")
    ordered = ordered.with_columns(
        slower=col("equal_ms").log() - col("usual"), ratio=col("decode_ms") / col("decode"), first=col("place") == 1
    )
    pairs = _beside_others(ordered)
    if len(pairs) < INPUTS:
        return NotJudged(
            "hardly any first call of an input lies beside repeats of others: a slow beginning would look the same"
        )
    excess, decode = pairs[:, 0], pairs[:, 1]
    slow = (excess > np.log(1 + SLOWER)) & ~(decode < 1 + SLOWER / 2)
    if slow.sum() < max(INPUTS, MOST * len(pairs)):
        return Judged(len(pairs))
    middle = float(np.expm1(np.median(excess[slow])))
    shown = ordered.filter(col("first"), col("slower") > np.log(1 + SLOWER)).head(5).to_dicts()
    return Judged(
        len(pairs),
        AuditFinding(
            code="first-calls-slow",
            severity="warning",
            count=int(slow.sum()),
            of=len(pairs),
            unit="input",
            examples=[
                f"{key_of(row)}: {row['total_ms']:.2f} ms at first, {signed_percent(np.expm1(row['slower']))} of its "
                "later calls"
                for row in shown
            ],
            reason=f"The first call of {counted(int(slow.sum()), 'input')} of {len(pairs):,} is slower than its later "
            f"ones, by {percent(middle)} at the median, decode as well, and repeats of other inputs beside them are "
            "not. Something is made anew for each input, or each shape: compiled code, a captured graph, memory.",
            mend="Warm up with every input (or every shape) before timing, or leave each input's first call out",
        ),
    )


def _beside_others(ordered: polars.DataFrame) -> np.ndarray:
    """For each first call of an input: by how much (log) it is slower than its worker's next repeats, and its decode's
    ratio to later ones. ordered: by time, with `first`, `slower`, `ratio`."""
    found = []
    for part in ordered.partition_by("worker", maintain_order=True):
        first, slower = part["first"].to_numpy(), part["slower"].to_numpy()
        ratio = part["ratio"].fill_null(float("nan")).to_numpy()
        repeats = np.flatnonzero(~first)
        for place in np.flatnonzero(first):
            at = int(np.searchsorted(repeats, place))
            near = repeats[max(0, at - NEIGHBOURS // 2) : at + NEIGHBOURS // 2]
            near = near[np.abs(near - place) <= 5 * NEIGHBOURS]
            if len(near) >= NEIGHBOURS // 2:
                found.append((slower[place] - float(np.median(slower[near])), ratio[place]))
    return np.array(found).reshape(-1, 2)


def _values(row: dict[str, list[int]], names: list[str]) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} {', '.join(str(v) for v in row[name][:4])}" for name in names if len(row[name]) > 1
    )


RULES = (
    Rule("inputs-changed", "one input, one prompt", ("sample_id",), inputs_changed),
    Rule("lengths-vary", "one input, answers of one length", ("sample_id", "output_tokens"), lengths_vary),
    Rule(
        "first-calls-slow",
        "an input's first call as fast as its later ones",
        ("sample_id", "total_ms"),
        first_calls_slow,
    ),
)
