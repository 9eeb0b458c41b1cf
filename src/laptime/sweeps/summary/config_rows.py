"""One row for each configuration, and the rows that no other one beats in both accuracy and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from laptime.data.record import Interval, Scalar
from laptime.data.stats import FEWEST_FOR_MEDIAN, Floats, accuracy, column_medians
from laptime.sweeps.summary.calls import FIGURES, JUDGED, TIMES, Calls
from laptime.sweeps.summary.result import ConfigRow

if TYPE_CHECKING:
    import polars as pl


MEDIANS = FIGURES[:-1]


def input_cells(calls: Calls) -> pl.DataFrame:
    """One row for each (configuration, input), by configuration: the medians of the repeats; of scores the mean."""
    import polars as pl

    most = pl.lit(calls.inputs)
    cells = calls.frame.select((pl.col("config") * most + pl.col("input")).alias("cell"), *FIGURES)
    if cells["cell"].n_unique() < cells.height:
        known = [name for name in MEDIANS if cells[name].null_count() < cells.height]  # medians of nothing take time
        empty = [pl.lit(None, pl.Float64).alias(name) for name in MEDIANS if name not in known]
        cells = cells.group_by("cell").agg(pl.col(known).median(), pl.col("score").mean()).with_columns(empty)
    places = ((pl.col("cell") // most).alias("config"), (pl.col("cell") % most).alias("input"))
    return cells.sort("cell").select(*places, *FIGURES)


def config_rows(
    calls: Calls, cells: pl.DataFrame, failures: Mapping[str, int], planned: Mapping[str, Mapping[str, Scalar]]
) -> list[ConfigRow]:
    """A row for each measured configuration, and one without stages for each that only failed or is only planned.

    Medians are over one value for each input. With fewer than FEWEST_FOR_MEDIAN inputs and several repeats they are
    over all calls, and the row says `repeats`. Order statistics of repeats of a few fixed inputs keep their coverage
    (Hoeffding 1956: a mixture in fixed shares varies less than independent draws from it), but hold for these inputs
    only. Accuracy is the mean over one score for each input: every answer counts, whatever disturbed its timing.
    """
    import polars as pl

    frame = calls.frame.sort("config")
    edges = _edges(frame["config"], len(calls.config_ids))
    cell_edges = _edges(cells["config"], len(calls.config_ids))
    call_values, cell_values = (table.select(FIGURES).to_numpy() for table in (frame, cells))
    sides = frame.group_by("config").agg(
        *(pl.col(name).quantile(0.95, "linear") for name in TIMES),
        *(pl.col(name).mean() for name in ("output_tokens", "crops", "image_tokens")),
        pl.col("memory_peak_bytes").max(),
        pl.col("visit").n_unique(),
    )
    answers = calls.scores.group_by("config", "input").agg(pl.col("score").mean()).sort("config", "input")
    scores, score_edges = answers["score"].to_numpy(), _edges(answers["config"], len(calls.config_ids))
    by_code = {row["config"]: row for row in sides.iter_rows(named=True)}
    rows = []
    for code, config_id in enumerate(calls.config_ids):
        per_call = call_values[edges[code] : edges[code + 1]]
        per_input = cell_values[cell_edges[code] : cell_edges[code + 1]]
        repeats = len(per_input) < FEWEST_FOR_MEDIAN and len(per_call) > len(per_input)
        medians = column_medians((per_call if repeats else per_input)[:, :-1])
        named = dict(zip(MEDIANS, medians, strict=True))
        right, method = accuracy(scores[score_edges[code] : score_edges[code + 1]])
        side = by_code.get(code) or dict.fromkeys(sides.columns)
        peak = side["memory_peak_bytes"]
        rows.append(
            ConfigRow(
                config_id=config_id,
                config=calls.configs[code],
                samples=len(per_call),
                left_out=calls.left_out[code],
                warm_ups=calls.warm_ups[code],
                flags=calls.flags[code],
                all_flagged=calls.all_flagged[code],
                compared=calls.compared[code],
                failures=failures.get(config_id, 0),
                inputs=len(per_input),
                visits=side["visit"] or 0,
                over="repeats" if repeats else "samples",
                stages={name: median for name in JUDGED if (median := named[f"{name}_ms"]) is not None},
                p95_ms={name: value for name in JUDGED if (value := side[f"{name}_ms"]) is not None},
                ttft_ms=named["ttft_ms"],
                tpot_ms=named["tpot_ms"],
                decode_per_token_ms=named["decode_per_token_ms"],
                output_tokens_mean=side["output_tokens"],
                crops_mean=side["crops"],
                image_tokens_mean=side["image_tokens"],
                memory_peak_bytes=None if peak is None else int(peak),
                energy_j=named["energy_j"],
                accuracy=right,
                accuracy_method=method,
            )
        )
    measured = set(calls.config_ids)
    rest = [config_id for config_id in dict.fromkeys([*planned, *failures]) if config_id not in measured]
    return rows + [_unmeasured(config_id, planned.get(config_id, {}), failures.get(config_id, 0)) for config_id in rest]


def _edges(codes: pl.Series, configs: int) -> list[int]:
    """The places in sorted codes where each configuration's rows begin, and the end."""
    edges: list[int] = np.searchsorted(codes.to_numpy(), np.arange(configs + 1)).tolist()
    return edges


def _unmeasured(config_id: str, config: Mapping[str, Scalar], failures: int) -> ConfigRow:
    return ConfigRow(
        config_id=config_id,
        config={name: value for name, value in config.items() if value is not None},
        samples=0,
        left_out=0,
        failures=failures,
        stages={},
        p95_ms={},
        ttft_ms=None,
        tpot_ms=None,
        decode_per_token_ms=None,
        output_tokens_mean=None,
        crops_mean=None,
        image_tokens_mean=None,
        memory_peak_bytes=None,
        energy_j=None,
        accuracy=None,
    )


def pareto_front(rows: Sequence[ConfigRow]) -> tuple[list[str], list[str]]:
    """The config_ids on the front, fastest first, and those near it, in the same order.

    A configuration is on the front if no other one is at least as accurate and at least as fast, and better in one of
    the two; equal points are both on it. It is near the front if it isn't on it, but no other one is surely as accurate
    and surely as fast by their intervals. All configurations answered the same questions, yet the intervals treat them
    as independent, so `near` names rather too many.
    """
    points = [
        (row.config_id, row.accuracy, row.stages["total"])
        for row in rows
        if row.accuracy and row.samples and row.compared
    ]
    points.sort(key=lambda point: (point[2].value, -point[1].value))
    front: list[str] = []
    best = (-1.0, float("inf"))  # the highest accuracy so far, and the least time it took
    for config_id, right, total in points:
        if right.value > best[0] or (right.value, total.value) == best:
            front.append(config_id)
            best = (right.value, total.value)
    rights, ms = _table([right for _, right, _ in points]), _table([total for _, _, total in points])
    near = [
        config_id
        for place, (config_id, _, _) in enumerate(points)
        if config_id not in front and not _surely_beaten(rights, ms, place)
    ]
    return front, near


def _table(intervals: Sequence[Interval]) -> Floats:
    """Low, value, high of each; unknown ends are infinitely far."""
    ends = [(-np.inf if i.low is None else i.low, i.value, np.inf if i.high is None else i.high) for i in intervals]
    return np.array(ends, dtype=np.float64).reshape(-1, 3)


def _surely_beaten(right: Floats, ms: Floats, place: int) -> bool:
    """Whether one other point is as accurate and as fast by all of both intervals, or by the very same one."""
    as_right = (right[:, 0] >= right[place, 2]) | _same(right, place)
    as_fast = (ms[:, 2] <= ms[place, 0]) | _same(ms, place)
    both = as_right & as_fast
    both[place] = False
    return bool(both.any())


def _same(table: Floats, place: int) -> npt.NDArray[np.bool_]:
    low, value, high = table[place]
    return np.asarray((table[:, 1] == value) & (table[:, 0] == low) & (table[:, 2] == high))
