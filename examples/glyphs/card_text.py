"""The model card's text, from what was measured and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .questions import PHRASES, TYPES

_FULL = {"tier": "high", "top_k": 4, "blocks": 8}


def card(result: Mapping[str, Any], trainings: Mapping[str, Mapping[str, Any]], weights: int) -> str:
    """Markdown: what the model is, how it was trained, its accuracy by type and knob."""
    steps = "\n".join(_step(name, training) for name, training in trainings.items())
    head = f"""# A small vision-language model that reads pages of glyphs

A LLaVA-NeXT with a CLIP vision tower (6 layers, 96-pixel crops of 144 tokens) and an OLMoE text model (8 blocks, 8
experts, top-4): {weights / 1e6:.1f} M weights, bfloat16. It answers {len(TYPES)} types of questions about the
synthetic pages of examples/glyphs and nothing else. It is trained so that laptime's knobs cost accuracy: image tier
(crops), top-k and active blocks were drawn at random in training.

## How it was trained

From random weights by `python -m examples.glyphs.train` (docs/glyphs.md). Pages are drawn by the code; no data and no
weights come from elsewhere.

{steps}

## Accuracy

Exact answers, in per cent, by greedy `generate()` through the model's processor; {result["questions_per_type"]}
questions of each type on pages of the split "{result["split"]}", which training has not seen (95 % within
±{result["half_width_95"] * 100:.0f} points or less); {result["dtype"]} on {result["device"]}, torch {result["torch"]}.
Written by `python -m examples.glyphs.model_card`; accuracy.json has every setting.
"""
    sections = [
        _section(result, "Image tier (top-4, 8 blocks)", "tier", ("low", "medium", "high")),
        _section(result, "Top-k (high tier, 8 blocks)", "top_k", (1, 2, 4)),
        _section(result, "Active blocks (high tier, top-4)", "blocks", (2, 3, 4, 6, 8)),
        _section(result, "Active blocks at the low tier, top-1", "blocks", (2, 3, 4, 6, 8), tier="low", top_k=1),
    ]
    examples = "\n".join(f"- {kind}: {' '.join(PHRASES[kind])}" for kind in TYPES)
    return "\n".join([head, *sections, "## Questions\n", examples, "", "{a} and {b} are colours.", ""])


def _step(name: str, training: Mapping[str, Any]) -> str:
    """One run of training, with the file that holds its curve."""
    last = training["curve"][-1] if training["curve"] else {"step": 0, "pages": 0, "seconds": 0.0}
    how = training["arguments"]
    began = "from the weights of the step before" if training["resumed"] else "from random weights"
    frozen = ", vision tower frozen" if how.get("frozen_vision") else ""
    return (
        f"- {name}: {began}{frozen}, {last['seconds'] / 60:.1f} minutes, {last['step']} steps, {last['pages']} pages "
        f"on {training['device']}, torch {training['torch']}, seed {how['seed']}, batch {how['batch']}, learning rate "
        f"{how['rate']}."
    )


def _section(result: Mapping[str, Any], title: str, knob: str, values: tuple[Any, ...], **fixed: Any) -> str:
    lines = [f"### {title}\n", f"| {knob} | {' | '.join(TYPES)} | mean |", "|---" * (len(TYPES) + 2) + "|"]
    for value in values:
        wanted = {**_FULL, **fixed, knob: value}
        row = next(r for r in result["rows"] if all(r[name] == wanted[name] for name in _FULL))
        shares = [row["accuracy"][kind] for kind in TYPES]
        cells = " | ".join(f"{share * 100:.0f}" for share in [*shares, sum(shares) / len(shares)])
        lines.append(f"| {value} | {cells} |")
    return "\n".join([*lines, ""])
