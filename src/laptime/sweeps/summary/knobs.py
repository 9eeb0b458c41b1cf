"""The knobs that vary in a sweep, the order of their values, and knobs that only move together with another one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from laptime.data.record import TIERS, Scalar

ORDER = (
    "model",
    "tier",
    "crops",
    "image_tokens_limit",
    "image_size",
    "top_k",
    "blocks",
    "batch",
    "prompt_tokens",
    "new_tokens",
    "dtype",
    "attention",
    "cache",
    "compile",
)
"""The knobs in the order in which a call meets them. Other settings follow by name."""

_TIERS = tuple(TIERS)  # text values with an order of their own; others go by the alphabet


class VaryingKnobs(msgspec.Struct, frozen=True, kw_only=True):
    """The knobs that vary. `levels`: name -> its values in order. `tied`: name -> the knob that determines it."""

    levels: dict[str, list[Scalar]]
    tied: dict[str, str]

    def codes(self, configs: Sequence[Mapping[str, Scalar]]) -> list[tuple[int, ...]]:
        """For each configuration the places of its values among `levels`, knob by knob; -1 for one not among them."""
        places = {name: {_key(value): n for n, value in enumerate(values)} for name, values in self.levels.items()}
        return [tuple(at.get(_key(config.get(name)), -1) for name, at in places.items()) for config in configs]


def varying(configs: Sequence[Mapping[str, Scalar]]) -> VaryingKnobs:
    """The knobs among the configurations' settings. A setting that is absent has the value None.

    A knob is tied to another one if the other's value determines its own in every configuration (a tier and its crops).
    Their effects can't be separated, so a tied knob has none of its own. Of two knobs that determine each other the
    first in ORDER stays.
    """
    names = sorted({name for config in configs for name in config}, key=_place)
    columns = {name: [config.get(name) for config in configs] for name in names}
    columns = {name: values for name, values in columns.items() if len(set(map(_key, values))) > 1}
    tied: dict[str, str] = {}
    for place, (name, values) in enumerate(columns.items()):
        for other_place, (other, its) in enumerate(columns.items()):
            if other == name or other in tied or not _determines(its, values):
                continue
            if other_place < place or not _determines(values, its):
                tied[name] = other
                break
    tied = {name: _root(name, tied) for name in tied}
    return VaryingKnobs(levels={name: ordered(v) for name, v in columns.items() if name not in tied}, tied=tied)


def ordered(values: Iterable[Scalar]) -> list[Scalar]:
    """The different values in order: None (the model's own), no and yes, numbers, tiers, other text."""
    return sorted({_key(value): value for value in values}.values(), key=_rank)


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _key(value: Scalar) -> tuple[bool, Scalar]:
    return (isinstance(value, bool), value)  # True == 1, but they are different values of a knob


def _rank(value: Scalar) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, bool):
        return (1, float(value), "")
    if isinstance(value, int | float):
        return (2, float(value), "")
    return (3, float(_TIERS.index(value) if value in _TIERS else len(_TIERS)), _natural(value))


def _natural(text: str) -> str:
    """The text with its numbers at one width, so that 4-8 goes before 10-12 and 336x336 before 1008x1008."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(12), text)


def _determines(a: Sequence[Scalar], b: Sequence[Scalar]) -> bool:
    """Whether each value of `a` comes with one value of `b` only."""
    seen: dict[tuple[bool, Scalar], tuple[bool, Scalar]] = {}
    return all(seen.setdefault(_key(x), _key(y)) == _key(y) for x, y in zip(a, b, strict=True))


def _root(name: str, tied: Mapping[str, str]) -> str:
    while name in tied:
        name = tied[name]
    return name
