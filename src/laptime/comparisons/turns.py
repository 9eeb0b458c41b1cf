"""B against A, measured in turns by short processes: the process is the unit, the pair of processes the value."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import msgspec
import numpy as np

from laptime.comparisons import differences
from laptime.comparisons.between_runs import difference
from laptime.comparisons.calls import calls_of, joined
from laptime.comparisons.comparison import (
    check_question,
    comparable_stages,
    kept_in_turns,
    small_findings,
    small_stages,
)
from laptime.comparisons.matching import Matched, match, stage_logs
from laptime.comparisons.odds import log_odds, odds_words, turns_interval
from laptime.comparisons.result import Comparison, Side, StageComparison, Turn
from laptime.comparisons.verdict import overall, verdict
from laptime.data.finding import Finding
from laptime.data.record import Sample
from laptime.data.run_folder import Run
from laptime.data.usable import left_out_reasons, usable

NAMED = 5
"""How many processes without a clean sample are named."""

FEWEST_IN_A_PAIR = 1
"""Samples that two processes must share to be paired by input; else their inputs' means are compared."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process's run, by the side that it was started for."""

    number: int
    side: str  # "A" or "B"
    run: Run
    keep: tuple[str, ...] = ()  # flags that don't matter this time

    @property
    def clean(self) -> list[Sample]:
        """The clean samples; none if all are flagged."""
        used, flagged = usable(self.run.samples, self.keep)
        return [] if flagged else used


def compare_turns(
    processes: Sequence[Process],
    *,
    names: tuple[str, str],
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
    last: bool = False,
) -> Comparison:
    """What the finished processes say; their first and second make a pair, their third and fourth, and so on.

    For each pair and stage the value is the trimmed mean of ln(B/A) over the samples that both have. The interval
    holds the factors that the odds (laptime.comparisons.odds) don't exclude, at 1 - (1 - confidence) / m for the m
    stages that decide (Bonferroni), and may be looked at after every pair. A process without a clean sample is not
    judged, and neither is its pair. last: all planned processes have run, so that all pairs are tested once more.

    Raises LaptimeError when nothing is comparable, or an option makes no sense.
    """
    check_question(stage, min_effect, confidence)
    pairs = _pairs(processes)
    turns = [_turn(p) for p in processes]
    findings = _findings(processes, turns, pairs)
    stages: list[StageComparison] = []
    matched = [match(calls_of(a), calls_of(b), FEWEST_IN_A_PAIR) for a, b in pairs]
    if matched:
        together = Matched(
            paired=all(m.paired for m in matched),
            a=joined([m.a for m in matched]),
            b=joined([m.b for m in matched]),
        )
        asked, more = comparable_stages(together, stage)
        small = small_stages(together, asked)
        findings += [*more, *small_findings(small), *differences.sample_findings(together)]
        each = 1 - (1 - confidence) / max(1, len(asked) - len(small))
        stages = [_stage(name, matched, (min_effect, each), decides=name not in small, last=last) for name in asked]
    return Comparison(
        verdict=overall(s.verdict for s in stages if s.decides),
        a=_side("A", names[0], processes),
        b=_side("B", names[1], processes),
        min_effect=min_effect,
        confidence=confidence,
        stages=stages,
        findings=findings,
        reason=None if stages else "no pair of processes with clean samples",
        turns=turns,
    )


def _pairs(processes: Sequence[Process]) -> list[tuple[list[Sample], list[Sample]]]:
    pairs = []
    for one, other in zip(processes[::2], processes[1::2], strict=False):
        a, b = (one, other) if one.side == "A" else (other, one)
        if a.clean and b.clean:
            pairs.append((a.clean, b.clean))
    return pairs


def _stage(
    name: str, matched: Sequence[Matched], limits: tuple[float, float], *, decides: bool, last: bool
) -> StageComparison:
    """limits: the smallest effect that counts, and the confidence of this stage."""
    min_effect, confidence = limits
    known = [d for m in matched if (d := difference(m, name)) is not None]
    values = np.array(known, dtype=np.float64)
    ratio = turns_interval(values, confidence, last=last)
    logs = [stage_logs(m, name) for m in matched]
    word = verdict(ratio, min_effect)
    return StageComparison(
        stage=name,
        verdict=word if decides else "inconclusive",
        within_run=None if decides else word,
        decides=decides,
        ratio=ratio,
        confidence=confidence,
        paired=all(m.paired for m in matched),
        block=1,
        a_median_ms=float(np.median(np.exp(np.concatenate([x.a for x in logs])))),
        b_median_ms=float(np.median(np.exp(np.concatenate([x.b for x in logs])))),
        more_samples=None,
        odds=exp(min(700.0, log_odds(values))),
    )


def odds_needed(comparison: Comparison) -> float:
    """The odds from which a stage is called different: 1 / error, of which the odds have half, for each stage."""
    return min((2 / (1 - s.confidence) for s in comparison.stages), default=2 / (1 - comparison.confidence))


def standing(comparison: Comparison, most: int) -> str:
    """How far a comparison in turns is, in a line: its largest odds so far, and the odds that it takes."""
    begun = f"{len(comparison.turns)} of at most {most} processes"
    deciding = [s for s in comparison.stages if s.decides and s.odds is not None]
    if not deciding:
        dirty = [turn for turn in comparison.turns if not turn.used]
        return f"{begun}: no pair to judge yet" + (f"; {len(dirty)} had no clean sample{_hint(dirty)}" if dirty else "")
    top = max(deciding, key=lambda s: s.odds or 0.0)
    share = f"{(top.ratio.value - 1) * 100:+.1f}".replace("-", "−")
    return (
        f"{begun}: {top.stage.replace('_', ' ')} {share} %, odds that B differs {odds_words(top.odds or 0.0)} "
        f"(it takes {odds_needed(comparison):.0f} to 1 for it, or the test of all pairs at the end)"
    )


def _turn(process: Process) -> Turn:
    return Turn(
        number=process.number,
        side="A" if process.side == "A" else "B",
        folder=process.run.path,
        used=len(process.clean),
        flags={} if process.clean else left_out_reasons(s for s in process.run.samples if s.repeat >= 0),
    )


def _side(letter: str, name: str, processes: Sequence[Process]) -> Side:
    samples = [s for p in processes if p.side == letter for s in p.run.samples]
    kept = {id(s) for p in processes if p.side == letter for s in p.clean}
    return Side(
        run=name,
        samples=len(samples),
        used=len(kept),
        left_out=left_out_reasons(s for s in samples if id(s) not in kept),
        unpaired=0,
        warm_ups=sum(s.repeat < 0 for s in samples),
        measured_left_out=left_out_reasons(s for s in samples if id(s) not in kept and s.repeat >= 0),
    )


def _findings(
    processes: Sequence[Process], turns: Sequence[Turn], pairs: Sequence[tuple[list[Sample], list[Sample]]]
) -> list[Finding]:
    findings = []
    first = {side: next((p.run for p in processes if p.side == side), None) for side in ("A", "B")}
    if first["A"] is not None and first["B"] is not None:
        findings += differences.environment_findings(first["A"].info.environment, first["B"].info.environment)
        findings += differences.session_findings(first["A"].info.session, first["B"].info.session)
    if dirty := [t for t in turns if not t.used]:
        message = (
            f"{len(dirty)} of {len(turns)} processes had no clean sample, so their pairs are not judged "
            f"({len(pairs)} are): {', '.join(f'{t.number} ({t.side})' for t in dirty[:NAMED])}"
            f"{f' and {len(dirty) - NAMED} more' if len(dirty) > NAMED else ''}{_hint(dirty)}"
        )
        findings.append(
            Finding(code="all-flagged", severity="warning" if pairs else "severe", message=message, count=len(dirty))
        )
    return findings


def _hint(dirty: Sequence[Turn]) -> str:
    """What to do about the flags of processes without a clean sample: in turns they hit both sides alike."""
    kept = kept_in_turns({flag for turn in dirty for flag in turn.flags})
    return f"; --keep {kept} (in Python keep) uses them all the same" if kept else ""
