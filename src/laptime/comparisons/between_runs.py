"""How much two runs of the same code differ, and what that leaves of a comparison of two single runs.

The samples of one run share their process: its memory placement, its clocks, what else the machine did meanwhile. More
samples don't average that away. So two single runs can't be told apart from two runs of the same code, unless repeats
of A (baselines) show how far its runs lie apart. Then B is compared with all of them as one more run:

    the mean of ln(B / A_i) over k runs of A  ±  t(k - 1) · s · sqrt(1 + 1/k)

with the standard deviation s of the k runs: the prediction interval of one more run, if runs are normal on logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import msgspec
import numpy as np

from laptime.comparisons.calls import Calls, usable_calls
from laptime.comparisons.compared_run import ComparedRun
from laptime.comparisons.matching import Matched, match, stage_logs
from laptime.comparisons.result import UNKNOWN_NOISE, Comparison, StageComparison
from laptime.comparisons.verdict import overall, verdict
from laptime.data.finding import Finding
from laptime.data.record import Interval
from laptime.data.stats import t_quantile
from laptime.errors import LaptimeError

FEWEST_BASELINES = 3
"""With fewer repeats of A their spread is not known well enough for any verdict (t with one degree of freedom)."""

TRIMMED = 0.2
"""The share of a run's pairs that is left out at either end before their mean is taken."""


def with_noise_between_runs(
    compared: Comparison, a: ComparedRun, b: ComparedRun, baselines: Sequence[ComparedRun]
) -> Comparison:
    """The comparison as it holds between runs.

    Without baselines every word is inconclusive; each stage keeps its own within the run. A run without clean samples
    stays unjudged. Raises LaptimeError for baselines that are too few, not clean, or without one of the stages.
    """
    if compared.reason is not None:
        return compared
    if not baselines:
        return msgspec.structs.replace(
            compared,
            verdict="inconclusive",
            reason=UNKNOWN_NOISE,
            stages=[
                s if not s.decides else msgspec.structs.replace(s, verdict="inconclusive", within_run=s.verdict)
                for s in compared.stages
            ],
        )
    if len(baselines) < FEWEST_BASELINES:
        raise LaptimeError(
            f"{len(baselines)} baselines: their spread takes {FEWEST_BASELINES} at least; measure A again"
        )
    repeats = [_clean(run) for run in baselines]
    clean_a, clean_b = _clean(a), _clean(b)
    stages = [
        _between(stage, [clean_a, *repeats], clean_b, compared.min_effect) if stage.decides else stage
        for stage in compared.stages
    ]
    message = f"The noise between runs is that of {len(baselines) + 1} runs of A, taken for normal on logarithms"
    return msgspec.structs.replace(
        compared,
        verdict=overall(s.verdict for s in stages if s.decides),
        stages=stages,
        findings=[*compared.findings, Finding(code="baselines", severity="info", message=message, count=len(repeats))],
    )


def difference(matched: Matched, stage: str) -> float | None:
    """ln(B/A) of one stage of two runs: the trimmed mean over pairs; unpaired, between the inputs' trimmed means."""
    logs = stage_logs(matched, stage)
    if not len(logs.a) or not len(logs.b):
        return None
    if matched.paired:
        return _trimmed_mean(logs.b - logs.a)
    return _trimmed_mean(logs.b) - _trimmed_mean(logs.a)


def _between(stage: StageComparison, runs_of_a: Sequence[Calls], b: Calls, min_effect: float) -> StageComparison:
    first = runs_of_a[0]
    # Everything is a difference from the first run of A, so that inputs cancel.
    places = [0.0, *(difference(match(first, run, 1), stage.stage) for run in runs_of_a[1:])]
    of_b = difference(match(first, b, 1), stage.stage)
    if of_b is None or any(place is None for place in places):
        raise LaptimeError(f"a baseline has no {stage.stage}; name repeats of A")
    known = np.array(places, dtype=np.float64)
    k = len(known)
    middle = of_b - float(known.mean())
    reach = t_quantile(k - 1, (1 + stage.confidence) / 2) * float(known.std(ddof=1)) * sqrt(1 + 1 / k)
    if stage.ratio.low is not None and stage.ratio.high is not None:  # never narrower than the samples allow
        reach = max(reach, log(stage.ratio.high / stage.ratio.low) / 2)
    between = Interval(exp(middle), exp(middle - reach), exp(middle + reach), k)
    return msgspec.structs.replace(
        stage, between=between, verdict=verdict(between, min_effect), within_run=stage.verdict, more_samples=None
    )


def _clean(run: ComparedRun) -> Calls:
    used, flagged = usable_calls(run.calls)
    if not used.any() or flagged:
        raise LaptimeError(f"{run.path}: no sample was clean, so it can't be a baseline; leave it out")
    return run.calls.take(used)


def _trimmed_mean(values: np.ndarray) -> float:
    ordered = np.sort(values)
    cut = int(TRIMMED * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean())
