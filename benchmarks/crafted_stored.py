"""Faults of how times were stored and worked on later, as threads on public benchmarks tell of (crafted_faults).

They were put before the audit before any rule was made for them. The threads: vLLM 7242, 28629; SGLang 6525, 10746,
12389; GuideLLM 216, 444; AIPerf 340, 1338; openvino.genai 1118, 1244, 1414; LLMKube 1268; optimum-benchmark 223; and
what spreadsheets and data frames do to a column.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars
from crafted_faults import CHANCE, NUMBER, PLACE, STAGES, Fault
from crafted_records import bare, stamped
from polars import col, lit, when

ALL = (*STAGES, "total_ms")


def _column(frame: polars.DataFrame, name: str, values: np.ndarray) -> polars.DataFrame:
    return frame.with_columns(polars.Series(name, values))


def first_among_gaps(frame: polars.DataFrame) -> polars.DataFrame:
    """TTFT stands as the first gap: N gaps for N tokens."""
    gaps = [[first, *row] for first, row in frame.select("ttft_ms", "itl_ms").iter_rows()]
    return frame.with_columns(itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)))


def usage_as_gap(frame: polars.DataFrame) -> polars.DataFrame:
    """The last event holds the usage and no token, and counts as a gap."""
    gaps = [[*row, 0.08] for row in frame["itl_ms"].to_list()]
    return frame.with_columns(itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64)))


def total_over_batch(frame: polars.DataFrame) -> polars.DataFrame:
    """A batch of eight: its total is divided by eight, its stages are not."""
    return bare(frame).with_columns(batch=lit(8), total_ms=col("total_ms") / 8)


def first_over_batch(frame: polars.DataFrame) -> polars.DataFrame:
    """A batch of eight: TTFT is divided by eight."""
    return frame.with_columns(batch=lit(8), ttft_ms=col("ttft_ms") / 8).drop("itl_ms")


def sorted_column(frame: polars.DataFrame) -> polars.DataFrame:
    """One column was sorted in a spreadsheet, and the others were not."""
    return _column(bare(frame), "total_ms", np.sort(frame["total_ms"].to_numpy()))


def shifted_totals(frame: polars.DataFrame) -> polars.DataFrame:
    """Totals slipped down by one row."""
    return _column(bare(frame), "total_ms", np.roll(frame["total_ms"].to_numpy(), 1))


def shifted_cells(frame: polars.DataFrame) -> polars.DataFrame:
    """In a tenth of the rows the cell of vision was missing, and the ones to its right moved left."""
    moved = CHANCE < 0.1
    right = {name: when(moved).then(col(other)).otherwise(col(name)) for name, other in pairwise(ALL)}
    return bare(frame).with_columns(**right)


def mean_of_repeats(frame: polars.DataFrame) -> polars.DataFrame:
    """Each repeat of an input holds the mean of its repeats."""
    return bare(frame).with_columns(col(name).mean().over("config_id", "sample_id") for name in ALL)


def smoothed(frame: polars.DataFrame) -> polars.DataFrame:
    """A progress bar's smoothed seconds an iteration: 0.3 of the new one, 0.7 of what was shown."""
    return bare(frame).with_columns(col(name).ewm_mean(alpha=0.3, adjust=False) for name in ALL)


def filled_with_mean(frame: polars.DataFrame) -> polars.DataFrame:
    """A tenth of the rows was missing, and fillna(mean) made them up."""
    return bare(frame).with_columns(
        when(CHANCE < 0.1).then(col(name).mean()).otherwise(col(name)).alias(name) for name in ALL
    )


def filled_forward(frame: polars.DataFrame) -> polars.DataFrame:
    """A tenth of the rows was missing, and ffill made them up."""
    kept = [when((CHANCE < 0.1) & (NUMBER > 0)).then(None).otherwise(col(name)).alias(name) for name in ALL]
    return bare(frame).with_columns(kept).with_columns(col(name).forward_fill() for name in ALL)


def winsorised(frame: polars.DataFrame) -> polars.DataFrame:
    """All totals above the 95th percentile stand as it."""
    most = float(frame["total_ms"].quantile(0.95))  # type: ignore[arg-type]
    return bare(frame).drop(*STAGES).with_columns(total_ms=polars.min_horizontal(col("total_ms"), lit(most)))


def half_precision(frame: polars.DataFrame) -> polars.DataFrame:
    """Times went through a bfloat16 tensor: eight bits of each are left."""

    def rounded(name: str) -> polars.Series:
        bits = frame[name].to_numpy().astype(np.float32).view(np.uint32)
        kept = ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
        return polars.Series(name, kept.astype(np.float64))

    return bare(frame).with_columns(rounded(name) for name in ALL)


def summer_time_ends(frame: polars.DataFrame) -> polars.DataFrame:
    """Local time, and summer time ends in mid-run: all clocks go back by an hour."""
    later = when(PLACE > 0.5).then(3.6e6).otherwise(0.0)
    return frame.with_columns(started_unix_ms=col("started_unix_ms") - later)


def not_streamed(frame: polars.DataFrame) -> polars.DataFrame:
    """The answer comes whole: TTFT is the whole call. Only TTFT, total and tokens are kept."""
    return bare(frame).drop(*STAGES).with_columns(ttft_ms=col("total_ms") - 0.02)


def no_first_token(frame: polars.DataFrame) -> polars.DataFrame:
    """No token was seen, and TTFT is 0. Only TTFT, total and tokens are kept."""
    return bare(frame).drop(*STAGES).with_columns(ttft_ms=lit(0.0))


def first_minus_epoch(frame: polars.DataFrame) -> polars.DataFrame:
    """In one call of 20 no instant of a first token was kept: TTFT is 0 minus the time of day."""
    late = CHANCE < 0.05
    return frame.with_columns(ttft_ms=when(late).then(-col("started_unix_ms")).otherwise(col("ttft_ms")))


def failed_as_fast(frame: polars.DataFrame) -> polars.DataFrame:
    """One call of 12 failed at once, and stands as a call of 1 ms without tokens."""
    failed = CHANCE < 1 / 12
    less = [when(failed).then(0.0).otherwise(col(name)).alias(name) for name in STAGES[:3]]
    none = when(failed).then(0).otherwise(col("output_tokens"))
    frame = bare(frame).with_columns(*less, output_tokens=none)
    fast = when(failed).then(0.9 + 0.2 * CHANCE).otherwise(col("total_ms"))
    return stamped(frame.with_columns(total_ms=fast, other_ms=when(failed).then(fast).otherwise(col("other_ms"))))


def failed_as_fast_totals(frame: polars.DataFrame) -> polars.DataFrame:
    """The same, of which totals and tokens are kept, and the tokens are those that were asked for."""
    failed = CHANCE < 1 / 12
    fast = when(failed).then(0.9 + 0.2 * CHANCE).otherwise(col("total_ms"))
    return stamped(bare(frame).drop(*STAGES).with_columns(total_ms=fast))


def nanoseconds_stage(frame: polars.DataFrame) -> polars.DataFrame:
    """Decode is in nanoseconds, the rest in milliseconds."""
    return bare(frame).with_columns(decode_ms=col("decode_ms") * 1e6)


def two_versions(frame: polars.DataFrame) -> polars.DataFrame:
    """Results of an older version of the code are in the same file, under the same keys, 15 % slower."""
    older = frame.with_columns(*(col(name) * 1.15 for name in ALL), started_unix_ms=col("started_unix_ms") - 9e8)
    return bare(polars.concat([older, frame]))


def counted_before_the_end(frame: polars.DataFrame) -> polars.DataFrame:
    """The clock stops before the device has finished: the last third of decode is missing in decode and total."""
    less = {name: col(name) - col("decode_ms") / 3 for name in ("decode_ms", "total_ms")}
    return frame.with_columns(**less)


def second_token_at_once(frame: polars.DataFrame) -> polars.DataFrame:
    """The first two tokens come in one piece: the second takes no time, and the first waits for it."""
    gaps = [[0.008, *row[1:]] if row else row for row in frame["itl_ms"].to_list()]
    moved = when(col("output_tokens") > 1).then(col("tpot_ms")).otherwise(0.0)
    return frame.with_columns(
        ttft_ms=col("ttft_ms") + moved, itl_ms=polars.Series(gaps, dtype=polars.List(polars.Float64))
    ).drop("tpot_ms")


def missing_totals(frame: polars.DataFrame) -> polars.DataFrame:
    """One total of ten is not there (a timeout, a crash), and nobody says so."""
    return bare(frame).with_columns(total_ms=when(CHANCE < 0.1).then(None).otherwise(col("total_ms")))


STORED = (
    Fault("TTFT among the gaps", ("gaps-not-decode",), first_among_gaps),
    Fault("the usage's event counted as a gap", ("gaps-not-decode",), usage_as_gap),
    Fault("a batch's total over its rows, stages whole", ("stage-sum-exceeds-total",), total_over_batch),
    Fault("TTFT over the batch's rows", ("ttft-below-prefill",), first_over_batch),
    Fault("totals sorted by themselves", ("stage-sum-exceeds-total",), sorted_column),
    Fault("totals one row further down", ("stage-sum-exceeds-total",), shifted_totals),
    Fault("cells moved left in a tenth of the rows", ("stage-sum-exceeds-total",), shifted_cells),
    Fault("each repeat the mean of the repeats", ("copied-rows",), mean_of_repeats),
    Fault("a progress bar's smoothed times", ("smoothed-times",), smoothed),
    Fault("missing rows filled with the mean", ("copied-rows",), filled_with_mean),
    Fault("missing rows filled with the row before", ("copied-rows",), filled_forward),
    Fault("totals above the 95th percentile set to it", ("timeouts-as-times",), winsorised),
    Fault("times kept in bfloat16", ("half-precision",), half_precision),
    Fault("summer time ends in mid-run", ("clock-set-back",), summer_time_ends),
    Fault("not streamed: TTFT is the total", ("not-streamed",), not_streamed),
    Fault("TTFT 0 in all rows", ("ttft-not-seen",), no_first_token),
    Fault("TTFT minus the time of day in a twentieth", ("ttft-below-prefill",), first_minus_epoch),
    Fault("failed calls as calls of 1 ms without tokens", ("ended-at-once",), failed_as_fast),
    Fault("failed calls as calls of 1 ms, totals alone", ("ended-at-once",), failed_as_fast_totals),
    Fault("decode in nanoseconds", ("stage-in-other-unit",), nanoseconds_stage),
    Fault("an older version's results under the same keys", ("duplicate-sample",), two_versions),
    Fault("the clock stops before the device", ("gaps-not-decode",), counted_before_the_end),
    Fault("the second token with the first", ("ttft-holds-decode", "gaps-not-decode"), second_token_at_once),
    Fault("one total of ten missing", ("times-missing",), missing_totals),
)
