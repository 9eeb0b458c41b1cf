"""How a session of measuring ended, in words, for the terminal and the page."""

from __future__ import annotations

from laptime.data.record import STOP_REASONS, SessionEnd
from laptime.report.kit.numbers import percent
from laptime.report.kit.text import counted

TOKENS = {
    "identical": "Greedy tokens with and without the timer are identical.",
    "different": "Greedy tokens with and without the timer DIFFER.",
    "unstable": "Greedy tokens can't be compared: this model differs from itself without the timer too.",
}


def session_sentence(end: SessionEnd) -> str:
    """Warm-up, repeats, why it stopped, and whether the tokens were checked."""
    steady = "until they were steady" if end.steady else "without becoming steady, so its samples are flagged cold"
    sentence = f"Warm-up: {counted(end.warmups, 'call')}, {steady}. Then {counted(end.repeats, 'pass', 'passes')} "
    sentence += f"over the inputs; it stopped because {STOP_REASONS[end.stopped]}"
    if end.half_width is not None:
        sentence += f" (half-width {percent(end.half_width)} of the median)"
    return f"{sentence}. {TOKENS[end.tokens]}" if end.tokens else f"{sentence}."
