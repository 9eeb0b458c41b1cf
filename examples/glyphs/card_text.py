"""The model card's text, from what was measured and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .questions import PHRASES, TYPES


def card(result: Mapping[str, Any], trainings: Mapping[str, Mapping[str, Any]], weights: int) -> str:
    """Markdown: what the model is, how it was trained, its accuracy by type and knob."""
    steps = "\n".join(_step(name, training) for name, training in trainings.items())
    low, middle, most = sorted({row["top_k"] for row in result["rows"]})
    head = f"""# A small vision-language model that reads pages of glyphs

A LLaVA-NeXT with a CLIP vision tower (6 layers, 96-pixel crops of 144 tokens) and an OLMoE text model (8 blocks,
{2 * most} experts, top-{most}): {weights / 1e6:.1f} M weights, bfloat16. It answers {len(TYPES)} types of questions
about the synthetic pages of examples/glyphs and nothing else. It is trained so that laptime's knobs cost accuracy:
image tier (crops), top-k and active blocks were drawn at random in training.

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
        _section(result, f"Image tier (top-{most}, 8 blocks)", "tier", ("low", "medium", "high")),
        _section(result, "Top-k (high tier, 8 blocks)", "top_k", (low, middle, most)),
        _section(result, f"Active blocks (high tier, top-{most})", "blocks", (2, 3, 4, 6, 8)),
        _section(result, f"Active blocks at the low tier, top-{low}", "blocks", (2, 3, 4, 6, 8), tier="low", top_k=low),
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
    full = {"tier": "high", "top_k": max(row["top_k"] for row in result["rows"]), "blocks": 8}
    for value in values:
        wanted = {**full, **fixed, knob: value}
        row = next(r for r in result["rows"] if all(r[name] == wanted[name] for name in full))
        shares = [row["accuracy"][kind] for kind in TYPES]
        cells = " | ".join(f"{share * 100:.0f}" for share in [*shares, sum(shares) / len(shares)])
        lines.append(f"| {value} | {cells} |")
    return "\n".join([*lines, ""])
