"""Two runs in, a Comparison out: usable samples, matched, an interval for each stage, a verdict for each interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.comparisons import differences
from laptime.comparisons.between_runs import with_noise_between_runs
from laptime.comparisons.calls import DECODE_PER_TOKEN, Calls, calls_of, left_out, usable_calls
from laptime.comparisons.compared_run import ComparedRun, compared_run
from laptime.comparisons.matching import Matched, match, merged_until_independent, stage_logs, times_ms
from laptime.comparisons.ratio_interval import fewest_pairs, fewest_unpaired, paired_interval, unpaired_interval
from laptime.comparisons.result import NOT_CLEAN, Comparison, Side, StageComparison
from laptime.comparisons.verdict import more_samples, overall, verdict
from laptime.data.finding import Finding
from laptime.data.record import STAGES, Sample
from laptime.data.run_folder import Run
from laptime.errors import LaptimeError

JUDGED = (*STAGES, "total")
CHOICES = (*JUDGED, DECODE_PER_TOKEN)


def compare_two_runs(
    a: Run | ComparedRun,
    b: Run | ComparedRun,
    *,
    baselines: Sequence[Run | ComparedRun] = (),
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
) -> Comparison:
    """Is B slower or faster than A? `compare_samples`, and what the noise between runs leaves of its words.

    Two processes of the same code differ by more than their samples show (laptime.comparisons.between_runs), so
    without `baselines`, further runs of A, the verdict is inconclusive. A finding names whatever differs in the
    environments.

    Raises LaptimeError when nothing is comparable.
    """
    one, other, *repeats = (compared_run(run) for run in (a, b, *baselines))
    compared = compare_samples(
        one.calls, other.calls, stage=stage, min_effect=min_effect, confidence=confidence, names=(one.path, other.path)
    )
    around = [
        *_one_folder(one.path, other.path),
        *differences.environment_findings(one.info.environment, other.info.environment),
        *differences.session_findings(one.info.session, other.info.session),
    ]
    for repeat in repeats:
        around += differences.environment_findings(one.info.environment, repeat.info.environment)
        around += differences.config_findings(one.info.config, repeat.info.config)
    compared = msgspec.structs.replace(compared, findings=[*around, *compared.findings])
    return with_noise_between_runs(compared, one, other, repeats)


def _one_folder(a: str, b: str) -> list[Finding]:
    """A finding where A and B are the same run: then nothing can differ."""
    if not (Path(a) / "run.json").exists() or Path(a).resolve() != Path(b).resolve():
        return []
    message = "A and B are one folder, so no difference can show; name two runs"
    return [Finding(code="one-folder", severity="warning", message=message, count=1)]


def compare_samples(
    a: Sequence[Sample] | Calls,
    b: Sequence[Sample] | Calls,
    *,
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Compare every stage that both have, or only `stage` (a stage's name, "total" or "decode_per_token").

    Flagged samples are left out as in a run's summary. Pairs by (sample_id, repeat) where there are enough, else
    unpaired (laptime.comparisons.matching). The interval of B/A is Hodges and Lehmann's
    (laptime.comparisons.ratio_interval) at 1 - (1 - confidence) / (m + 1) for m stages: Bonferroni, so that all m
    hold together with `confidence`, and one share more for what the interval's exactness leaves out (neighbours are
    merged after looking at them). A verdict of slower or faster needs the interval to exclude 1 AND the estimate to
    exceed min_effect; same needs the whole interval within it; anything else is inconclusive
    (laptime.comparisons.verdict).

    Raises LaptimeError when a run has no samples, when no stage is comparable, or when `stage` is not.
    """
    check_question(stage, min_effect, confidence)
    all_a, all_b = (run if isinstance(run, Calls) else calls_of(run) for run in (a, b))
    (mask_a, used_a), (mask_b, used_b) = _usable(all_a, names[0]), _usable(all_b, names[1])
    most = len([name for name in JUDGED if _ever(used_a, used_b, name)]) if stage is None else 1
    matched = match(used_a, used_b, fewest_pairs(_each(confidence, most)))
    stages, findings = comparable_stages(matched, stage)
    each = _each(confidence, len(stages))
    compared = [_compare_stage(matched, name, min_effect, each) for name in stages]
    sides = [_side(all_a, mask_a, matched.a, names[0]), _side(all_b, mask_b, matched.b, names[1])]
    small = small_stages(matched, stages)
    flagged = _flagged_findings(all_a, all_b, names)
    compared = [undecided(c, small=c.stage in small) if flagged or c.stage in small else c for c in compared]
    findings += [*flagged, *small_findings(small), *differences.sample_findings(matched), *_serial(compared)]
    return Comparison(
        verdict=overall(c.verdict for c in compared if c.decides),
        reason=NOT_CLEAN if flagged else None,
        a=sides[0],
        b=sides[1],
        min_effect=min_effect,
        confidence=confidence,
        stages=compared,
        findings=findings,
    )


def check_question(stage: str | None, min_effect: float, confidence: float) -> None:
    """Raise LaptimeError for a question that makes no sense."""
    if stage is not None and stage not in CHOICES:
        raise LaptimeError(f"stage {stage!r}: one of {', '.join(CHOICES)}")
    if not 0 <= min_effect < 1:
        raise LaptimeError(f"the smallest effect of interest is a share from 0 to below 1, not {min_effect:g}")
    if not 0.5 <= confidence < 1:
        raise LaptimeError(f"the confidence is a share from 0.5 to below 1, not {confidence:g}")


SMALL = 0.01
"""A stage that takes a smaller share of the call than this never decides: nobody waits for it."""


def small_stages(matched: Matched, stages: Sequence[str]) -> set[str]:
    """The stages that take less than SMALL of the total in both runs, by the sums over their samples."""
    totals = [float(np.nansum(side.times["total"])) for side in (matched.a, matched.b)]
    shares = {
        name: max(
            float(np.nansum(side.times[name])) / total if total > 0 else 1.0
            for side, total in zip((matched.a, matched.b), totals, strict=True)
        )
        for name in stages
        if name in STAGES
    }
    return {name for name, share in shares.items() if share < SMALL}


def undecided(stage: StageComparison, *, small: bool = False) -> StageComparison:
    """The same stage without a word on it; `within_run` keeps what its interval alone would say."""
    return msgspec.structs.replace(
        stage, verdict="inconclusive", within_run=stage.verdict, decides=not small, more_samples=None
    )


def _each(together: float, stages: int) -> float:
    """The confidence of one interval so that those of all `stages` hold together, with one share in reserve."""
    return 1 - (1 - together) / (stages + 1)


def _usable(calls: Calls, name: str) -> tuple[npt.NDArray[np.bool_], Calls]:
    used = usable_calls(calls)[0]
    if not used.any():
        what = "only warm-up calls were measured" if len(calls) else "no sample was measured"
        raise LaptimeError(f"{name}: {what}, so there is nothing to compare")
    return used, calls.take(used)


def comparable_stages(matched: Matched, asked: str | None) -> tuple[list[str], list[Finding]]:
    """The stages to judge, and findings for what else differs; LaptimeError when none is left."""
    config_a, config_b = differences.named_alike(matched)
    paired_by_config = len(matched.a.kinds()) > 1
    reasons = {} if paired_by_config else differences.not_comparable(config_a, config_b)
    wanted = JUDGED if asked is None else (asked,)
    stages = [name for name in wanted if name not in reasons and _in_both(matched, name)]
    if not stages:
        why = "; ".join(sorted({reason for name in wanted for reason in reasons.get(name, ())}))
        what = "nothing is comparable" if asked is None else f"stage {asked} is not comparable"
        mend = f"the runs measure different work: {why}" if why else "no sample of one run has it beside the other's"
        raise LaptimeError(f"{what}: {mend}; compare runs of the same workload")
    findings = [] if paired_by_config else differences.config_findings(config_a, config_b)
    if left := [name for name in wanted if name in reasons]:
        message = f"Not compared, as the runs do different work there: {', '.join(left)}"
        findings.append(Finding(code="work-differs", severity="warning", message=message, count=len(left)))
    one_sided = [n for n in wanted if n not in stages and n not in reasons and _in_either(matched, n)]
    if one_sided:
        message = f"Not compared, as one run only has it: {', '.join(one_sided)}"
        findings.append(Finding(code="stage-missing", severity="warning", message=message, count=len(one_sided)))
    return stages, findings


def _in_both(matched: Matched, stage: str) -> bool:
    if matched.paired:
        return bool((~np.isnan(times_ms(matched.a, stage)) & ~np.isnan(times_ms(matched.b, stage))).any())
    return all(bool((side.times[stage] > 0).any()) for side in (matched.a, matched.b))


def _in_either(matched: Matched, stage: str) -> bool:
    return _ever(matched.a, matched.b, stage)


def _ever(a: Calls, b: Calls, stage: str) -> bool:
    return any(bool((side.times[stage] > 0).any()) for side in (a, b))


def _compare_stage(matched: Matched, stage: str, min_effect: float, confidence: float) -> StageComparison:
    logs = stage_logs(matched, stage)
    if matched.paired:
        fewest = fewest_pairs(confidence)
        log_ratios, block = merged_until_independent(logs.b - logs.a, fewest)
        ratio = paired_interval(log_ratios, confidence)
    else:
        fewest = fewest_unpaired(confidence)
        (a, block_a), (b, block_b) = (merged_until_independent(side, fewest) for side in (logs.a, logs.b))
        block = max(block_a, block_b)
        ratio = unpaired_interval(a, b, confidence)
    word = verdict(ratio, min_effect)
    more = more_samples(ratio, min_effect, fewest) if word == "inconclusive" else None
    return StageComparison(
        stage=stage,
        verdict=word,
        ratio=ratio,
        confidence=confidence,
        paired=matched.paired,
        block=block,
        a_median_ms=float(np.median(np.exp(logs.a))),
        b_median_ms=float(np.median(np.exp(logs.b))),
        more_samples=None if more is None else more * block,
    )


def _side(run: Calls, used: npt.NDArray[np.bool_], matched: Calls, name: str) -> Side:
    return Side(
        run=name,
        samples=len(run),
        used=len(matched),
        left_out=left_out(run, used),
        unpaired=int(used.sum()) - len(matched),
        warm_ups=int((run.repeat < 0).sum()),
        measured_left_out=left_out(run, used | (run.repeat < 0)),
        all_flagged=usable_calls(run)[1],
    )


def small_findings(small: Iterable[str]) -> list[Finding]:
    """A finding that names the stages that are too small to decide."""
    names = sorted(small)
    if not names:
        return []
    message = f"Below 1 % of the call, so it decides nothing: {', '.join(names)}"
    return [Finding(code="small-stage", severity="info", message=message, count=len(names))]


IN_TURNS = ("foreign-process", "gc-pause", "throttled")
"""Flags that hit both sides alike where these are measured in turns, so that they may be kept there."""


def kept_in_turns(left_out: Iterable[str]) -> str:
    """Those of these flags that may be kept in turns, as a,b; "" where none may be."""
    flags = set(left_out)
    return ",".join(flag for flag in IN_TURNS if flag in flags)


def _flagged_findings(a: Calls, b: Calls, names: tuple[str, str]) -> list[Finding]:
    """A finding that names the runs without one clean sample: they are shown, and not judged."""
    dirty = {name: run for run, name in zip((a, b), names, strict=True) if usable_calls(run)[1]}
    if not dirty:
        return []
    message = (
        f"{' and '.join(dirty)}: no sample was clean; the figures are those of flagged ones, and nothing is judged"
    )
    kept = kept_in_turns(text for run in dirty.values() for text in left_out(run, np.zeros(len(run), dtype=np.bool_)))
    if kept and not any(usable_calls(run, IN_TURNS)[1] for run in dirty.values()):
        message += (
            ". To judge all the same, measure in turns: laptime compare --run COMMAND_A --against COMMAND_B "
            f"--keep {kept}"
        )
    return [Finding(code="all-flagged", severity="severe", message=message, count=len(dirty))]


def _serial(compared: Sequence[StageComparison]) -> list[Finding]:
    """A finding when values were not independent of their neighbours."""
    stages = [c.stage for c in compared if c.block > 1]
    if not stages:
        return []
    message = (
        f"The ratio drifts over the run, so neighbours were merged and count as one: {', '.join(stages)}. "
        "Measure A and B in turns"
    )
    return [Finding(code="serial", severity="info", message=message, count=len(stages))]
