"""A synthetic world for policies: what is right and how long it takes is known, and so is the best policy.

Words say the type of a question: "colour" is right under any choice, "read" needs the high tier, "count" needs all
blocks, "mixed" needs either the high tier or all blocks, which only the hidden states tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from laptime.control.bounds.bounds import Bounds
from laptime.control.bounds.calibrated_bounds import make_bounds
from laptime.control.choices import ChoiceSpace, ModelFacts, Tier
from laptime.control.tables.decision_table import DecisionTable, decision_table
from laptime.control.tables.feature_table import FeatureArrays, FeatureTable, feature_table
from laptime.control.tables.features import language_features

TIERS = (Tier("low", 1, 3), Tier("medium", 4, 8), Tier("high", 9, 15))
SPACE = ChoiceSpace(tiers=TIERS, top_ks=(2, 8), blocks=(4, 6, 8))
CROPS = {"low": 2, "medium": 6, "high": 12}
TYPES = ("colour", "read", "count", "mixed")
WORDS = {
    "colour": "what colour is the large shape",
    "read": "read the small code in the corner",
    "count": "how many shapes are there in all",
    "mixed": "which letter stands beside the shape",
}
TOKENS = {"colour": 2, "read": 7, "count": 3, "mixed": 3}
FACTS = ModelFacts(name="world", kind="llava_next", blocks=8, experts=16, top_k=8)
HIDDEN = 12


class Where(NamedTuple):
    where: str


class WorldEstimator:
    """Knows the world's times; residuals are lognormal with `noise`."""

    def __init__(self, noise: float = 0.03, scale: float = 1.0) -> None:
        self.target = "total_ms"
        self.features = ["image_tokens", "output_tokens", "config.top_k", "config.blocks"]
        self.categorical: list[str] = []
        self.group = ["config_id"]
        self.noise, self.scale = noise, scale

    def predict(self, frame: pl.DataFrame) -> Any:
        image, out, k, blocks = (frame[name].to_numpy().astype(float) for name in self.features)
        return self.scale * time_ms(image, out, k, blocks)

    def quantile(self, frame: pl.DataFrame, q: Any) -> Any:
        from scipy.special import ndtri

        length = self.predict(frame)[:, None] * np.exp(self.noise * ndtri(np.atleast_1d(q)))[None, :]
        return length[:, 0] if np.ndim(q) == 0 else length

    def probability_within(self, frame: pl.DataFrame, budget_ms: Any) -> Any:
        from scipy.special import ndtr

        return ndtr(np.log(budget_ms / self.predict(frame)) / self.noise)

    def support(self, frame: pl.DataFrame) -> Sequence[Where]:
        return [Where("inside")] * len(frame)


class World(NamedTuple):
    """The training half, the held-out half, features of all, and bounds from the training half."""

    train: DecisionTable
    held_out: DecisionTable
    features: FeatureTable
    bounds: Bounds


def time_ms(image_tokens: Any, output_tokens: Any, top_k: Any, blocks: Any) -> Any:
    """Vision and prefill grow with image tokens, decode with tokens; both with blocks and top-k."""
    a_block = 0.4 + 0.05 * top_k
    return (
        2
        + 0.01 * image_tokens
        + a_block * blocks * (1 + image_tokens / 600)
        + a_block * blocks * 0.5 * (output_tokens - 1)
    )


def world_frame(
    questions: int = 240,
    seed: int = 0,
    noise: float = 0.03,
    wrong: float = 0.0,
    tokens: Mapping[str, int] = TOKENS,
) -> pl.DataFrame:
    """A sweep's frame: every question under every choice. wrong: share of scores that are turned round."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(questions):
        kind = TYPES[number % len(TYPES)]
        fine = bool(hidden_side(number))
        for choice in (SPACE.choice(place) for place in range(len(SPACE))):
            assert choice.tier is not None and choice.blocks is not None and choice.top_k is not None
            image = (CROPS[choice.tier.name] + 1) * 36
            length = tokens[kind] + int(rng.random() < 0.1)
            took = time_ms(image, length, choice.top_k, choice.blocks) * np.exp(noise * rng.normal())
            rows.append({
                "sample_id": f"{kind}-{number:05d}", "repeat": 0, "flags": "", "config_id": str(choice),
                "score": float(right(kind, fine, choice.tier.name, choice.blocks) != (rng.random() < wrong)),
                "output_tokens": length, "total_ms": float(took), "prompt_tokens": image + 12, "image_tokens": image,
                "crops": CROPS[choice.tier.name], "config.model": "world", "config.tier": choice.tier.name,
                "config.crops": f"{choice.tier.low}-{choice.tier.high}", "config.top_k": choice.top_k,
                "config.blocks": choice.blocks,
            })  # fmt: skip
    return pl.DataFrame(rows)


def right(kind: str, fine: bool, tier: str, blocks: int) -> bool:
    """Whether an answer is right."""
    if kind == "colour":
        return True
    if kind == "read" or (kind == "mixed" and fine):
        return tier == "high"
    return blocks == 8


def hidden_side(number: int) -> int:
    """Whether a "mixed" question needs the high tier."""
    return int(np.random.default_rng(number).integers(2))


def world_features(ids: Sequence[str], seed: int = 0) -> FeatureTable:
    """Words of the type; pixels and hidden states hold the side of a mixed question, with noise."""
    rng = np.random.default_rng(seed)
    side = np.array([hidden_side(int(name.rpartition("-")[2])) for name in ids], dtype=np.float32) * 2 - 1
    hidden = rng.normal(size=(len(ids), SPACE.first, HIDDEN)).astype(np.float32) * 0.3
    hidden[:, :, 0] += side[:, None]
    pixels = rng.normal(size=(len(ids), 192)).astype(np.float32) * 0.1
    pixels[:, :96] += side[:, None] * 0.5
    language = np.array([language_features(WORDS[name.rpartition("-")[0]]) for name in ids])
    return feature_table(tuple(ids), FACTS, SPACE, FeatureArrays(language, pixels, hidden), early_block=2)


def world(
    questions: int = 240,
    *,
    seed: int = 0,
    noise: float = 0.03,
    wrong: float = 0.0,
    tokens: Mapping[str, int] = TOKENS,
) -> World:
    """Everything that training and judging need."""
    table = decision_table(world_frame(questions, seed, noise, wrong, tokens), FACTS)
    features = world_features(table.sample_ids, seed)
    train, held_out = table.half("train"), table.half("held-out")
    bounds = make_bounds(WorldEstimator(noise), train, features.of(train.sample_ids, SPACE).language)
    return World(train, held_out, features, bounds)
