"""Rules about what tokens a call's times go with: counts that hold the prompt, and a prefill that holds the decode."""

from __future__ import annotations

import numpy as np

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, decimals, key_of, percent
from laptime.data.stats import Floats

FEWEST = 20
"""Fewer samples show no proportion."""

SHARPER = 3.0
"""The right divisor leaves so many times less scatter than the wrong one."""

SCATTER = 0.15
"""And no more scatter than this: decode steps of one configuration take about equally long."""

RANGE = 1.5
"""Answers' lengths must differ by this factor within a configuration (the middle 80 %)."""


def tokens_with_prompt(measurements: Measurements) -> RuleOutcome:
    """Output tokens that count the prompt, too: decode goes with what is left without it."""
    from polars import col

    rows = measurements.of("decode_ms", "output_tokens", "prompt_tokens", "decode_forwards")
    rows = rows.filter(col("decode_ms") > 0, col("output_tokens") >= 2, col("prompt_tokens") > 0)
    if rows.height < FEWEST:
        return NotJudged(f"fewer than {FEWEST} samples with decode, output tokens and prompt tokens")
    without = col("output_tokens") - col("prompt_tokens")
    if rows.filter(without < 2).height:
        return Judged(rows.height)
    n, left = rows["output_tokens"].to_numpy() - 1.0, rows.select(without).to_series().to_numpy() - 1.0
    decode = rows["decode_ms"].to_numpy()
    configs = rows["config_id"].fill_null("").rank("dense").to_numpy()
    as_said, as_left = _scatter(decode / n, configs), _scatter(decode / left, configs)
    forwards = rows["decode_forwards"]
    ran = forwards.null_count() == 0 and bool((forwards.to_numpy() == left).mean() >= 0.95)
    if not ran and (as_left > SCATTER or as_said < SHARPER * as_left):
        return Judged(rows.height)
    shown = rows.sort(without.abs(), "row").head(5).to_dicts()
    return Judged(
        rows.height,
        AuditFinding(
            code="tokens-with-prompt",
            severity="severe",
            count=rows.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['output_tokens']:,} output tokens with a prompt of {row['prompt_tokens']:,}, "
                f"decode {row['decode_ms']:.2f} ms"
                for row in shown
            ],
            reason="Every answer is said to be longer than its prompt, and decode goes with what is left without "
            f"the prompt (its time per token scatters by {percent(as_left)} then, and by {percent(as_said)} with all): "
            "output tokens were probably counted from what generate() returns, which begins with the prompt.",
            mend="Count what comes after the prompt: output_ids[0, prompt_tokens:]",
        ),
    )


def prefill_holds_decode(measurements: Measurements) -> RuleOutcome:
    """A prefill that grows with the answer's tokens, beside a decode that doesn't."""
    from polars import col

    rows = measurements.of("prefill_ms", "decode_ms", "output_tokens", "queue_ms").filter(
        col("prefill_ms") > 0, col("decode_ms") > 0, col("output_tokens") >= 2, col("queue_ms").is_null()
    )
    lengths = rows.group_by("config_id").agg(
        n=col("row").len(), wide=col("output_tokens").quantile(0.9) / col("output_tokens").quantile(0.1)
    )
    wide = lengths.filter(col("wide") >= RANGE, col("n") >= FEWEST)["config_id"]
    rows = rows.filter(col("config_id").is_in(wide.implode(), nulls_equal=True))
    if rows.height < FEWEST:
        return NotJudged(f"no configuration with {FEWEST} answers of different lengths")
    steps = rows["output_tokens"].to_numpy() - 1.0
    configs = rows["config_id"].fill_null("").rank("dense").to_numpy()
    prefill, decode = rows["prefill_ms"].to_numpy(), rows["decode_ms"].to_numpy()
    by_prefill, by_decode = _power(prefill, steps, configs), _power(decode, steps, configs)
    if by_prefill < 0.5 or by_decode > 0.1:
        return Judged(rows.height)
    ends = [rows.sort("output_tokens", "row", descending=[down, False]).head(2).to_dicts() for down in (False, True)]
    return Judged(
        rows.height,
        AuditFinding(
            code="prefill-holds-decode",
            severity="severe",
            count=rows.height,
            of=rows.height,
            examples=[
                f"{key_of(row)}: {row['output_tokens']:,} tokens, prefill {row['prefill_ms']:.2f} ms, decode "
                f"{row['decode_ms']:.2f} ms"
                for part in ends
                for row in part
            ],
            reason=f"Prefill grows with the number of tokens that come after it (power {decimals(by_prefill)}), and "
            f"decode does not (power {decimals(by_decode)}). Columns that were exchanged, a mark of the first token "
            "that is taken at the end of generate(), or a decode that is the tokenizer's (ids into text) would each "
            "look so.",
            mend="Take prefill's end when the first token is chosen; say what decode holds",
        ),
    )


def _scatter(values: Floats, groups: Floats) -> float:
    """The robust relative spread of values about the median of their group, 1.4826 times the median deviation."""
    logs = _from_median(np.log(values), groups)
    return 1.4826 * float(np.median(np.abs(logs)))


def _power(times: Floats, steps: Floats, groups: Floats) -> float:
    """How times grow with steps within their groups: the slope of the logarithms, each from its group's median."""
    y, x = _from_median(np.log(times), groups), _from_median(np.log(steps), groups)
    return float((x @ y) / max(float(x @ x), 1e-12))


def _from_median(values: Floats, groups: Floats) -> Floats:
    """Values less the median of their group."""
    from polars import DataFrame, col

    table = DataFrame({"value": values, "group": groups})
    return table.select(col("value") - col("value").median().over("group"))["value"].to_numpy()


RULES = (
    Rule(
        "tokens-with-prompt",
        "output tokens without the prompt's",
        ("decode_ms", "output_tokens", "prompt_tokens"),
        tokens_with_prompt,
    ),
    Rule(
        "prefill-holds-decode",
        "a prefill that doesn't know the answer's length",
        ("prefill_ms", "decode_ms", "output_tokens"),
        prefill_holds_decode,
    ),
)
