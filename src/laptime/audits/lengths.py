"""Rules about the length of answers: a number of tokens that decode contradicts, or that the limit forbids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, worst_rows

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

LIMIT = "config.new_tokens"

SEVERAL, FEW = 3, 0.01
"""Fewer samples, or a smaller share, are single calls."""

MOST = 0.3
"""Where more of the samples are apart from the others, there is no usual one."""

STEPS = 4
"""A first step may take many times as long as the next ones, so shorter answers have no usual time per step."""

NEAR = 9
"""Calls of about the same length that a call is compared with."""

LONGER, STILL = 2.5, 1.3
"""A step takes so many times as long as in calls of about that length, while what comes before decode takes no more
than the second times as long as theirs: a slow machine slows both."""

APART, AGREE = 2.0, 0.1
"""Inputs' decode differs by the first factor (the middle 80 %) at one length, and repeats of an input by less than the
second share, at the median."""

INPUTS, SAMPLES = 6, 20

INTERCEPT, ERRORS = (0.75, 1.35), 5.0
"""What decode takes beside its steps is about a prefill, and so many standard errors above nothing."""

STEPS_OF_PREFILL = 2.0
"""A prefill takes so many times as long as a step, at least: a first step that is twice as slow is no prefill."""


def tokens_not_decode(measurements: Measurements) -> RuleOutcome:
    """A number of tokens that doesn't go with decode: one for all answers, or far too few for some."""
    from polars import col

    frame = measurements.of(
        "output_tokens", "decode_ms", "decode_forwards", "drafted_tokens", "prefill_ms", "vision_ms", "batch",
        "queue_ms", "prompt_tokens",
    )  # fmt: skip
    counted_steps = (col("decode_forwards") == col("output_tokens") - 1).fill_null(value=False)
    rows = frame.filter(
        col("output_tokens") >= 2, col("decode_ms") > 0, ~counted_steps, col("decode_forwards").is_null(),
        col("drafted_tokens").is_null(), col("batch").fill_null(1) == 1, col("queue_ms").is_null(),
    )  # fmt: skip
    if rows.height < SAMPLES:
        return NotJudged(f"fewer than {SAMPLES} samples whose forwards weren't counted; where they are, they decide")
    return Judged(rows.height, _one_length(rows) or _too_few(rows))


def _one_length(rows: polars.DataFrame) -> AuditFinding | None:
    """Answers of one length whose decode differs by input, and hardly from repeat to repeat."""
    from polars import col

    if rows["sample_id"].null_count():
        return None
    log = col("decode_ms").log()
    inputs = rows.group_by("config_id", "sample_id", "prompt_tokens", "output_tokens").agg(
        n=col("row").len(), middle=log.median(), spread=(log - log.median()).abs().max(), row=col("row").first()
    )
    inputs = inputs.filter(col("n") >= 2)
    groups = inputs.group_by("config_id", "prompt_tokens", "output_tokens").agg(
        inputs=col("n").len(), range=col("middle").quantile(0.9) - col("middle").quantile(0.1),
        spread=col("spread").median(),
    )  # fmt: skip
    groups = groups.filter(col("inputs") >= INPUTS)
    apart = groups.filter(col("range") > np.log(APART), col("spread") < AGREE)
    if groups.is_empty() or apart.height < 0.5 * groups.height:
        return None
    keys = ["config_id", "prompt_tokens", "output_tokens"]
    bad = rows.join(apart.select(keys), on=keys, how="semi", nulls_equal=True)
    middle = float(np.exp(apart["range"].median()))  # type: ignore[arg-type]
    ends = [bad.sort("decode_ms", "row", descending=[down, False]).head(2).to_dicts() for down in (False, True)]
    return AuditFinding(
        code="tokens-not-decode",
        severity="severe",
        count=bad.height,
        of=rows.height,
        examples=[
            f"{key_of(row)}: {row['output_tokens']:,} tokens, decode {row['decode_ms']:.2f} ms"
            for part in ends
            for row in part
        ],
        reason=f"In {counted(bad.height, 'sample')} answers to prompts of one size are said to be equally long, and "
        f"their decode differs by input, by a factor of {middle:.1f} (the middle 80 %), while repeats of an input "
        "agree. The length that was asked for may stand for the one that came, or padding was counted. Speculative "
        "decoding, which guesses some answers better than others, would look so too.",
        mend="Store the number of tokens that were returned; the time per token is decode over that less one",
    )


def _too_few(rows: polars.DataFrame) -> AuditFinding | None:
    """Some answers whose steps take far longer than those of about that length, while their prefill doesn't."""
    from polars import col, concat

    found = []
    for part in rows.filter(col("output_tokens") > STEPS).partition_by("config_id", maintain_order=True):
        if part.height < SAMPLES:
            continue
        ordered = part.with_columns(
            step=col("decode_ms") / (col("output_tokens") - 1),
            before=col("prefill_ms").fill_null(0.0) + col("vision_ms").fill_null(0.0),
        ).sort("output_tokens", "row")
        usual = col("step").rolling_median(NEAR, center=True, min_samples=1)
        compared = ordered.with_columns(usual=usual, least=col("step").median(), like=col("before").median())
        slow = (col("step") > LONGER * col("usual")) & (col("step") > LONGER * col("least"))
        found.append(compared.filter(slow, col("before") <= STILL * col("like")))
    bad = concat(found) if found else None
    if bad is None or bad.height < max(SEVERAL, FEW * rows.height) or bad.height > MOST * rows.height:
        return None
    middle = float((bad["step"] / bad["least"]).median() or 0.0)  # type: ignore[arg-type]
    return AuditFinding(
        code="tokens-not-decode",
        severity="warning",
        count=bad.height,
        of=rows.height,
        examples=[
            f"{key_of(row)}: {row['step']:.2f} ms a step with {row['output_tokens']:,} tokens, {row['usual']:.2f} ms "
            "with about as many in others"
            for row in worst_rows(bad, col("step") / col("least"))
        ],
        reason=f"{counted(bad.height, 'answer')} take {middle:.1f} times as long for each token as others of about "
        "their length, at the median, and no longer before decode. They may have more tokens than is said: counted "
        "anew from the text, where white space or special tokens merge or vanish, or cut off after they were made. "
        "An interruption in the middle of decode would look so too.",
        mend="Count the ids that generate() (or the server's usage) returned, not those of the text",
    )


def decode_holds_prefill(measurements: Measurements) -> RuleOutcome:
    """A decode that takes its steps and about a prefill more."""
    from polars import col

    rows = measurements.of("decode_ms", "prefill_ms", "output_tokens", "queue_ms").filter(
        col("decode_ms") > 0, col("prefill_ms") > 0, col("output_tokens") >= 2, col("queue_ms").is_null()
    )
    ratios = []
    for part in rows.partition_by("config_id", maintain_order=True):
        steps = part["output_tokens"].to_numpy() - 1.0
        if (
            len(steps) < SAMPLES
            or len(np.unique(steps)) < INPUTS
            or np.quantile(steps, 0.9) < 2 * np.quantile(steps, 0.1)
        ):
            continue
        ratios.append(
            _beside_steps(part["decode_ms"].to_numpy(), steps, float(np.median(part["prefill_ms"].to_numpy())))
        )
    if not ratios:
        return NotJudged(f"no configuration with {SAMPLES} answers of {INPUTS} lengths")
    holding = [ratio for ratio, sure in ratios if sure and INTERCEPT[0] <= ratio <= INTERCEPT[1]]
    if len(holding) < 0.7 * len(ratios):
        return Judged(rows.height)
    shortest = rows.sort("output_tokens", "row").head(5).to_dicts()
    return Judged(
        rows.height,
        AuditFinding(
            code="decode-holds-prefill",
            severity="warning",
            count=rows.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: decode {row['decode_ms']:.2f} ms with {row['output_tokens']:,} tokens, prefill "
                f"{row['prefill_ms']:.2f} ms"
                for row in shortest
            ],
            reason=f"Beside its steps decode takes {percent(float(np.median(holding)))} of a prefill, in "
            f"{len(holding):,} of {counted(len(ratios), 'configuration')}, however many tokens come. It probably "
            "holds the prompt's forward once more: a generate() that was timed as decode after a prefill of its own. "
            "A first step that captures or compiles something in each call would look so too.",
            mend="Take prefill and decode from marks of one generate(), or give decode the prefill's cache",
        ),
    )


def _beside_steps(decode: np.ndarray, steps: np.ndarray, prefill: float) -> tuple[float, bool]:
    """What decode takes at no step over a prefill, and whether it is more than chance; errors grow with the steps.

    Source: weighted least squares of decode / steps on 1 / steps.
    """
    matrix = np.column_stack([np.ones(len(steps)), 1 / steps])
    each, beside = np.linalg.lstsq(matrix, decode / steps, rcond=None)[0]
    left = decode / steps - matrix @ np.array([each, beside])
    variance = float(left @ left) / (len(left) - 2) * float(np.linalg.inv(matrix.T @ matrix)[1, 1])
    sure = beside > ERRORS * variance**0.5 and 0 < STEPS_OF_PREFILL * each < prefill
    return float(beside) / prefill, bool(sure)


def more_than_the_limit(measurements: Measurements) -> RuleOutcome:
    """Answers with more tokens than their limit allows."""
    from polars import col

    if LIMIT not in measurements.frame.columns or not measurements.frame[LIMIT].dtype.is_numeric():
        return NotJudged(f"no column {LIMIT}: the limit on new tokens is unknown")
    rows = measurements.of("output_tokens", "batch", LIMIT).filter(
        col("output_tokens").is_not_null(), col(LIMIT) > 0, col("batch").fill_null(1) == 1
    )
    bad = rows.filter(col("output_tokens") > col(LIMIT))
    if bad.height < max(1, FEW * rows.height):
        return Judged(rows.height)
    return Judged(
        rows.height,
        AuditFinding(
            code="more-than-the-limit",
            severity="severe",
            count=bad.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['output_tokens']:,} tokens with a limit of {row[LIMIT]:,}"
                for row in worst_rows(bad, col("output_tokens") - col(LIMIT))
            ],
            reason=f"{counted(bad.height, 'answer')} ({percent(bad.height / rows.height)}) have more tokens than their "
            "limit allows. The prompt's tokens, several answers to one request, or a limit that was not applied would "
            "each look so; in all of them the time per token is another one.",
            mend="Count the new tokens of one answer, and check that the limit reaches generate()",
        ),
    )


RULES = (
    Rule("tokens-not-decode", "as many tokens as decode took", ("decode_ms", "output_tokens"), tokens_not_decode),
    Rule(
        "decode-holds-prefill",
        "no prompt in decode",
        ("decode_ms", "prefill_ms", "output_tokens"),
        decode_holds_prefill,
    ),
    Rule("more-than-the-limit", "no more tokens than the limit", ("output_tokens",), more_than_the_limit),
)
