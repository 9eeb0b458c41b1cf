"""The sections of a profile page on method and flags: how its numbers were measured, and which samples count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from laptime.data.record import Sample, SessionEnd
from laptime.data.summary import Summary
from laptime.data.usable import LEFT_OUT_REASONS
from laptime.report.kit.html import Html, definitions, details, note, section, table, tag
from laptime.report.kit.numbers import count
from laptime.report.kit.text import counted
from laptime.report.profile.words import MEANINGS, closure_sentence, session_sentence


def how_taken(samples: Sequence[Sample], device: str | None, sessions: Sequence[SessionEnd]) -> Html:
    """The section on method: one run, one clock; what each number means; the closure check."""
    on_cpu = device is None or device == "cpu"
    clock = "the host's monotonic clock" if on_cpu else "the device's event clock, and on the host's at the same place"
    resolved = "" if on_cpu else ", and resolved after the call with a single synchronize"
    return section(
        "How these numbers were taken",
        tag(
            "p",
            "Every number of a sample comes from one call of generate(), on one timeline. A mark is taken where one "
            f"stage ends and the next begins, on {clock}{resolved}. Stages are differences of these marks. "
            "No stage is obtained by subtracting separately timed runs.",
        ),
        _closure(samples),
        *[tag("p", session_sentence(end)) for end in sessions],
        definitions(MEANINGS),
        id="method",
    )


def _closure(samples: Sequence[Sample]) -> Html:
    if not samples:
        return note("There is no sample to check.")
    closes = all(sample.stages.closes() for sample in samples)
    sentence = closure_sentence(samples)
    return note(f"✓ {sentence}", kind="good") if closes else note(sentence, kind="severe")


def flags_section(samples: Sequence[Sample], summary: Summary, failures: Sequence[tuple[str, str]]) -> Html:
    """Which samples carry which flags, what each flag means, and how many the summary left out."""
    carried: Counter[str] = Counter(flag for sample in samples for flag in sample.flags)
    rows = [
        [tag("span", reason, class_="mono"), count(max(carried[reason], left_out)), count(left_out), meaning]
        for reason, meaning in LEFT_OUT_REASONS.items()
        if (left_out := summary.left_out.get(reason, 0)) or carried[reason]
    ]
    sentence = (
        f"{count(summary.used)} of {counted(summary.samples, 'sample')} are in the summary, "
        f"{count(summary.samples - summary.used)} left out. Samples that are left out stay in the run and on this "
        "page, but they don't count. A sample can carry several flags."
        if rows
        else f"No sample carries a flag: all {counted(summary.samples, 'sample')} are in the summary."
    )
    return section(
        "Flags",
        note("No sample was clean, so the summary uses flagged ones. Read it with care.", kind="warning")
        if summary.all_flagged
        else None,
        table(["flag", "samples", "left out", "what it means"], rows, numeric=[1, 2]) if rows else None,
        details(
            f"{counted(len(failures), 'sample')} could not be measured",
            table(["sample", "error"], failures[:200]),
            open=len(failures) < 6,
        )
        if failures
        else None,
        id="flags",
        lead=sentence,
    )
