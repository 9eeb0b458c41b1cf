"""What a configuration's parts must have to do with each other, and where its files are."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import msgspec

from laptime.errors import LaptimeError
from laptime.sweeps.config import KNOBS, Campaign, Knobs
from laptime.sweeps.yaml_places import Lines, place
from laptime.workload.images import parse_size


def check_combinations(campaign: Campaign, lines: Lines, file: Path) -> None:
    for section in ("exclude", "include"):
        for number, combination in enumerate(getattr(campaign, section)):
            if not combination:
                raise LaptimeError(f"{place(file, lines, section, number)}: names no knob")
            for name, value in combination.items():
                where = place(file, lines, section, number, name)
                if name not in KNOBS:
                    near = difflib.get_close_matches(name, KNOBS, n=2, cutoff=0.5)
                    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(KNOBS)}"
                    raise LaptimeError(f"{where}: unknown knob; {hint}")
                values = value if isinstance(value, list) else [value]
                if section == "include" and isinstance(value, list):
                    raise LaptimeError(f"{where}: one value, not a list; write one combination for each")
                try:
                    msgspec.convert({name: values}, Knobs)
                except msgspec.ValidationError as error:
                    what = str(error).partition(" - at ")[0].replace("`", "").replace("Expected", "must be")
                    raise LaptimeError(f"{where}: {what} (found {str(value)[:40]!r})") from None
                grid = getattr(campaign.knobs, name)
                if section == "exclude" and not any(v in grid for v in values):
                    raise LaptimeError(f"{where}: {value!r} is not in the grid (knobs.{name} is {grid})")


def check_workload(campaign: Campaign, value: dict[str, Any], lines: Lines, file: Path) -> None:
    workload = campaign.workload
    if workload.data is None:
        for name in ("annotations", "images", "score"):
            if getattr(workload, name) is not None:
                raise LaptimeError(f"{place(file, lines, 'workload', name)}: needs workload.data")
    else:
        for name in ("prompt_tokens", "image_size"):
            if name in value.get("knobs", {}):
                raise LaptimeError(f"{place(file, lines, 'knobs', name)}: comes from the data; leave it out")
        if campaign.knobs.batch != [1]:
            raise LaptimeError(f"{place(file, lines, 'knobs', 'batch')}: questions from files are asked one at a time")
    for number, crops in enumerate(campaign.knobs.crops):
        if isinstance(crops, str) and not _is_crop_range(crops):
            raise LaptimeError(
                f"{place(file, lines, 'knobs', 'crops', number)}: a number, or a range as in 4-8 (found {crops[:40]!r})"
            )
    if campaign.knobs.tier != [None] and campaign.knobs.crops != [None]:
        raise LaptimeError(f"{place(file, lines, 'knobs', 'crops')}: tier says the same; give one of both")
    for number, size in enumerate(campaign.knobs.image_size):
        try:
            size is None or parse_size(size)
        except LaptimeError as error:  # noqa: PERF203 - a few values
            raise LaptimeError(f"{place(file, lines, 'knobs', 'image_size', number)}: {error}") from None


def _is_crop_range(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
    return match is not None and 1 <= int(match[1]) <= int(match[2]) <= 64


def with_absolute_paths(campaign: Campaign, folder: Path, lines: Lines, file: Path) -> Campaign:
    def found(path: str | None, *at: str) -> str | None:
        if path is None:
            return None
        whole = (folder / path).resolve()
        if not whole.exists():
            raise LaptimeError(f"{place(file, lines, *at)}: no such file: {whole}")
        return str(whole)

    workload = msgspec.structs.replace(
        campaign.workload,
        **{
            name: found(getattr(campaign.workload, name), "workload", name)
            for name in ("data", "annotations", "images")
        },
    )
    model = campaign.model
    if not model.startswith("preset:") and (folder / model).is_dir():
        model = str((folder / model).resolve())
    return msgspec.structs.replace(
        campaign, model=model, workload=workload, importance=found(campaign.importance, "importance")
    )
