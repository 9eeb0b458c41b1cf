"""Measure the model and write its card: python -m examples.glyphs.model_card examples/glyphs/model

Pages of a split that training hasn't seen, the model's own processor, greedy generate() under laptime's knobs: the
share of exactly right answers for each type of question and each setting. Writes accuracy.json and README.md there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded, load_model
from laptime.workload.crops import processor_cutting

from .batches import Knobs
from .card_text import card
from .model import CROPS, DEPTHS, LONGEST_ANSWER, TILINGS, TOP_KS
from .packing import prompt
from .pages import draw_page
from .questions import TYPES, Question, ask


def questions_of(split: str, per_type: int) -> list[tuple[Any, Question]]:
    """(page image, question) pairs, types taking turns, each on a page of its own."""
    asked = []
    for number in range(per_type * len(TYPES)):
        page = draw_page(split, number)
        question = ask(TYPES[number % len(TYPES)], page.truth, split, number)
        asked.append((Image.fromarray(page.image), question))
    return asked


def grid(most_experts: int = TOP_KS[-1]) -> list[Knobs]:
    """Every setting, tier by tier, of a model whose tokens go to at most that many experts."""
    return [Knobs(tier, top_k, blocks).among(most_experts) for tier in TILINGS for top_k in TOP_KS for blocks in DEPTHS]


@torch.no_grad()
def measure(
    loaded: Loaded, asked: Sequence[tuple[Any, Question]], settings: Sequence[Knobs], batch: int
) -> Iterator[tuple[Knobs, dict[str, float]]]:
    """For each setting the share of right answers by type."""
    for tier in TILINGS:
        of_tier = [knobs for knobs in settings if knobs.tier == tier]
        inputs = list(_inputs(loaded, asked, tier, batch)) if of_tier else []
        for knobs in of_tier:
            changes = ModelKnobs(crops=CROPS[tier], top_k=knobs.top_k, blocks=knobs.blocks)
            said: list[str] = []
            with applied(loaded.model, changes):
                for batch_inputs in inputs:
                    ids = loaded.model.generate(**batch_inputs, max_new_tokens=LONGEST_ANSWER)
                    new = ids[:, batch_inputs["input_ids"].shape[1] :]
                    said += loaded.processor.batch_decode(new, skip_special_tokens=True)  # type: ignore[union-attr]
            yield knobs, _shares(said, [question for _, question in asked])


def _inputs(
    loaded: Loaded, asked: Sequence[tuple[Any, Question]], tier: str, batch: int
) -> Iterator[dict[str, torch.Tensor]]:
    for first in range(0, len(asked), batch):
        some = asked[first : first + batch]
        with applied(loaded.model, ModelKnobs(crops=CROPS[tier])):
            processor, images = processor_cutting(loaded, [image for image, _ in some], CROPS[tier])
            texts = [f"<image>{prompt(question.text)}" for _, question in some]
            encoded = processor(images=[[image] for image in images], text=texts, padding=True, return_tensors="pt")
        yield {
            name: value.to(loaded.device, loaded.dtype if value.is_floating_point() else None)
            for name, value in encoded.items()
        }


def _shares(said: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    right: dict[str, list[bool]] = {kind: [] for kind in TYPES}
    for text, question in zip(said, questions, strict=True):
        right[question.kind].append(text.strip() == question.answer)
    return {kind: sum(values) / len(values) for kind, values in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the model of examples/glyphs and write its card.")
    parser.add_argument("model", type=Path, help="the folder that train.py wrote")
    parser.add_argument(
        "--out", type=Path, help="where accuracy.json and README.md go; the model's folder unless given"
    )
    parser.add_argument("--split", default="card", help="the pages: a name that training hasn't used")
    parser.add_argument("--per-type", type=int, default=200, help="questions of each type")
    parser.add_argument("--batch", type=int, default=128, help="questions a generate() call")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    loaded = load_model(str(args.model), device=args.device, dtype=args.dtype)
    begun = time.monotonic()
    rows = []
    settings = grid(loaded.model.config.text_config.num_experts_per_tok)
    for knobs, shares in measure(loaded, questions_of(args.split, args.per_type), settings, args.batch):
        rows.append({"tier": knobs.tier, "top_k": knobs.top_k, "blocks": knobs.blocks, "accuracy": shares})
        words = " ".join(f"{kind} {share * 100:.0f}" for kind, share in shares.items())
        print(
            f"{time.monotonic() - begun:5.0f} s  {knobs.tier} top-{knobs.top_k} blocks {knobs.blocks}: {words}",
            flush=True,
        )
    trainings = {file.name: json.loads(file.read_text()) for file in sorted(args.model.glob("training*.json"))}
    out = args.out or args.model
    out.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if loaded.device.type == "cuda" else loaded.device.type
    result = {
        "split": args.split,
        "questions_per_type": args.per_type,
        "half_width_95": round(1.96 * math.sqrt(0.25 / args.per_type), 4),
        "device": device,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "rows": rows,
    }
    (out / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "README.md").write_text(card(result, trainings, sum(w.numel() for w in loaded.model.parameters())))


if __name__ == "__main__":
    main()
