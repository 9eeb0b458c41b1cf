"""One attempt to break laptime, how it ended, and what is wrong with that, if anything is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.portions import Fault

ANSWERS = frozenset({0, 1, 2})
"""Exit codes that a verb may end with, whatever it is given."""

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")
"""What a terminal would act on. No line of a verb may hold it; JSON may hold marks of direction."""

NO_NUMBER = re.compile(r"(?<![\w.-])[+−-]?(?:nan|inf)(?![\w.-])", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """How a process ended. code: negative for a signal, None when it had to be stopped."""

    code: int | None
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Try:
    """A verb to run on something damaged.

    kind: what was done to which file, for the counts. environment: variables that differ; None removes one.
    codes: the exit codes that are right. quiet_words: whether `nan` may stand in the output (a name may be `nan`).
    """

    kind: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    codes: frozenset[int] = ANSWERS
    quiet_words: bool = False


def complaint(asked: Try, ended: Ended) -> Fault | None:
    """What is wrong with how a try ended, as a kind that can be counted; None if nothing is."""
    as_json = "--json" in asked.arguments
    if ended.code is None:
        return Fault("hangs", "hangs")
    if ended.code < 0:
        return Fault("tracebacks", f"killed by signal {-ended.code}")
    if "Traceback (most recent call last)" in ended.out + ended.err:
        return Fault("tracebacks", f"traceback ({last_error(ended.err + ended.out)})")
    if ended.code == 70:
        return Fault("tracebacks", f"internal error ({internal_error(ended.err)})")
    if ended.code not in asked.codes:
        return Fault("other", f"exit code {ended.code}")
    if "Warning:" in ended.err or "panicked at" in ended.err:
        return Fault("tracebacks", f"a library's warning ({last_error(ended.err)})")
    if ended.code == 2 and len(ended.err.strip().splitlines()) != 1:
        return Fault("other", "the error is not one line")
    if RAW.search(ended.err) or (not as_json and RAW.search(ended.out)):
        return Fault("raw escapes", "a raw escape")
    if as_json and re.search("[\x00-\x08\x0b-\x1f\x7f]", ended.out):
        return Fault("raw escapes", "a raw escape in JSON")
    if not (asked.quiet_words or as_json) and NO_NUMBER.search(ended.out):
        return Fault("other", "nan or inf in words")
    if as_json and re.search(r"(?<![\w\"])(NaN|Infinity)(?![\w\"])", ended.out):
        return Fault("other", "no valid JSON")
    return None


def last_error(text: str) -> str:
    """The last line of a traceback or a warning, without what differs from try to try."""
    lines = [line for line in text.splitlines() if re.match(r"[\w.]*(Error|Exception|Warning|Interrupt)\b|thread ", line)
             or "Warning:" in line]  # fmt: skip
    return general(lines[-1] if lines else (text.strip().splitlines() or ["nothing said"])[-1])


def internal_error(err: str) -> str:
    match = re.search(r"an error inside laptime: (.*?); ", err, re.DOTALL)
    return general(match[1] if match else err)


def general(line: str) -> str:
    return re.sub(r"/\S+", "…", re.sub(r"\d+", "N", " ".join(line.split())))[:110]
