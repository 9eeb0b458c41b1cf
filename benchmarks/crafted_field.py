"""Faults that threads on public benchmarks tell of, put into simulated runs (crafted_faults).

They were written down, and put before the audit, before any rule was made for them. The threads: vLLM 6531, 12288,
13736, 27485; SGLang 10746; genai-bench 81; AIPerf 1279; llmperf 99; flexible-inference-bench 66; LMBenchmark 27.
"""

from __future__ import annotations

import numpy as np
import polars
from crafted_faults import CHANCE, NUMBER, STAGES, Fault, slower
from crafted_records import bare, stamped
from polars import col, lit, when

ALL = (*STAGES, "total_ms")


def _per_token(frame: polars.DataFrame) -> polars.DataFrame:
    steps = col("output_tokens") - 1
    return frame.with_columns(decode_per_token_ms=when(steps > 0).then(col("decode_ms") / steps))


def after_reasoning(frame: polars.DataFrame) -> polars.DataFrame:
    """A third of each answer is thought, and the first token is taken when the first visible one comes."""
    thought = (col("output_tokens") / 3).floor() * col("decode_per_token_ms")
    return frame.with_columns(ttft_ms=col("ttft_ms") + thought).drop("itl_ms", "tpot_ms")


def bundled_first(frame: polars.DataFrame) -> polars.DataFrame:
    """The first chunk brings four tokens: TTFT waits for them, and TPOT is (total - TTFT) / (N - 1)."""
    steps = col("output_tokens") - 1
    late = polars.min_horizontal(steps, lit(3)) * col("decode_per_token_ms")
    frame = frame.with_columns(ttft_ms=col("ttft_ms") + late).drop("itl_ms", "decode_per_token_ms")
    return frame.with_columns(tpot_ms=(col("total_ms") - col("ttft_ms")) / steps)


def asked_length(frame: polars.DataFrame) -> polars.DataFrame:
    """The length that was asked for is stored as the answer's; answers end by themselves."""
    return _per_token(bare(frame).with_columns(output_tokens=lit(40)))


def retokenised(frame: polars.DataFrame) -> polars.DataFrame:
    """One answer of 25 is mostly white space, which makes a fifth of the tokens when its text is tokenised again."""
    few = CHANCE < 0.04
    tokens = when(few).then((col("output_tokens") / 5).ceil().cast(int)).otherwise(col("output_tokens"))
    return _per_token(bare(frame).with_columns(output_tokens=polars.max_horizontal(tokens, lit(2))))


def prefill_again(frame: polars.DataFrame) -> polars.DataFrame:
    """generate() is timed as decode after a prefill of its own was timed: decode holds the prompt once more."""
    longer = {name: col(name) + col("prefill_ms") for name in ("decode_ms", "total_ms")}
    return stamped(_per_token(bare(frame).with_columns(**longer)))


def flushed_in_fours(frame: polars.DataFrame) -> polars.DataFrame:
    """Tokens are held back and come four at once, as a proxy that buffers sends them."""
    gaps = []
    for tpot, n in frame.select("tpot_ms", "output_tokens").iter_rows():
        steps = max(n - 1, 0)
        one = np.full(steps, 0.008)
        one[::4] = 0.0
        whole = tpot * steps - float(one.sum()) if steps else 0.0
        one[::4] = whole / max(1, len(one[::4]))
        gaps.append(one.tolist())
    return frame.with_columns(itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)))


def mean_rows(frame: polars.DataFrame) -> polars.DataFrame:
    """A line with the means of each configuration stands at its end, as a spreadsheet has it."""
    frame = bare(frame)
    means = frame.group_by("config_id", maintain_order=True).agg(
        *(col(name).mean() if name in ALL else col(name).first() for name in frame.columns if name != "config_id")
    )
    means = means.with_columns(sample_id=lit("mean"), repeat=lit(0, dtype=frame["repeat"].dtype))
    return polars.concat([frame, means.select(frame.columns)])


def running_mean(frame: polars.DataFrame) -> polars.DataFrame:
    """What a progress line showed was stored: each time is the mean over all calls of its configuration so far."""
    so_far = [(col(name).cum_sum() / (NUMBER + 1)).over("config_id").alias(name) for name in ALL]
    return _per_token(bare(frame).with_columns(so_far))


def two_answers(frame: polars.DataFrame) -> polars.DataFrame:
    """Two answers a request (n = 2), whose tokens are counted together; the limit is known."""
    frame = bare(frame).with_columns(lit(40).alias("config.new_tokens"), output_tokens=2 * col("output_tokens"))
    return _per_token(frame)


def lost_point(frame: polars.DataFrame) -> polars.DataFrame:
    """In one row of 20 a decimal point was taken for a separator: all its times are a hundred times too large."""
    lost = when(CHANCE < 0.05).then(100.0).otherwise(1.0)
    return bare(frame).with_columns(col(name) * lost for name in ALL)


def only_microseconds(frame: polars.DataFrame) -> polars.DataFrame:
    """timedelta.microseconds for total_seconds(): whole seconds are lost."""
    frame = bare(slower(4.0)(frame))
    return frame.with_columns(col(name) % 1000.0 for name in ALL).with_columns(other_ms=None)


def only_microseconds_total(frame: polars.DataFrame) -> polars.DataFrame:
    """The same, and nothing but the total is stored."""
    frame = only_microseconds(frame)
    return frame.with_columns(vision_ms=None, prefill_ms=None, decode_ms=None, decode_per_token_ms=None)


def prompts_cut(frame: polars.DataFrame) -> polars.DataFrame:
    """Prompts of many lengths, of which a fifth were cut at what the server takes."""
    rng = np.random.default_rng(7)
    of_input = rng.lognormal(6.5, 0.6, 1000).round()[frame["sample_id"].cast(int).to_numpy()]
    longest = float(np.quantile(np.unique(of_input), 0.75))
    tokens = polars.Series(np.minimum(of_input, longest)).cast(polars.Int64)
    frame = bare(frame).with_columns(prompt_tokens=tokens, prefill_ms=tokens * 0.05 * (1 + 0.02 * CHANCE))
    return stamped(frame.with_columns(total_ms=polars.sum_horizontal(STAGES)))


def of_a_batch(frame: polars.DataFrame) -> polars.DataFrame:
    """Four questions in a batch, and the batch's total with each of them; the stages are each one's own."""
    batch = (NUMBER.over("config_id") // 4).alias("batch_number")
    frame = bare(frame).with_columns(batch).with_columns(
        total_ms=col("total_ms").max().over("config_id", "batch_number"),
        started_unix_ms=col("started_unix_ms").min().over("config_id", "batch_number"),
    )  # fmt: skip
    return frame.with_columns(other_ms=col("total_ms") - polars.sum_horizontal(STAGES[:3])).drop("batch_number")


FIELD = (
    Fault("the first token taken after the thinking", ("ttft-holds-decode",), after_reasoning),
    Fault("four tokens in the first chunk", ("ttft-holds-decode", "gaps-not-decode"), bundled_first),
    Fault("the asked length stored as the answer's", ("tokens-not-decode",), asked_length),
    Fault("some answers tokenised again, white space merged", ("tokens-not-decode",), retokenised),
    Fault("decode holds a second prefill", ("decode-holds-prefill",), prefill_again),
    Fault("tokens flushed in fours", ("gaps-in-bursts",), flushed_in_fours),
    Fault("a line of means in each configuration", ("summary-rows",), mean_rows),
    Fault("each row the mean of all so far", ("running-mean",), running_mean),
    Fault("two answers counted as one", ("more-than-the-limit",), two_answers),
    Fault("a decimal point lost in a twentieth", ("lost-decimal-point",), lost_point),
    Fault("whole seconds lost", ("whole-seconds-lost", "stage-sum-exceeds-total"), only_microseconds),
    Fault("whole seconds lost, totals alone", ("whole-seconds-lost",), only_microseconds_total),
    Fault("prompts cut at a limit", ("prompts-cut",), prompts_cut),
    Fault("a batch's total with each of its rows", ("shared-totals",), of_a_batch),
)
