"""Token pruning and plain downsampling at equal numbers of image tokens, on glyphs: what is then right?

    python benchmarks/token_pruning.py

A tier cuts a page that was made smaller, so it is plain downsampling: the medium tier has 744 image tokens, the low one
300. Pruning cuts the whole page (high, 1476 tokens), and the language model sees as many of its image tokens as those
tiers have: at even distances, at random, or those that the last position attends to most in the third block, as FastV
chooses (Chen et al., ECCV 2024; there they are dropped after that block, here before the first, which saves more).
Positions stay those of the whole prompt. benchmarks/results/token_pruning.json.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.glyphs.write_questions import type_of, write_questions  # noqa: E402

from laptime.data.stats import wilson  # noqa: E402
from laptime.measure.environment import describe  # noqa: E402
from laptime.models.knobs import ModelKnobs, applied  # noqa: E402
from laptime.models.loading import load_model  # noqa: E402
from laptime.workload.datasets import answer_text, inputs_from_example  # noqa: E402
from laptime.workload.jsonl import read_jsonl  # noqa: E402
from laptime.workload.scoring import score  # noqa: E402

TIERS = {"high": (9, 15), "medium": (4, 8), "low": (1, 3)}
WAYS = ("even", "random", "attention")
LOOKED_AT, MOST = 2, 6
"""The block whose attention chooses, and the longest answer."""


@torch.no_grad()
def embedded(model: Any, kwargs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The prompt's embeddings (S, H), whether each is an image's, and what the last position attends to, (S,)."""
    seen: dict[str, torch.Tensor] = {}
    language = model.model.language_model

    def look(_: Any, args: Any, given: Any) -> None:
        seen["embeddings"] = given["inputs_embeds"]

    handle = language.register_forward_pre_hook(look, with_kwargs=True)
    try:
        attentions = model(**kwargs, output_attentions=True, use_cache=False).attentions
    finally:
        handle.remove()
    image = kwargs["input_ids"][0] == model.config.image_token_id
    return seen["embeddings"][0], image, attentions[LOOKED_AT][0, :, -1].mean(0)


def kept(way: str, image: torch.Tensor, attended: torch.Tensor, count: int, drawn: random.Random) -> torch.Tensor:
    """The positions that stay, ascending: all text, and `count` of the image's."""
    places = image.nonzero()[:, 0]
    if way == "even":
        chosen = places[torch.linspace(0, len(places) - 1, count).round().long()]
    elif way == "random":
        chosen = places[torch.tensor(sorted(drawn.sample(range(len(places)), count)))]
    else:
        chosen = places[attended[places].topk(count).indices]
    return torch.cat([chosen, (~image).nonzero()[:, 0]]).sort().values


@torch.no_grad()
def answered(loaded: Any, embeddings: torch.Tensor, places: torch.Tensor) -> str:
    """The greedy answer to these positions of a prompt."""
    model, out, cache = loaded.model, [], None
    given, positions = embeddings[places][None], places[None]
    banned = list(model.generation_config.suppress_tokens or [])
    for _ in range(MOST):
        found = model.model.language_model(
            inputs_embeds=given, position_ids=positions, past_key_values=cache, use_cache=True
        )
        logits = model.lm_head(found.last_hidden_state[0, -1])
        logits[banned] = -torch.inf
        token, cache = int(logits.argmax()), found.past_key_values
        if token == model.generation_config.eos_token_id:
            break
        out.append(token)
        given = model.get_input_embeddings()(torch.tensor([[token]], device=embeddings.device))
        positions = torch.tensor([[len(embeddings) + len(out) - 1]], device=embeddings.device)
    return answer_text(loaded, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    loaded = load_model(str(ROOT / "examples" / "glyphs" / "model"), device=asked.device, dtype="float32")
    right: dict[str, list[float]] = defaultdict(list)
    by_type: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    drawn = random.Random(0)
    same = 0
    with tempfile.TemporaryDirectory() as folder, applied(loaded.model, ModelKnobs(attention="eager")):
        for example in read_jsonl(write_questions(Path(folder), split="test", samples=asked.questions, first=9000)):

            def note(name: str, said: str, example: Any = example) -> None:
                value = score("exact", said, example)
                right[name].append(value)
                by_type[name][type_of(example.id)].append(value)

            tokens: dict[str, int] = {}
            for tier, crops in TIERS.items():
                with applied(loaded.model, ModelKnobs(crops=crops)):
                    kwargs = dict(inputs_from_example(loaded, example, crops=crops).kwargs)
                    own = loaded.model.generate(**kwargs, max_new_tokens=MOST)[0, kwargs["input_ids"].shape[1] :]
                    note(f"downsampled to the {tier} tier", answer_text(loaded, own.tolist()))
                    tokens[tier] = int((kwargs["input_ids"] == loaded.model.config.image_token_id).sum())
                    if tier == "high":
                        embeddings, image, attended = embedded(loaded.model, kwargs)
                        said = answered(loaded, embeddings, torch.arange(len(image)))
                        same += said == answer_text(loaded, own.tolist())
            for tier in ("medium", "low"):
                for way in WAYS:
                    places = kept(way, image, attended, tokens[tier], drawn)
                    note(f"pruned to {tokens[tier]}, {way}", answered(loaded, embeddings, places))
            print(
                len(right["pruned to 744, even"]), {n: round(sum(v) / len(v), 3) for n, v in right.items()}, flush=True
            )
    rows = {}
    for name, values in right.items():
        interval = wilson(sum(values) / len(values), len(values))
        rows[name] = {
            "right": round(interval.value, 4),
            "low": round(interval.low or 0.0, 4),
            "high": round(interval.high or 0.0, 4),
            "by_type": {kind: round(sum(some) / len(some), 3) for kind, some in sorted(by_type[name].items())},
        }
    figures = {"questions": asked.questions, "unpruned_as_generate": f"{same} of {asked.questions}", "rows": rows}
    print("written to", record("token_pruning", figures, describe(loaded.model.device)))


if __name__ == "__main__":
    main()
