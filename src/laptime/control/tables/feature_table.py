"""The features of a decision table's questions, collected once: words, pixels, and hidden states under each tier.

A folder features.json, features.safetensors. No torch.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace, Tier
from laptime.control.seen import Floats32, Seen
from laptime.control.tables.decision_table import ModelFacts
from laptime.control.tables.features import LANGUAGE, PIXELS
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.errors import LaptimeError

SCHEMA = "laptime.features/1"


class FeatureTable(msgspec.Struct, frozen=True, kw_only=True):
    """language (n, L), pixels (n, P), hidden (n, tiers, H) float32, by question; hidden is what the early block gave.

    tiers: those that hidden was collected under, in the space's order. early_block: how many blocks had run. pixels and
    hidden have width 0 where they were not collected.
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
            told = [", ".join(tier.name for tier in tiers) or "none" for tiers in (self.tiers, space.tiers)]
            raise LaptimeError(f"features were collected for tiers {told[0]}, the choices have {told[1]}: collect anew")
        place = {name: row for row, name in enumerate(self.sample_ids)}
        if missing := [name for name in sample_ids if name not in place]:
            raise LaptimeError(
                f"no features of question {missing[0]} ({len(missing)} of {len(sample_ids)} questions lack them); "
                "collect them for this sweep's questions"
            )
        rows = np.array([place[name] for name in sample_ids], dtype=np.intp)
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


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    sample_ids: tuple[str, ...]
    model: ModelFacts
    tiers: tuple[Tier, ...]
    early_block: int
    pixels: int
    hidden: int


def feature_table(
    sample_ids: tuple[str, ...],
    model: ModelFacts,
    space: ChoiceSpace,
    language: Floats32,
    pixels: Floats32 | None = None,
    hidden: npt.NDArray[np.float32] | None = None,
    early_block: int = 0,
) -> FeatureTable:
    """A FeatureTable from arrays as they were collected. Raises LaptimeError for shapes that don't belong together."""
    n = len(sample_ids)
    given = np.zeros((n, 0), dtype=np.float32) if pixels is None else pixels
    states = np.zeros((n, space.first, 0), dtype=np.float32) if hidden is None else hidden
    if language.shape != (n, LANGUAGE) or given.shape[0] != n or states.shape[:2] != (n, space.first):
        raise LaptimeError(
            f"features of {n} questions: language {language.shape}, pixels {given.shape}, hidden {states.shape}; "
            f"({n}, {LANGUAGE}), ({n}, {PIXELS}) and ({n}, {space.first}, H) belong together"
        )
    arrays = [np.asarray(array, dtype=np.float32) for array in (language, given, states)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise LaptimeError(
            "features: a value is no number; the model's hidden states overflow, collect them in float32"
        )
    return FeatureTable(
        sample_ids=tuple(sample_ids),
        model=model,
        tiers=space.tiers,
        early_block=early_block,
        language=arrays[0],
        pixels=arrays[1],
        hidden=arrays[2],
    )


def write_features(table: FeatureTable, folder: str | Path) -> None:
    """Write features.json and features.safetensors."""
    told = _Told(
        sample_ids=table.sample_ids,
        model=table.model,
        tiers=table.tiers,
        early_block=table.early_block,
        pixels=table.pixels.shape[1],
        hidden=table.hidden.shape[2],
    )
    arrays = {"language": table.language, "pixels": table.pixels, "hidden": table.hidden}
    write_value(Path(folder), "features", SCHEMA, told, arrays)


def read_features(folder: str | Path) -> FeatureTable:
    """Read what `write_features` wrote. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    told, arrays = read_value(place, "features", SCHEMA, _Told, "a table of features")
    n, file = len(told.sample_ids), place / "features.safetensors"
    if len(set(told.sample_ids)) != n:
        raise LaptimeError(f"{place / 'features.json'}: a question is there twice; collect the features anew")
    return FeatureTable(
        sample_ids=told.sample_ids,
        model=told.model,
        tiers=told.tiers,
        early_block=told.early_block,
        language=_float32(take_array(arrays, "language", (n, LANGUAGE), file)),
        pixels=_float32(take_array(arrays, "pixels", (n, told.pixels), file)),
        hidden=_float32(take_array(arrays, "hidden", (n, max(1, len(told.tiers)), told.hidden), file)),
    )


def _float32(array: npt.NDArray[np.generic]) -> Floats32:
    return np.asarray(array, dtype=np.float32)
