"""A frame of samples made ready: columns checked, the usable calls, configurations and inputs as small numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from laptime.data.measuring_time import frame_time
from laptime.data.record import STAGES, Scalar
from laptime.data.usable import Grade, row_grades, warm_up_rows
from laptime.data.visits import visit_codes
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    import polars as pl


JUDGED = (*STAGES, "total")
TIMES = tuple(f"{name}_ms" for name in JUDGED)
OTHER_FIGURES = ("ttft_ms", "tpot_ms", "decode_per_token_ms", "energy_j", "score")
FIGURES = (*TIMES, *OTHER_FIGURES)
"""Columns that get one value for each (configuration, sample)."""
PLAIN = ("output_tokens", "crops", "image_tokens", "memory_peak_bytes", "started_unix_ms", "repeat")

Codes = npt.NDArray[np.int64]
NEARLY_ALL = 0.9
"""The share of configurations that must have a call of the common grade."""


@dataclass(frozen=True)
class Calls:
    """The usable calls of a sweep.

    Columns of `frame`: `config`, `input` and `visit` (codes), `grade` (laptime.data.usable), FIGURES and PLAIN as
    float64, and `at_ms` and `session`: when it was measured (laptime.data.measuring_time); null where a start isn't
    known.

    A visit is a worker's stay at a configuration (laptime.sweeps.summary.calls).

    `inputs`: how many codes of inputs there are. The lists go by the configuration's code. `left_out` counts calls
    that were measured but not used, `warm_ups` those of them before measuring; `flags` counts the others' flags.
    `all_flagged` says of which configuration no call was clean, `compared` which ones have calls of `grade`, the common
    one. `scores`: `config`, `input` and `score` of every scored call but warm-ups: a disturbed
    clock says nothing about an answer.
    """

    frame: pl.DataFrame
    scores: pl.DataFrame
    inputs: int
    config_ids: list[str]
    configs: list[dict[str, Scalar]]
    left_out: list[int]
    warm_ups: list[int]
    flags: list[dict[str, int]]
    all_flagged: list[bool]
    compared: list[bool]
    grade: Grade
    tiers: list[str | None]


def usable_calls(frame: pl.DataFrame) -> Calls:
    """The calls to summarise, chosen by one grade (laptime.data.usable) for all configurations.

    The grade is the best one at which nearly every measured configuration has a call (NEARLY_ALL). A configuration that
    has no call of the grade keeps its best ones, is shown, and is not compared. Clean calls of one against flagged
    calls of another would look like an effect of a knob, so effects match calls of one grade (matched.make_grid).

    Rows without a total are no calls that can be used. Without config_id a configuration is what its `config.*`
    columns say; without sample_id every row is an input of its own, and nothing can be matched.
    Raises LaptimeError when there is no total_ms, or a column holds no numbers.
    """
    import polars as pl

    if "total_ms" not in frame.columns:
        raise LaptimeError(
            "the samples have no column total_ms, so no sweep can be summarised; name a run folder or a table that "
            "`laptime export` wrote"
        )
    settings = [name for name in frame.columns if name.startswith("config.")]
    frame = frame.with_columns(_names(frame, settings))
    try:
        grades = row_grades(frame)
        coded = frame.select(
            _code("config_id", frame).alias("config"),
            _code("sample_id", frame).alias("input"),
            grades,
            *(_real(name, frame) for name in (*FIGURES, *PLAIN)),
        )
        coded = coded.with_columns(
            _visits(coded, frame, grades == Grade.WARM_UP).alias("visit"), *_measuring_time(coded, frame)
        )
    except pl.exceptions.PolarsError as error:
        raise LaptimeError(f"the samples' columns are not as expected: {str(error).splitlines()[0]}") from error
    first = frame.unique("config_id", keep="first", maintain_order=True)
    config_ids = first["config_id"].to_list()
    calls = np.bincount(coded["config"].to_numpy(), minlength=len(config_ids))
    warm_up = warm_up_rows(frame)
    warm_ups = np.bincount(coded["config"].filter(warm_up).to_numpy(), minlength=len(config_ids))
    flags = _flags_by_config(coded["config"].filter(~warm_up), frame.filter(~warm_up), len(config_ids))
    scores = coded.filter(pl.col("score").is_not_null(), pl.col("grade") < Grade.WARM_UP)
    coded = coded.filter(pl.col("total_ms").is_not_null(), pl.col("grade") < Grade.WARM_UP)
    best_of = coded.group_by("config").agg(pl.col("grade").min().alias("best"))
    common = _common_grade(best_of["best"].to_numpy())
    judged = coded.join(best_of, on="config", maintain_order="left")
    used = judged.filter(pl.col("grade") <= pl.max_horizontal(pl.lit(common), pl.col("best").cast(pl.Int64)))
    best = np.zeros(len(config_ids), dtype=np.int64)
    best[best_of["config"].to_numpy()] = best_of["best"].to_numpy()
    kept = np.bincount(used["config"].to_numpy(), minlength=len(config_ids))
    configs = [
        {name.removeprefix("config."): value for name, value in row.items() if value is not None}
        for row in first.select(settings).to_dicts()
    ] or [{} for _ in config_ids]
    return Calls(
        frame=used.drop("best"),
        scores=scores.select("config", "input", "score"),
        inputs=frame["sample_id"].n_unique(),
        config_ids=config_ids,
        configs=configs,
        left_out=(calls - kept).tolist(),
        warm_ups=warm_ups.tolist(),
        flags=flags,
        all_flagged=(best != Grade.CLEAN).tolist(),
        compared=(best <= common).tolist(),
        grade=Grade(common),
        tiers=[None if (tier := config.get("tier")) is None else str(tier) for config in configs],
    )


def _flags_by_config(configs: pl.Series, measured: pl.DataFrame, count: int) -> list[dict[str, int]]:
    """For each configuration's code, how many of its samples carry which flag."""
    carried: list[Counter[str]] = [Counter() for _ in range(count)]
    if "flags" in measured.columns:
        kinds = measured.select("flags", configs.alias("config")).group_by("config", "flags").len()
        for config, text, samples in kinds.iter_rows():
            carried[config].update(dict.fromkeys(filter(None, (text or "").split(",")), samples))
    return [dict(sorted(one.items())) for one in carried]


def compared_calls(calls: Calls) -> Calls:
    """The calls of the configurations that are compared."""
    import polars as pl

    if all(calls.compared):
        return calls
    codes = [code for code, compared in enumerate(calls.compared) if compared]
    return replace(calls, frame=calls.frame.filter(pl.col("config").is_in(codes)))


def _common_grade(best: npt.NDArray[np.int8]) -> int:
    """The best grade at which at least NEARLY_ALL of the configurations have a call, from each one's best grade."""
    for grade in (Grade.CLEAN, Grade.DISTURBED):
        if len(best) and (best <= grade).mean() >= NEARLY_ALL:
            return int(grade)
    return int(Grade.COLD if len(best) else Grade.CLEAN)


def _names(frame: pl.DataFrame, settings: list[str]) -> list[pl.Expr]:
    """config_id and sample_id as text, made up where they are missing."""
    import polars as pl

    values = [
        pl.concat_str(pl.lit(f"{name.removeprefix('config.')}="), pl.col(name).cast(pl.String)).fill_null("")
        for name in settings
    ]
    by_settings = pl.concat_str(values, separator=" ") if values else pl.lit("all")
    by_row = pl.format("row {}", pl.int_range(pl.len()))
    made = {"config_id": by_settings, "sample_id": by_row}
    return [
        (pl.coalesce(pl.col(name).cast(pl.String), other) if name in frame.columns else other).alias(name)
        for name, other in made.items()
    ]


def _visits(coded: pl.DataFrame, frame: pl.DataFrame, warm_up: pl.Series) -> pl.Series:
    """Each row's visit. Without a column `worker` one worker measured all."""
    import polars as pl

    worker = pl.lit(0, pl.Int64)
    if "worker" in frame.columns:
        worker = pl.col("worker").cast(pl.String).fill_null("").cast(pl.Categorical).to_physical().cast(pl.Int64)
    beside = frame.select("config_id", worker.alias("worker"), warm_up.alias("warm_up"))
    return pl.Series(
        visit_codes(
            coded["config"].to_numpy(),
            beside["worker"].to_numpy(),
            coded["started_unix_ms"].fill_null(0.0).to_numpy(),
            beside["warm_up"].to_numpy(),
        )
    )


def _measuring_time(coded: pl.DataFrame, frame: pl.DataFrame) -> list[pl.Series]:
    """The columns `at_ms` and `session`."""
    import polars as pl

    known = (coded["started_unix_ms"] > 0).fill_null(value=False)
    if not known.all() or not frame.height:
        return [
            pl.Series("at_ms", [None] * frame.height, dtype=pl.Float64),
            pl.Series("session", [None] * frame.height, dtype=pl.Int64),
        ]
    beside = [coded["started_unix_ms"], coded["total_ms"]]
    time = frame_time(pl.DataFrame([*beside, *([frame["worker"]] if "worker" in frame.columns else [])]))
    return [pl.Series("at_ms", time.at_ms), pl.Series("session", time.session)]


def _code(name: str, frame: pl.DataFrame) -> pl.Expr:
    """A text column as numbers from 0, in the order of first appearance."""
    import polars as pl

    return pl.col(name).cast(pl.Enum(frame[name].unique(maintain_order=True))).to_physical().cast(pl.Int64)


def _real(name: str, frame: pl.DataFrame) -> pl.Expr:
    """A column as float64, null where it isn't finite; all null when there is no such column."""
    import polars as pl

    if name not in frame.columns:
        return pl.lit(None, dtype=pl.Float64).alias(name)
    number = pl.col(name).cast(pl.Float64)
    return pl.when(number.is_finite()).then(number).alias(name)
