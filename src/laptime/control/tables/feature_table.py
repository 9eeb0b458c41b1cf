"""The features of a decision table's questions, collected once: words, pixels, and hidden states under each tier.

On disk they are features.json and features.safetensors. No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace, ModelFacts, Tier
from laptime.control.seen import Floats32, Seen
from laptime.control.tables.features import LANGUAGE, PIXELS
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.errors import LaptimeError

SCHEMA = "laptime.features/1"


class FeatureTable(msgspec.Struct, frozen=True, kw_only=True):
    """What policies see of each question: language (n, L), pixels (n, P), hidden (n, tiers, H), all float32.

    hidden: the early block's output under each of `tiers`, which are in the space's order. early_block: how many blocks
    had run. pixels and hidden have width 0 where they were not collected.
    """

    sample_ids: tuple[str, ...]
    model: ModelFacts
    tiers: tuple[Tier, ...]
    early_block: int
    language: Floats32
    pixels: Floats32
    hidden: Floats32

    def __len__(self) -> int:
        return len(self.sample_ids)

    def of(self, sample_ids: tuple[str, ...], space: ChoiceSpace) -> FeatureTable:
        """The rows of these questions, in this order.

        Raises LaptimeError when a question is missing, or hidden states belong to other tiers than the space's.
        """
        if self.hidden.shape[2] and self.tiers != space.tiers:
            own, wanted = (", ".join(tier.name for tier in tiers) or "none" for tiers in (self.tiers, space.tiers))
            raise LaptimeError(f"features were collected for tiers {own}, the choices have {wanted}: collect anew")
        row_of = {name: row for row, name in enumerate(self.sample_ids)}
        if missing := [name for name in sample_ids if name not in row_of]:
            raise LaptimeError(
                f"no features of question {missing[0]} ({len(missing)} of {len(sample_ids)} questions lack them); "
                "collect them for this sweep's questions"
            )
        rows = np.array([row_of[name] for name in sample_ids], dtype=np.intp)
        return msgspec.structs.replace(
            self,
            sample_ids=tuple(sample_ids),
            language=self.language[rows],
            pixels=self.pixels[rows],
            hidden=self.hidden[rows],
        )

    def seen(self, row: int, tier: int | None = None) -> Seen:
        """What a policy sees of one question: before the vision tower, or after the early block under a tier."""
        return Seen(
            language=self.language[row],
            pixels=self.pixels[row] if self.pixels.shape[1] else None,
            tier=tier,
            hidden=self.hidden[row, tier] if tier is not None and self.hidden.shape[2] else None,
        )


class FeatureArrays(NamedTuple):
    """language (n, L), pixels (n, P), hidden (n, tiers, H). None: not collected."""

    language: Floats32
    pixels: Floats32 | None = None
    hidden: Floats32 | None = None


class _FeatureFacts(msgspec.Struct, frozen=True, kw_only=True):
    sample_ids: tuple[str, ...]
    model: ModelFacts
    tiers: tuple[Tier, ...]
    early_block: int
    pixels: int
    hidden: int


def feature_table(
    sample_ids: tuple[str, ...], model: ModelFacts, space: ChoiceSpace, arrays: FeatureArrays, early_block: int = 0
) -> FeatureTable:
    """A FeatureTable of collected arrays. Raises LaptimeError for shapes that don't belong together."""
    n = len(sample_ids)
    language = arrays.language
    pixels = np.zeros((n, 0), dtype=np.float32) if arrays.pixels is None else arrays.pixels
    hidden = np.zeros((n, space.first, 0), dtype=np.float32) if arrays.hidden is None else arrays.hidden
    if language.shape != (n, LANGUAGE) or pixels.shape[0] != n or hidden.shape[:2] != (n, space.first):
        raise LaptimeError(
            f"features of {n} questions: language {language.shape}, pixels {pixels.shape}, hidden {hidden.shape}; "
            f"({n}, {LANGUAGE}), ({n}, {PIXELS}) and ({n}, {space.first}, H) belong together"
        )
    language, pixels, hidden = (np.asarray(array, dtype=np.float32) for array in (language, pixels, hidden))
    if not all(np.isfinite(array).all() for array in (language, pixels, hidden)):
        raise LaptimeError(
            "features: a value is no number; the model's hidden states overflow, collect them in float32"
        )
    return FeatureTable(
        sample_ids=tuple(sample_ids),
        model=model,
        tiers=space.tiers,
        early_block=early_block,
        language=language,
        pixels=pixels,
        hidden=hidden,
    )


def write_features(table: FeatureTable, folder: str | Path) -> None:
    """Write features.json and features.safetensors."""
    facts = _FeatureFacts(
        sample_ids=table.sample_ids,
        model=table.model,
        tiers=table.tiers,
        early_block=table.early_block,
        pixels=table.pixels.shape[1],
        hidden=table.hidden.shape[2],
    )
    arrays = {"language": table.language, "pixels": table.pixels, "hidden": table.hidden}
    write_value(Path(folder), "features", SCHEMA, facts, arrays)


def read_features(folder: str | Path) -> FeatureTable:
    """Read what `write_features` wrote. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    facts, arrays = read_value(place, "features", SCHEMA, _FeatureFacts, "a table of features")
    n, file = len(facts.sample_ids), place / "features.safetensors"
    if len(set(facts.sample_ids)) != n:
        raise LaptimeError(f"{place / 'features.json'}: a question is there twice; collect the features anew")
    return FeatureTable(
        sample_ids=facts.sample_ids,
        model=facts.model,
        tiers=facts.tiers,
        early_block=facts.early_block,
        language=_float32(take_array(arrays, "language", (n, LANGUAGE), file)),
        pixels=_float32(take_array(arrays, "pixels", (n, facts.pixels), file)),
        hidden=_float32(take_array(arrays, "hidden", (n, max(1, len(facts.tiers)), facts.hidden), file)),
    )


def _float32(array: npt.NDArray[np.generic]) -> Floats32:
    return np.asarray(array, dtype=np.float32)
