"""Options that several verbs have: the same thing has the same name, help and panel in each.

A verb writes `as_json: Json = False`. What only one verb has stands in that verb's file, under one of these panels.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument, option
from laptime.errors import LaptimeError

MODEL = "Model"
INPUT = "Input"
MEASURING = "Measuring"
LEARNING = "Learning"
QUESTION = "Question"
OUTPUT = "Output"


class Dtype(str, Enum):
    """Precisions that a model can be loaded in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Stage(Enum):
    """What a verdict can be about: comparisons.comparison.CHOICES, which a test holds beside this."""

    preprocessing = "preprocessing"
    queue = "queue"
    vision = "vision"
    audio = "audio"
    encode = "encode"
    prefill = "prefill"
    decode = "decode"
    other = "other"
    total = "total"
    decode_per_token = "decode_per_token"  # noqa: S105


Json = Annotated[bool, option("--json", help="Print the result as JSON on stdout.", rich_help_panel=OUTPUT)]
Html = Annotated[
    Path | None, option("--html", metavar="FILE", help="Write one self-contained page.", rich_help_panel=OUTPUT)
]
Force = Annotated[
    bool, option("--force", help="Replace what an earlier run of this verb wrote.", rich_help_panel=OUTPUT)
]
ForcePage = Annotated[
    bool,
    option("--force", help="Replace an earlier page. A run folder is never replaced.", rich_help_panel=OUTPUT),
]
"""Of verbs that write a run folder: what was measured stays."""
GithubSummary = Annotated[
    bool,
    option(
        "--github-summary", help="In a GitHub job: add to its summary, and annotate the change.", rich_help_panel=OUTPUT
    ),
]
Junit = Annotated[
    Path | None,
    option("--junit", metavar="FILE", help="Write JUnit XML; one that laptime wrote is replaced.",
                 rich_help_panel=OUTPUT),
]  # fmt: skip
OutFolder = Annotated[Path, option("--out", metavar="FOLDER", help="The folder to write.", rich_help_panel=OUTPUT)]

ModelName = Annotated[
    str, argument(metavar="MODEL", help="A hub id, a local path, or preset:NAME (random weights, no download).")
]
PolicyModel = Annotated[
    str | None,
    option(
        "--model", metavar="MODEL", help="Without it: the model that the policy was trained for.", rich_help_panel=MODEL
    ),
]
DtypeOption = Annotated[
    Dtype,
    option(
        "--dtype", metavar="DTYPE", help="auto (the checkpoint's), float32, bfloat16, float16.", rich_help_panel=MODEL
    ),
]
Device = Annotated[
    str, option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=MODEL)
]
TrustRemoteCode = Annotated[
    bool, option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel=MODEL)
]

Seed = Annotated[int, option("--seed", metavar="N", help="The same seed and input give the same result.", min=0)]
Keep = Annotated[
    str,
    option(
        "--keep", metavar="FLAGS", help="Use samples with these flags all the same: cold,foreign-process.",
        rich_help_panel=INPUT,
    ),
]  # fmt: skip
Confidence = Annotated[
    str,
    option("--confidence", metavar="SHARE", help="How sure the answer must be: 0.95 or 95%.", rich_help_panel=QUESTION),
]
BudgetMs = Annotated[
    str | None,
    option(
        "--budget-ms", metavar="MS", help="The time that an answer may take: 170, 170ms or 0.17s.",
        rich_help_panel=QUESTION,
    ),
]  # fmt: skip
Online = Annotated[
    bool,
    option(
        "--online/--as-calibrated", help="Correct bounds by earlier calls.",
        rich_help_panel=MEASURING,
    ),
]  # fmt: skip
Tokens = Annotated[
    str | None,
    option(
        "--tokens", metavar="N,N,...", help="Output tokens, equally likely: 4,8,16 (estimators of stages only).",
        rich_help_panel=QUESTION,
    ),
]  # fmt: skip


def names(words: str) -> list[str]:
    """Names written as a,b,c."""
    return [name for name in (word.strip() for word in words.split(",")) if name]


def numbers(option: str, words: str) -> list[float]:
    """Numbers written as 50,90,99, at least one. Raises LaptimeError for anything else."""
    try:
        written = [float(word) for word in names(words)]
    except ValueError:
        written = []
    if not written:
        raise LaptimeError(f"{option} {words}: write numbers as 50,90,99")
    return written


def share(option: str, words: str) -> float:
    """A share written as 2% or 0.02. Raises LaptimeError for anything else, a bare 2 included."""
    value = _share(words)
    if not 0 <= value < 1:
        raise _no_share(option, words, "from 0 to below 1", "2%")
    return value


def confidence_share(words: str, *, least: float | None = None) -> float:
    """A --confidence written as 95% or 0.95. Raises LaptimeError for anything else.

    least: the least that answers something; None for anything above 0.
    """
    value = _share(words)
    if not (value > 0 if least is None else least <= value) or not value < 1:
        wanted = "above 0 and below 1" if least is None else f"from {least:g} to below 1"
        raise _no_share("--confidence", words, wanted, "95%")
    return value


def _share(words: str) -> float:
    bare = words.strip()
    try:
        return float(bare.removesuffix("%")) / (100 if bare.endswith("%") else 1)
    except ValueError:
        return math.nan


def _no_share(option: str, words: str, wanted: str, example: str) -> LaptimeError:
    value = _share(words)
    likely = 50 if option == "--confidence" else 1
    meant = f"{value:g}%" if likely <= value < 100 else example
    return LaptimeError(f"{option} {words}: write a share {wanted}, as {meant} or {float(meant[:-1]) / 100:g}")


def milliseconds(option: str, words: str) -> float:
    """A time written as 170, 170ms or 0.17s, in ms. Raises LaptimeError for anything else, or less than 1 ns."""
    parts = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(ms|s)?\s*", words)
    try:
        value = float(parts[1]) if parts else math.nan
    except ValueError:
        value = math.nan
    if parts and parts[2] == "s":
        value *= 1000
    if not 0 < value < math.inf:
        raise LaptimeError(f"{option} {words}: write a time above 0, as 170 or 170ms or 0.17s")
    if value < 1e-6:
        raise LaptimeError(f"{option} {words}: is shorter than 1 ns; write a time as 170 or 170ms or 0.17s")
    return value
