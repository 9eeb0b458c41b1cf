"""What else differs between two runs: which stages can't be compared at all, and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.comparisons.matching import Matched
from laptime.data.finding import Finding
from laptime.data.record import STAGES, Environment, Scalar
from laptime.data.stats import Floats

ALL = (*STAGES, "total", "decode_per_token")

WORKLOAD: dict[str, tuple[str, ...]] = {
    "image_size": ALL,
    "batch": ALL,
    "data": ALL,
    "prompt_tokens": ("prefill", "decode", "other", "total", "decode_per_token"),
    "new_tokens": ("decode", "other", "total"),
}
"""Knobs that change the work itself, and the stages whose times then answer different questions."""

RECORDED = {"batch": "batch", "prompt_tokens": "prompt_tokens", "new_tokens": "output_tokens"}
"""Knobs whose value every sample shows, and the field that has it: where one run's configuration doesn't name them."""

HARMLESS = frozenset({"laptime", "python", "platform", "memory_bytes", "git_commit", "git_dirty"})
"""Facts of an environment that seldom change a time on the device. Code under test differs by its commit."""

METHOD = ("method", "per_token")
"""How a session measured the calls, as far as that costs time."""


def not_comparable(a: Mapping[str, Scalar], b: Mapping[str, Scalar]) -> dict[str, list[str]]:
    """Stage -> the knobs that make its work in B different from its work in A."""
    reasons: dict[str, list[str]] = {}
    for knob, stages in WORKLOAD.items():
        if a.get(knob) != b.get(knob):
            for stage in stages:
                reasons.setdefault(stage, []).append(f"{knob} ({_change(a.get(knob), b.get(knob))})")
    return reasons


def named_alike(matched: Matched) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """Both runs' configurations; a knob that only one of them names is what the samples of both show of it.

    A StageTimer names no sizes, since it is called with anything. Samples that differ among themselves decide nothing.
    """
    a, b = dict(matched.a.first_config()), dict(matched.b.first_config())
    for knob, field in RECORDED.items():
        if (a.get(knob) is None) == (b.get(knob) is None):
            continue
        shown = [side.sizes(field) for side in (matched.a, matched.b)]
        for config, values in zip((a, b), shown, strict=True):
            if all(len(one) == 1 and None not in one for one in shown):
                config[knob] = next(iter(values))
            elif config.get(knob) is None and (known := sorted(value for value in values if value is not None)):
                config[knob] = " to ".join(str(end) for end in dict.fromkeys((known[0], known[-1])))
    return a, b


def config_findings(a: Mapping[str, Scalar], b: Mapping[str, Scalar]) -> list[Finding]:
    """One warning naming every knob that differs: it may be what is compared, or an accident."""
    return _differing("config-differs", "The runs' configurations differ", a, b, sorted({*a, *b}))


def environment_findings(a: Environment, b: Environment) -> list[Finding]:
    """A warning naming the facts that change times (GPU, driver, torch, ...), an info naming those that seldom do."""
    facts_a, facts_b = _facts(a), _facts(b)
    names = list(dict.fromkeys([*facts_a, *facts_b]))
    matter = [name for name in names if name not in HARMLESS]
    rest = [name for name in names if name in HARMLESS and not name.startswith("git_")]
    return [
        *_differing("environment-differs", "Environments differ in what changes times", facts_a, facts_b, matter),
        *_differing("environment-differs-little", "Environments also differ", facts_a, facts_b, rest, "info"),
    ]


def session_findings(a: Mapping[str, Scalar], b: Mapping[str, Scalar]) -> list[Finding]:
    """A warning when the two runs were measured in different ways."""
    return _differing("method-differs", "The runs were measured in different ways", a, b, METHOD)


def sample_findings(matched: Matched) -> list[Finding]:
    """Pairs that are no pairs: other inputs under the same id, or another number of tokens generated."""
    if not matched.paired:
        return []
    pairs = len(matched.a)
    findings = []
    if count := int(_differ(matched.a.shape, matched.b.shape).any(axis=1).sum()):
        message = f"{count} of {pairs} pairs have inputs of different sizes under one id (tokens, images, rows)"
        findings.append(Finding(code="inputs-differ", severity="warning", message=message, count=count))
    if count := int(_differ(matched.a.output_tokens, matched.b.output_tokens).sum()):
        message = (
            f"{count} of {pairs} pairs generated different numbers of tokens, so decode and total did different "
            "work; the stage decode_per_token compares a step"
        )
        findings.append(Finding(code="outputs-differ", severity="warning", message=message, count=count))
    return findings


def _differ(a: Floats, b: Floats) -> npt.NDArray[np.bool_]:
    """Where two columns differ; what neither recorded is the same."""
    return np.asarray((a != b) & ~(np.isnan(a) & np.isnan(b)))


def _facts(environment: Environment) -> dict[str, object]:
    facts = msgspec.structs.asdict(environment)
    variables: dict[str, str] = facts.pop("variables")
    return {**facts, **variables}


def _differing(
    code: str,
    lead: str,
    a: Mapping[str, object],
    b: Mapping[str, object],
    names: Sequence[str],
    severity: str = "warning",
) -> list[Finding]:
    changes = [f"{name} ({_change(a.get(name), b.get(name))})" for name in names if a.get(name) != b.get(name)]
    if not changes:
        return []
    message = f"{lead}: {', '.join(changes)}"
    return [
        Finding(code=code, severity="info" if severity == "info" else "warning", message=message, count=len(changes))
    ]


def _change(a: object, b: object) -> str:
    return f"{_shown(a)} → {_shown(b)}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
