"""What a run's samples say together: per stage the median, its interval, the 95th percentile, the share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from laptime.data.columns import STAGE_COLUMNS
from laptime.data.record import STAGES, Interval, Sample
from laptime.data.shown import Shown
from laptime.data.stats import Floats, median_interval, quantile
from laptime.data.usable import left_out_reasons, left_out_rows_reasons, usable, usable_rows, warm_up_rows

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars


class StageSummary(msgspec.Struct, frozen=True):
    """One stage over the samples that had it, in ms. Shares are of the summed totals and add up to 1."""

    median: Interval
    p95: float
    mean: float
    share: float


class Drafting(msgspec.Struct, frozen=True):
    """Assisted calls together. draft_ms, verify_ms: medians, both of decode; the first draft of a call is in other.

    tokens_per_forward: new tokens over the model's forwards, the prefill's among them. acceptance: the share of drafted
    tokens that were kept; None where none was drafted.
    """

    draft_ms: Interval
    verify_ms: Interval
    tokens_per_forward: float
    acceptance: float | None


class Summary(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """A run in one value. `stages` holds vision, prefill, decode, other, total (decode absent when none ran)."""

    ROWS: ClassVar[str] = "stages"

    samples: int
    used: int
    left_out: dict[str, int]  # flag (or "warm-up") -> samples that carry it and were left out
    all_flagged: bool  # no sample was clean, so flagged ones are used (laptime.data.usable)
    used_flags: dict[str, int] = {}  # flag -> samples that carry it and are used
    cut_short: int | None = None  # used samples with a row at the limit on new tokens; None where none could end sooner
    stages: dict[str, StageSummary]
    ttft_ms: Interval | None
    tpot_ms: Interval | None
    decode_per_token_ms: Interval | None
    itl_p50_ms: float | None
    itl_p95_ms: float | None
    tokens_per_s: float | None
    output_tokens_mean: float | None
    memory_peak_bytes: int | None
    energy_j: Interval | None
    energy_per_token_j: float | None
    preprocess_ms: Interval | None = None  # before the call, in no stage
    prefill_tokens_per_s: float | None = None  # prompt tokens of all rows, those in a cache left out, over prefill
    decode_tokens_per_s: float | None = None  # tokens after each row's first over decode
    cached_tokens_mean: float | None = None  # of a prompt, already in the cache that a call brought
    warm_ups: int = 0  # of `samples`: the warm-up calls, which are always left out
    measured_left_out: dict[str, int] = {}  # `left_out` without the warm-up calls
    drafting: Drafting | None = None  # of assisted calls; None where there are none

    @property
    def measured(self) -> int:
        """The samples that are no warm-up calls."""
        return self.samples - self.warm_ups

    @property
    def mean_stages_ms(self) -> dict[str, float]:
        """The mean time of a call in each stage; together they are the mean total."""
        return {name: stage.share * self.stages["total"].mean for name, stage in self.stages.items() if name in STAGES}

    def metrics(self) -> dict[str, float]:
        """The figures as one flat mapping, for a tracker of experiments: medians in ms by stage, rates, counts.

        Example: mlflow.log_metrics(run.summary.metrics())
        """
        medians = {f"{name}_ms": stage.median.value for name, stage in self.stages.items()}
        p95 = {f"{name}_p95_ms": stage.p95 for name, stage in self.stages.items()}
        others = {
            "ttft_ms": self.ttft_ms.value if self.ttft_ms else None,
            "tpot_ms": self.tpot_ms.value if self.tpot_ms else None,
            "decode_per_token_ms": self.decode_per_token_ms.value if self.decode_per_token_ms else None,
            "tokens_per_s": self.tokens_per_s,
            "memory_peak_bytes": self.memory_peak_bytes,
            "energy_j": self.energy_j.value if self.energy_j else None,
            "samples_used": self.used,
            "samples_left_out": self.measured - self.used,
            "warm_up_calls": self.warm_ups,
        }
        return {**medians, **p95, **{name: float(value) for name, value in others.items() if value is not None}}


def summarise(samples: Sequence[Sample]) -> Summary:
    """Summarise samples of one configuration. Works on none: everything is then empty or None."""
    used, all_flagged = usable(samples)
    kept = set(map(id, used))
    return _summary(
        _Figures(
            samples=len(samples),
            used=len(used),
            left_out=left_out_reasons(sample for sample in samples if id(sample) not in kept),
            warm_ups=sum(sample.repeat < 0 for sample in samples),
            measured_left_out=left_out_reasons(s for s in samples if id(s) not in kept and s.repeat >= 0),
            all_flagged=all_flagged,
            used_flags=left_out_reasons(used),
            columns={name: np.array([_value(s, name) for s in used], dtype=np.float64) for name in SUMMARISED},
            gaps=np.array([gap for s in used for gap in s.itl_ms or ()], dtype=np.float64),
        )
    )


def summarise_frame(frame: polars.DataFrame) -> Summary:
    """Summarise the rows of a frame (laptime.data.frame.read_frame).

    Without the column itl_ms the two figures of gaps between tokens are None.
    """

    mask, all_flagged = usable_rows(frame)
    used, warm_up = frame.filter(mask), warm_up_rows(frame)
    gaps = used["itl_ms"].explode().drop_nulls().to_numpy() if "itl_ms" in frame.columns else np.empty(0)
    return _summary(
        _Figures(
            samples=frame.height,
            used=used.height,
            left_out=left_out_rows_reasons(frame.filter(~mask)),
            warm_ups=int(warm_up.sum()),
            measured_left_out=left_out_rows_reasons(frame.filter(~mask & ~warm_up)),
            all_flagged=all_flagged,
            used_flags=left_out_rows_reasons(used),
            columns={name: _floats(used, name) for name in SUMMARISED},
            gaps=gaps,
        )
    )


def _floats(frame: polars.DataFrame, name: str) -> Floats:
    """A column with NaN where there is no value; a table from elsewhere may not have it at all."""
    import polars

    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    column: Floats = frame[name].cast(polars.Float64).fill_null(float("nan")).to_numpy()
    return column


SUMMARISED = (*STAGE_COLUMNS, "ttft_ms", "tpot_ms", "decode_per_token_ms", "energy_j", "output_tokens",
              "generated_tokens", "memory_peak_bytes", "cut_rows", "preprocess_ms", "prompt_tokens", "cached_tokens",
              "batch", "draft_ms", "verify_ms", "drafted_tokens", "accepted_tokens", "decode_forwards")  # fmt: skip


@dataclass(frozen=True)
class _Figures:
    """What a summary is made from. `columns`: SUMMARISED of the used samples, NaN where there is no value."""

    samples: int
    used: int
    left_out: dict[str, int]
    warm_ups: int
    measured_left_out: dict[str, int]
    all_flagged: bool
    used_flags: dict[str, int]
    columns: dict[str, Floats]
    gaps: Floats


def _value(sample: Sample, column: str) -> float | None:
    value: float | None = getattr(sample.stages if column in STAGE_COLUMNS else sample, column)
    return value


def _summary(figures: _Figures) -> Summary:
    values = {name: column[~np.isnan(column)] for name, column in figures.columns.items()}
    total = _sum(values["total_ms"])
    stages: dict[str, StageSummary] = {}
    for name in (*STAGES, "total"):
        times = values[f"{name}_ms"]
        if len(times):
            added = _sum(times)
            share = added / total if total else 0.0
            stages[name] = StageSummary(median_interval(times), quantile(times, 0.95), added / len(times), share)
    generated, outputs, peaks = values["generated_tokens"], values["output_tokens"], values["memory_peak_bytes"]
    with_energy = ~np.isnan(figures.columns["energy_j"])
    energy_tokens = _sum(np.nan_to_num(figures.columns["generated_tokens"][with_energy]))
    return Summary(
        samples=figures.samples,
        used=figures.used,
        left_out=figures.left_out,
        warm_ups=figures.warm_ups,
        measured_left_out=figures.measured_left_out,
        all_flagged=figures.all_flagged,
        used_flags=figures.used_flags,
        cut_short=int((values["cut_rows"] > 0).sum()) if len(values["cut_rows"]) else None,
        stages=stages,
        ttft_ms=_median(values["ttft_ms"]),
        tpot_ms=_median(values["tpot_ms"]),
        decode_per_token_ms=_median(values["decode_per_token_ms"]),
        itl_p50_ms=quantile(figures.gaps, 0.5) if len(figures.gaps) else None,
        itl_p95_ms=quantile(figures.gaps, 0.95) if len(figures.gaps) else None,
        tokens_per_s=_sum(generated) / total * 1e3 if total else None,
        output_tokens_mean=_sum(outputs) / len(outputs) if len(outputs) else None,
        memory_peak_bytes=int(peaks.max()) if len(peaks) else None,
        energy_j=_median(values["energy_j"]),
        energy_per_token_j=_sum(values["energy_j"]) / energy_tokens if energy_tokens else None,
        preprocess_ms=_median(values["preprocess_ms"]),
        prefill_tokens_per_s=_rate(_prompt_tokens(figures.columns), figures.columns["prefill_ms"]),
        decode_tokens_per_s=_rate(_decode_tokens(figures.columns), figures.columns["decode_ms"]),
        cached_tokens_mean=_sum(values["cached_tokens"]) / len(values["cached_tokens"])
        if len(values["cached_tokens"])
        else None,
        drafting=_drafting(figures.columns),
    )


def _drafting(columns: dict[str, Floats]) -> Drafting | None:
    assisted = ~np.isnan(columns["drafted_tokens"])
    draft_ms, verify_ms = _median(columns["draft_ms"][assisted]), _median(columns["verify_ms"][assisted])
    if draft_ms is None or verify_ms is None:
        return None
    drafted = _sum(columns["drafted_tokens"][assisted])
    return Drafting(
        draft_ms=draft_ms,
        verify_ms=verify_ms,
        tokens_per_forward=_sum(columns["output_tokens"][assisted]) / _sum(columns["decode_forwards"][assisted] + 1),
        acceptance=_sum(columns["accepted_tokens"][assisted]) / drafted if drafted else None,
    )


def _prompt_tokens(columns: dict[str, Floats]) -> Floats:
    """The tokens of all rows that a prefill computed."""
    computed: Floats = (columns["prompt_tokens"] - np.nan_to_num(columns["cached_tokens"])) * columns["batch"]
    return computed


def _decode_tokens(columns: dict[str, Floats]) -> Floats:
    """The tokens after each row's first. Unknown of an assisted call, whose prefill can give several."""
    after: Floats = columns["generated_tokens"] - columns["batch"]
    return np.where(np.isnan(columns["drafted_tokens"]), after, np.nan)


def _rate(tokens: Floats, ms: Floats) -> float | None:
    """Tokens a second over the calls that have both."""
    both = ~np.isnan(tokens) & ~np.isnan(ms) & (ms > 0)
    return _sum(tokens[both]) / _sum(ms[both]) * 1e3 if both.any() else None


def _sum(values: Floats) -> float:
    """The sum, added up in the order of the samples."""
    total: float = sum(values.tolist())
    return total


def _median(values: Floats) -> Interval | None:
    return median_interval(values) if len(values) else None


class ItlBand(msgspec.Struct, frozen=True):
    """Columns of one length: the gap before output token `position` (from 2), over the `n` samples that have one."""

    position: list[int]
    p5: list[float]
    median: list[float]
    p95: list[float]
    n: list[int]


def itl_band(samples: Sequence[Sample]) -> ItlBand | None:
    """The band over the samples measured per token; None when there is none."""
    rows = [sample.itl_ms for sample in samples if sample.itl_ms]
    longest = max(map(len, rows), default=0)
    if longest == 0:
        return None
    columns = [[row[i] for row in rows if len(row) > i] for i in range(longest)]
    return ItlBand(
        position=list(range(2, longest + 2)),
        p5=[quantile(column, 0.05) for column in columns],
        median=[quantile(column, 0.5) for column in columns],
        p95=[quantile(column, 0.95) for column in columns],
        n=[len(column) for column in columns],
    )
