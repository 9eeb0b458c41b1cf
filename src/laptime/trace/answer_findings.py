"""What is said of an answer's steps, passes and captures beside their figures: why there are none, what is unsure."""

from __future__ import annotations

from collections.abc import Mapping

from laptime.data.finding import Finding
from laptime.trace.busy_words import ms_words
from laptime.trace.given_time import tpot_findings
from laptime.trace.launch_result import CaptureMatch
from laptime.trace.plain_names import plain
from laptime.trace.result import MANY, SURE, Integrity, Steps, TracedPass
from laptime.trace.step_ranges import names_steps
from laptime.trace.step_totals import CARRIED, WAITS
from laptime.trace.steps import StepFrame


def _unsure(steps: Steps) -> str:
    if steps.method == "period" and steps.layers is None:
        return "what repeats has no layers and nothing that surely begins one: it may be a part of a step, or several"
    if steps.method == "forward":
        return "no attention kernel is among what repeats: it may be any loop, and no layers of one forward pass"
    if steps.name and not names_steps(steps.name):
        return f"the ranges of {plain(steps.name)} hold most kernels, but the name doesn't say that each is a step"
    if steps.name:
        unlike = f"hold unlike numbers of kernels (their regularity is {steps.confidence * 100:.0f} %)"
        return f"the ranges of {plain(steps.name)} {unlike}: judge them by the picture"
    return f"the steps' regularity is only {steps.confidence * 100:.0f} %: judge them by the picture"


def pass_findings(passes: list[TracedPass], stage_ms: Mapping[str, float]) -> list[Finding]:
    """The times that were given of passes that the trace doesn't show."""
    known = {one.stage for one in passes}
    messages = [
        f"the given time of {stage} has no pass to be compared with" for stage in stage_ms if stage not in known
    ]
    return [Finding(code="stage-unused", severity="warning", message=message) for message in messages]


def holds_ranks(integrity: Integrity) -> bool:
    """Whether several ranks of one run are in the file."""
    return any(finding.code == "gpus-as-ranks" for finding in integrity.findings)


def step_findings(frame: StepFrame, tpot_ms: float | None, *, all_ranks: bool) -> list[Finding]:
    """What is said of the steps.

    Args:
        all_ranks: whether other ranks are in the file too.
    """
    steps = frame.steps
    if steps.method == "none":
        message = f"no steady steps were recognised: {steps.reason}"
        findings = [Finding(code="no-steps", severity="info", message=message)] if steps.reason else []
        if tpot_ms is not None:
            message = "the given time of a token has no step to be compared with"
            findings.append(Finding(code="tpot-unused", severity="warning", message=message))
        return findings
    findings = [] if tpot_ms is None else tpot_findings(steps, tpot_ms)
    if steps.method == "forward" and steps.confidence >= SURE:
        message = (
            "the trace holds one forward pass, known by its layers alone: what ran right before and after them is"
            " counted as its own"
        )
        findings.append(Finding(code="one-forward", severity="info", message=message))
    if steps.confidence < SURE:
        message = _unsure(steps)
        findings.append(Finding(code="steps-unsure", severity="warning", message=message))
    if steps.unexplained and steps.replay_ns and steps.wall_ns:
        message = (
            f"launches, waits and streams add up to {ms_words(steps.replay_ns)} ms of a step that lasts "
            f"{ms_words(steps.wall_ns)} ms: what remedies would leave of it is not certain"
        )
        findings.append(Finding(code="step-unexplained", severity="warning", message=message))
    if steps.carried_ns and steps.wall_ns and steps.carried_ns > CARRIED * steps.wall_ns:
        message = (
            f"for {ms_words(steps.carried_ns)} of {ms_words(steps.wall_ns)} ms the step shown holds only work that"
            " began before it: what remedies would leave of it isn't said"
        )
        findings.append(Finding(code="step-carried", severity="warning", message=message))
    if steps.maybe_waiting_ns and steps.wall_ns and steps.maybe_waiting_ns > WAITS * steps.wall_ns:
        waiting = (
            "how much of that is waiting for other ranks laptime trace FILE --ranks --whatif says"
            if all_ranks
            else "how much of that is waiting for other ranks one rank's trace doesn't say: laptime trace FOLDER "
            "--whatif, with the traces of all ranks, does"
        )
        message = (
            f"communication in the step shown takes {ms_words(steps.maybe_waiting_ns)} ms longer than over a fast "
            f"link; {waiting}"
        )
        findings.append(Finding(code="maybe-waiting", severity="info", message=message))
    low, high = steps.wall_p10_ns, steps.wall_p90_ns
    if steps.uneven and low and high:
        which = "steps" if steps.count < MANY else "four of five steps"
        message = f"{which} last {ms_words(low, 1)} to {ms_words(high, 1)} ms: the one shown does not stand for all"
        findings.append(Finding(code="steps-uneven", severity="warning", message=message))
    if steps.kernels_per_step is None:
        message = "graphs were recorded whole: what is in a step is not known (nsys: --cuda-graph-trace=node)"
        findings.append(Finding(code="step-hidden-in-graph", severity="warning", message=message))
    return findings


def capture_findings(match: CaptureMatch | None) -> list[Finding]:
    """What the capture's trace could not name; nothing where none was given."""
    if match is None:
        return []
    if not match.captures:
        message = (
            "the trace that was given for the capture holds no capture of a graph: record while the graph is captured"
        )
    elif match.named == match.replays and match.replays:
        return []
    elif not match.replays:
        message = "the capture's trace has nothing to name: this trace replays no graph whose kernels are known"
    else:
        unnamed = match.replays - match.named
        message = f"{unnamed} of {match.replays} graph replays fit no capture by number and names of their kernels"
    return [Finding(code="capture-unmatched", severity="warning", message=message)]
