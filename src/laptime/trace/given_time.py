"""A time without the profiler that was given with a trace, beside what the trace itself shows."""

from __future__ import annotations

from math import inf

from laptime.data.finding import Finding
from laptime.errors import LaptimeError
from laptime.trace.busy_words import ms_words
from laptime.trace.result import SURE, Steps

LONGEST = 1.5
"""A given time of more than this many times the traced one is of another configuration, or in another unit."""

AS_LONG = 1.02
"""Up to this many times the longest usual step a given time is as long as the traced ones: steps vary."""

UNLIKELY = "a profiler makes nothing faster, so it may be of another configuration"


def token_ns(tpot_ms: float) -> int:
    """A given time of a token in ns. Raises LaptimeError where it is no time, or shorter than 1 ns."""
    if not 1e-6 <= tpot_ms < inf:
        raise LaptimeError(f"tpot_ms {tpot_ms:g}: is no time of a token; give it in ms, above 0")
    return round(tpot_ms * 1e6)


def too_long(given_ns: int, traced_ns: int) -> bool:
    """Whether a given time can't be that of what was traced."""
    return given_ns > LONGEST * traced_ns


def check_given(name: str, given_ns: int, traced_ns: int, what: str) -> None:
    """Raise LaptimeError where a given time is far longer than what was traced.

    Args:
        name: what it is the time of, in words: "prefill".
        given_ns: the time without the profiler.
        traced_ns: the traced time; of several steps that of the long ones.
        what: what was traced and that it takes the time, in words.
    """
    if too_long(given_ns, traced_ns):
        raise LaptimeError(
            f"the given time of {name}, {given_ns / 1e6:g} ms, is over {LONGEST:g} times the "
            f"{traced_ns / 1e6:.3g} ms that {what}, and a profiler makes nothing faster; give the time of the same "
            "configuration, and look at the unit (28 or 28ms)"
        )


def beside_traced(given_ns: int, traced_ns: int, longest_ns: int) -> str:
    """What a given time says of the traced one, in words.

    Args:
        given_ns: the time without the profiler.
        traced_ns: that of the step that is shown.
        longest_ns: that of the long ones among the usual steps.
    """
    if given_ns <= traced_ns:
        return f"measured without the profiler; tracing adds {ms_words(traced_ns - given_ns)} ms a step, all of it gaps"
    if given_ns <= AS_LONG * longest_ns:
        return "measured without the profiler; it is as long as traced steps are, so tracing adds nothing that shows"
    return f"given as measured without the profiler; it is {longer_by(given_ns, traced_ns)}: {UNLIKELY}"


def longer_by(given_ns: int, traced_ns: int) -> str:
    """By how much a given time is longer than the traced one, in words."""
    return f"{ms_words(given_ns - traced_ns)} ms longer than what was traced"


def long_step_ns(steps: Steps) -> int:
    """How long the long ones among the usual steps take."""
    return max(steps.wall_ns or 0, steps.wall_p90_ns or 0)


def untraced_ns(steps: Steps, tpot_ms: float | None) -> int | None:
    """The step's time without the profiler; None where it isn't given, or not comparable with what may be no step.

    Raises:
        LaptimeError: it is no time, or far longer than the traced steps.
    """
    if tpot_ms is None:
        return None
    given, longest = token_ns(tpot_ms), long_step_ns(steps)
    if steps.confidence < SURE:
        return None if too_long(given, longest) else given
    takes = "the longer steps of this trace take" if steps.count > 1 else "the step of this trace takes"
    check_given("a token", given, longest, takes)
    return given


def tpot_findings(steps: Steps, tpot_ms: float) -> list[Finding]:
    """What must be said of a time that is longer than the traced steps."""
    given, longest = token_ns(tpot_ms), long_step_ns(steps)
    if steps.confidence < SURE and too_long(given, longest):
        message = (
            f"the given {tpot_ms:g} ms of a token aren't used: what repeats is far shorter, and may be a part of a step"
        )
        return [Finding(code="tpot-unused", severity="warning", message=message)]
    if given > AS_LONG * longest:
        longer = longer_by(given, steps.wall_ns or 0)
        message = f"the given time of a token is {longer}: {UNLIKELY}, and then no remedy's time holds"
        return [Finding(code="tpot-longer", severity="warning", message=message)]
    return []
