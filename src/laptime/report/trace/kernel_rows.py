"""What a table of kernels shows of a row: a name that no other row has, its GPU, and how often it runs in a step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from laptime.report.kit.numbers import NOTHING, count
from laptime.trace.comparison import KernelPair
from laptime.trace.result import Kernel

_LOOKED_AT = 2_000
_TOKEN = re.compile(r"[A-Za-z0-9]{1,200}")
_SUFFIX = 24
"""Characters that tell one kernel from others of its short name, at most."""


def told_apart(kernels: Iterable[Kernel | KernelPair]) -> dict[str, str]:
    """A short name for each whole name. Where several would be the same, each gets what only its whole name has."""
    named: dict[str, list[str]] = {}
    for name, short in {kernel.name: kernel.short_name for kernel in kernels}.items():
        named.setdefault(short, []).append(name)
    result: dict[str, str] = {}
    for short, names in named.items():
        suffixes = _suffixes(names) if len(names) > 1 else [""]
        result |= {name: f"{short} {suffix}".rstrip() for name, suffix in zip(names, suffixes, strict=True)}
    return result


def _suffixes(names: Sequence[str]) -> list[str]:
    """The first words of each name that not all have, figures last; a number where these are the same, or long."""
    words = [list(dict.fromkeys(_TOKEN.findall(name[:_LOOKED_AT]))) for name in names]
    shared = set.intersection(*map(set, words))
    own = [sorted((word for word in one if word not in shared), key=str.isdecimal) for one in words]
    for taken in (1, 2, 3):
        suffixes = [" ".join(one[:taken]) for one in own]
        if len(set(suffixes)) == len(names) and max(map(len, suffixes)) <= _SUFFIX:
            return suffixes
    return [f"#{place}" for place in range(1, len(names) + 1)]


def per_step(kernel: Kernel, steps: int) -> str:
    """How often it runs in the step that is shown; `<1` where it isn't in that one and runs less than once a step."""
    if kernel.per_step is None:
        return NOTHING
    return "<1" if kernel.per_step == 0 and kernel.count < steps else count(kernel.per_step)
