"""A rule about shape: repeats of the same input that fall into two heaps, so that no median describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from laptime.audits.dip import MOST, dip, p_value
from laptime.audits.measurements import LIKE, Measurements, equal_length_ms
from laptime.audits.ranks import ERROR, poisson_tail
from laptime.audits.result import EXAMPLES, AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent
from laptime.audits.valley import away_from_like, two_parts, valley
from laptime.data.stats import Floats

if TYPE_CHECKING:
    from polars import DataFrame

FEWEST = 20
"""With fewer samples of the same work, two heaps can't be distinguished from one."""

APART = 0.03
"""Two heaps nearer than this make no difference that matters."""

SMALLEST_HEAP = 0.1
"""A smaller share is outliers, not a second mode."""

MOST_AWAY = 100_000
"""Of more samples some inputs are taken: a heap is certain long before."""

BARS = 40
INPUT, STREAM = ["config_id", "sample_id"], ["worker"]
SIZE = ["config_id", "prompt_tokens", "image_tokens", "crops", "batch"]

WINDOW = 61
"""Calls whose mean is subtracted: a machine that gets slower is no second heap."""

WITHIN = 0.6
"""Of the pairs of repeats that would lie in different heaps by chance alone, so many do: else inputs have two costs."""

TOGETHER = "\x00together"
"""Stands for all configurations at once, where one's id would stand."""


@dataclass(frozen=True)
class Heaps:
    """Values of repeats of the same input, cut in two where that explains most of their variance (logarithms).

    by: "step", the size of the step from a repeat to the next; "away", how far a sample is from the other repeats of
    its input; or "level", how far it is from its configuration's.
    """

    by: str
    config_id: str | None
    n: int
    p: float  # of the dip, or of the valley
    apart: float  # the upper heap's median over the lower's, less 1
    upper: float  # share of samples in the upper heap
    cut: float  # between the heaps


def bimodal(measurements: Measurements) -> RuleOutcome:
    """Two modes among the repeats of the same inputs: by Hartigan's dip of the steps from each to the next, which shows
    two large heaps, and by the valley beside a small one (laptime.audits.valley).

    Inputs of two costs look like two modes, so each input must have been measured LIKE times. Neighbours that resemble
    each other count as fewer samples: a clock that wanders looks like several modes too.
    """
    from polars import Series, col, struct

    if measurements.order_unknown is not None:
        return NotJudged(measurements.order_unknown)
    if not measurements.repeated:
        return NotJudged(f"most inputs were measured fewer than {LIKE} times: two kinds of inputs would look the same")
    step = col("deviation").diff().over("config_id", "sample_id").abs()
    used = measurements.used.with_columns(step=step)
    used = used.with_columns(away=Series(_away(used)), level=Series(_level(used)), input=struct(INPUT).rank("dense"))
    groups = used.group_by("config_id", maintain_order=True).agg(
        n=col("row").len(), deviations=col("deviation"), steps=col("step").drop_nulls(), away=col("away"),
        level=col("level"), input=col("input"),
    )  # fmt: skip
    groups = groups.filter(col("n") >= FEWEST)
    if groups.is_empty():
        return NotJudged(f"no configuration has {FEWEST} usable samples")
    judged = [h for row in groups.iter_rows(named=True) if (h := _heaps_of(row["config_id"], row)) is not None]
    if groups.height > 1:  # two states of the machine are those of every configuration: together they show sooner
        every = used.filter(col("config_id").is_in(groups["config_id"].implode(), nulls_equal=True))
        columns = {"deviations": every["deviation"], "steps": every["step"].drop_nulls()}
        columns |= {name: every[name] for name in ("away", "level", "input")}
        judged += [h] if (h := _heaps_of(TOGETHER, columns)) is not None else []
    if not judged:
        return NotJudged("neighbouring samples resemble each other too much: a wandering clock would look the same")
    two = _significant([h for h in judged if h.apart >= APART], judged)
    if not two:
        return Judged(groups.height)
    alone = [h for h in two if h.config_id != TOGETHER] or two
    strongest = max(alone, key=lambda h: h.apart)
    together = strongest.config_id == TOGETHER
    rows = used if together else used.filter(col("config_id").eq_missing(strongest.config_id))
    named = "all configurations together" if together else measurements.shown_config(strongest.config_id)
    count = groups.height if together else len(alone)
    upper = rows.filter(col(strongest.by) > strongest.cut).head(2).to_dicts()
    lower = rows.filter(col(strongest.by) <= strongest.cut).head(2).to_dicts()
    examples = [
        f"{named if together else measurements.shown_config(h.config_id)}: {_what(h)}"
        for h in sorted(alone, key=lambda h: -h.apart)[: EXAMPLES - 2]
    ]
    examples += [f"{key_of(row)}: {row['total_ms']:.2f} ms, {name}" for name, row in _one_each(upper, lower)]
    return Judged(
        groups.height,
        AuditFinding(
            code="bimodal",
            severity="warning",
            count=count,
            of=groups.height,
            unit="configuration",
            examples=examples,
            reason=f"{'Over' if together else f'In {count:,} of'} {counted(groups.height, 'configuration')}"
            f"{' together' if together else ''} repeats of the same input have two "
            f"modes ({TESTS[strongest.by]}, p {_p(min(h.p for h in two))}), {percent(strongest.apart)} apart at most: "
            "the median falls into one of them by chance. Two devices under one name, two clocks, or a cache that "
            "answers some repeats would each look so.",
            mend="Find what has two states (devices, clocks, a second process, memory placement) and hold it still",
            picture=_picture(100 * rows["deviation"].to_numpy(), named),
        ),
    )


def _significant(candidates: list[Heaps], judged: list[Heaps]) -> list[Heaps]:
    """Those that chance explains badly: each alone by Bonferroni, or more of them together than chance gives.

    All calls in one count as much as all configurations: two states of a machine are those of every configuration.
    """
    each = ERROR / 2
    usual = ERROR
    together = [h for h in candidates if h.p <= usual]
    if poisson_tail(len(together), usual * len(judged)) <= each:
        return together
    return [h for h in candidates if h.p <= each / 2 / (1 if h.config_id == TOGETHER else len(judged))]


TRIES = {"step": 4, "away": 4, "level": 2}
"""By what each test's chance is multiplied, so that all three together have theirs once."""

TESTS = {"step": "Hartigan's dip", "away": "the valley between them", "level": "the valley between them"}


def _what(heaps: Heaps) -> str:
    share, apart = f"{percent(heaps.upper)} of {heaps.n:,} samples", percent(heaps.apart)
    if heaps.by == "step":
        return f"{share} differ by about {apart} from the same input's repeat before"
    others = "the same input" if heaps.by == "away" else "the same size"
    return f"{share} take about {apart} more than the others of {others}"


def _away(used: DataFrame) -> Floats:
    """How far each sample is from its like, in the order in which they were measured; of a large run some inputs'.

    A worker's first call of a configuration has none: that it is slow is another rule's business (cold-start).
    """
    from polars import col

    thin = used.height // MOST_AWAY + 1
    some = (used.select(INPUT).hash_rows(0) % thin == 0).to_numpy()
    kept, away = used.filter(some), np.full(used.height, np.nan)
    codes = [kept.select(columns).to_struct().rank("dense").to_numpy() - 1 for columns in (INPUT, STREAM)]
    inputs, streams = (code.astype(np.int64) for code in codes)
    if kept.height:
        away[some] = away_from_like(kept["deviation"].to_numpy(), inputs, streams)
    away[used.select(first=col("row") == col("row").first().over("config_id", "worker"))["first"].to_numpy()] = np.nan
    return away


def _heaps_of(config_id: str | None, columns: Mapping[str, Any]) -> Heaps | None:
    """What the sharper of the two tests says, as one of two tries."""
    deviations, steps, away, level, inputs = (
        np.array(columns[name]) for name in ("deviations", "steps", "away", "level", "input")
    )
    known = np.isfinite(level)
    all_three = (
        _steps(config_id, deviations, steps),
        _valley(config_id, away[np.isfinite(away)]),
        _within_inputs(config_id, level[known], inputs[known]),
    )
    tried = [replace(heaps, p=min(1.0, heaps.p * TRIES[heaps.by])) for heaps in all_three if heaps is not None]
    return min(tried, key=lambda heaps: heaps.p, default=None)


def _independent(values: Floats) -> float:
    """How many of these neighbours count: less where they resemble each other."""
    r = float(np.corrcoef(values[1:], values[:-1])[0, 1]) if len(values) > 2 and np.ptp(values) > 0 else 0.0
    return len(values) * min(1.0, (1 - r) / max(1e-3, 1 + r)) if np.isfinite(r) else len(values)


def _valley(config_id: str | None, away: Floats) -> Heaps | None:
    if len(away) < FEWEST or (independent := _independent(away)) < FEWEST * 2 / 3:
        return None
    found = valley(_unrounded(away), independent)
    return Heaps("away", config_id, len(away), found.p, exp(found.apart) - 1, found.upper, found.cut)


def _within_inputs(config_id: str | None, level: Floats, inputs: Floats) -> Heaps | None:
    """Two heaps of all calls of a configuration, if repeats of one input lie in both: else inputs are of two costs."""
    if len(level) < FEWEST or (independent := _independent(level)) < FEWEST * 2 / 3:
        return None
    found = valley(_unrounded(level), independent)
    upper = level > found.cut
    mixed = found.p if _apart_within(upper, inputs) >= WITHIN * 2 * found.upper * (1 - found.upper) else 1.0
    return Heaps("level", config_id, len(level), mixed, exp(found.apart) - 1, found.upper, found.cut)


def _apart_within(upper: np.ndarray, inputs: Floats) -> float:
    """The share of pairs of repeats of one input that lie in different heaps."""
    _, code = np.unique(inputs, return_inverse=True)
    n, hits = np.bincount(code).astype(float), np.bincount(code, weights=upper.astype(float))
    pairs = float((n * (n - 1) / 2).sum())
    return float((hits * (n - hits)).sum()) / pairs if pairs else 0.0


def _level(used: DataFrame) -> Floats:
    """How far each sample is from its configuration's others of the same size, at one length of the answers.

    Without what its worker and its time add. Runs of few inputs need no other way, and large ones show by `_away`.
    """
    from polars import col, struct

    if used.height > MOST_AWAY:
        return np.full(used.height, np.nan)
    log, size = used["total_ms"].log().to_numpy(), used.select(struct(SIZE).rank("dense"))[SIZE[0]].to_numpy()
    by_length = used.select(equal_length_ms(SIZE).log().alias("log"))["log"].to_numpy()
    streams = used["worker"].rank("dense").fill_null(0).to_numpy()
    tried = [_centred(values, size, streams, np.zeros(len(values))) for values in (by_length, log)]
    values, level = min(zip((by_length, log), tried, strict=True), key=lambda pair: float(np.abs(pair[1]).mean()))
    cut = two_parts(ordered := np.sort(level))  # where two calls of five are slow, a median lies high in the fast ones
    apart = float(np.median(ordered[cut:]) - np.median(ordered[:cut]))
    upper = level > float(ordered[cut - 1] + ordered[cut]) / 2
    level = _centred(values, size, streams, np.where(upper, apart, 0.0))
    level[used.select(first=col("row") == col("row").first().over("config_id", "worker"))["first"].to_numpy()] = np.nan
    return level


def _centred(values: Floats, size: Floats, streams: Floats, heap: Floats) -> Floats:
    """Values less what their size, their worker and their time add. heap: what belonging to the upper heap adds."""
    from polars import DataFrame, col
    from scipy.ndimage import uniform_filter1d  # takes a while to import, and most audits need none

    level: Floats = values.copy()
    for groups in (size, streams):
        rest = DataFrame({"rest": level - heap, "group": groups})
        level -= rest.select(col("rest").median().over("group"))["rest"].to_numpy()
    steady = level - heap
    edge = float(np.quantile(np.abs(steady), 0.9))
    level -= uniform_filter1d(np.clip(steady, -edge, edge), size=min(WINDOW, len(level)), mode="nearest")
    return level


def _steps(config_id: str | None, deviations: Floats, steps: Floats) -> Heaps | None:
    """The two heaps of the steps from repeat to repeat; None where too few samples are independent."""
    independent = _independent(deviations) * len(steps) / len(deviations)
    if independent < FEWEST * 2 / 3:
        return None
    values = _unrounded(steps)
    if len(values) > MOST:
        values = np.random.default_rng(len(values)).choice(values, MOST, replace=False)
    x = np.sort(values)
    n, cut = len(x), two_parts(x)
    upper = (n - cut) / n
    enough = min(upper, 1 - upper) >= SMALLEST_HEAP
    return Heaps(
        by="step",
        config_id=config_id,
        n=len(steps),
        p=p_value(dip(x), max(4, round(min(n, independent)))) if enough else 1.0,
        apart=exp(float(np.median(x[cut:]) - np.median(x[:cut]))) - 1,
        upper=upper,
        cut=float(x[cut - 1] + x[cut]) / 2,
    )


def _unrounded(logs: Floats) -> Floats:
    """Values that were rounded, spread over what they were rounded from: steps of a ruler are no modes."""
    distinct = np.unique(logs)
    if len(distinct) > 0.9 * len(logs) or len(distinct) < 2:
        return logs
    step = float(np.min(np.diff(distinct)))
    return logs + np.random.default_rng(len(logs)).uniform(-step / 2, step / 2, len(logs))


def _one_each(upper: list[dict[str, Any]], lower: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [("the other mode", row) for row in upper[:1]] + [("the usual mode", row) for row in lower[:1]]


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _picture(totals: Floats, name: str) -> AuditPicture:
    low, high = np.quantile(totals, [0.005, 0.995])
    counts, edges = np.histogram(totals[(totals >= low) & (totals <= high)], bins=BARS)
    return AuditPicture(
        kind="bars",
        title=f"Repeats of {name}",
        x="% from the median of the same input",
        y="samples",
        points=[AuditPoint(round(float(edge), 3), float(n)) for edge, n in zip(edges[:-1], counts, strict=True)],
    )


RULES = (Rule("bimodal", "one mode in each configuration", ("total_ms",), bimodal),)
