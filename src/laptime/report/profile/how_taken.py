"""The part of a page that says how its numbers were taken, and whether they add up."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.data.record import FLAG_REASONS, Sample, SessionEnd
from laptime.data.summary import Summary
from laptime.report.kit.html import Html, definitions, details, note, section, table, tag
from laptime.report.kit.numbers import text
from laptime.report.kit.text import counted
from laptime.report.profile.terminal import session_sentence

MEANINGS: tuple[tuple[str, str], ...] = (
    ("Vision", "from the vision tower's entry to the projector's exit, all crops and calls summed"),
    ("Prefill", "from the language model's entry in the first forward to the first token's logits, all chunks"),
    ("Decode", "from the first decode forward's entry to the last decode step's logits"),
    ("Other", "what no span covers: set-up, merging embeddings, sampling, stopping checks. Never hidden or negative"),
    ("Total (E2E)", "from the entry of generate() to its return"),
    ("TTFT", "from the start to the first token chosen"),
    ("TPOT", "(total − TTFT) / (N − 1), with N output tokens counted from the returned ids"),
    ("Decode per token", "decode / (N − 1): N tokens need N − 1 decode forwards. With one token there is none, not 0"),
    ("ITL", "one value for each gap between tokens; only with --per-token"),
    ("95 % interval", "of the median, from order statistics (sign test): no distribution is assumed. Below six "
                      "samples there is none, and a dash says so"),
    ("Share", "of the summed totals of the samples in the summary; the shares add up to 100 %"),
)  # fmt: skip


def how_taken(samples: Sequence[Sample], device: str | None, sessions: Sequence[SessionEnd]) -> Html:
    """The section on method: one run, one clock; what each number means; the closure check."""
    closing = sum(sample.stages.closes() for sample in samples)
    on_cpu = device is None or device == "cpu"
    clock = "the host's monotonic clock" if on_cpu else "the device's event clock, and on the host's at the same place"
    resolved = "" if on_cpu else ", and resolved after the call with a single synchronize"
    return section(
        "How these numbers were taken",
        tag(
            "p",
            "Every number of a sample comes from one call of generate(), on one timeline: marks are taken as the "
            f"program passes the borders of its stages, on {clock}{resolved}. Stages are differences of these marks. "
            "No stage is what is left over when separately timed runs are subtracted.",
        ),
        closure(closing, len(samples)),
        *[tag("p", session_sentence(end)) for end in sessions],
        definitions(MEANINGS),
        id="method",
    )


def closure(closing: int, count: int) -> Html:
    """Whether vision + prefill + decode + other is the total, to the nanosecond, on every sample."""
    sentence = "vision + prefill + decode + other = total, to the nanosecond"
    if count == 0:
        return note("There is no sample to check.")
    if closing == count:
        return note(f"✓ Closure: on {closing} of {counted(count, 'sample')} {sentence}.", kind="good")
    return note(f"Closure fails: only on {closing} of {counted(count, 'sample')} {sentence}.", kind="severe")


def flags_section(samples: Sequence[Sample], summary: Summary, failures: Sequence[tuple[str, str]]) -> Html:
    """Which samples carry which flags, what each flag means, and how many the summary left out."""
    counts = {flag: sum(flag in sample.flags for sample in samples) for flag in FLAG_REASONS}
    rows = [
        [tag("span", flag, class_="mono"), str(count), str(summary.left_out.get(flag, 0)), FLAG_REASONS[flag]]
        for flag, count in counts.items()
        if count
    ]
    left = summary.samples - summary.used
    sentence = (
        f"{summary.used} of {summary.samples} samples are in the summary, {left} left out. Flagged samples stay in "
        "the run and on this page; they only don't count. A sample can carry several flags."
        if rows
        else f"No sample carries a flag: {counted(summary.samples, 'sample')} in the summary."
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


def spread_note(summary: Summary) -> Html | None:
    """A remark when there are too few samples for intervals."""
    if not 0 < summary.used < 6:
        return None
    samples = counted(summary.used, "usable sample")
    return note(f"Only {samples}: too few for a 95 % interval (six are needed). Medians stand alone.")


def total_text(summary: Summary) -> str:
    """The median total as text, for a sentence."""
    total = summary.stages.get("total")
    return text(total.median.value if total else None, "ms")
