"""A sweep's configuration file: strict, and every complaint names file, line and the path of the key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from laptime.errors import LaptimeError
from laptime.sweeps.config import Campaign
from laptime.sweeps.config_checks import check_combinations, check_workload, with_absolute_paths
from laptime.sweeps.yaml_places import Lines, place, read_yaml


def read_campaign(file: Path) -> Campaign:
    """Read and check a configuration file; paths in it are relative to it.

    Raises LaptimeError: file:line: path: what is wrong, and near names for an unknown key.
    """
    value, lines = read_yaml(file)
    if not isinstance(value, dict):
        raise LaptimeError(f"{file}:1: a sweep's configuration is a list of `key: value`; at least `model: NAME`")
    try:
        campaign = msgspec.convert(_listed(value), Campaign)
    except msgspec.ValidationError as error:
        raise LaptimeError(_complaint(str(error), value, lines, file)) from None
    check_combinations(campaign, lines, file)
    check_workload(campaign, value, lines, file)
    return with_absolute_paths(campaign, file.parent, lines, file)


def _listed(value: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every knob as a list."""
    knobs = value.get("knobs")
    if not isinstance(knobs, dict):
        return value
    return {**value, "knobs": {name: v if isinstance(v, list) else [v] for name, v in knobs.items()}}


def _complaint(error: str, value: dict[str, Any], lines: Lines, file: Path) -> str:
    what, _, where = error.partition(" - at ")
    path = _path(where.strip().strip("`"))
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        name = unknown[1]
        fields = _fields_at(path)
        near = difflib.get_close_matches(name, fields, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(fields)}"
        return f"{place(file, lines, *path, name)}: unknown key; {hint}"
    missing = re.search(r"missing required field `(.*)`", what)
    if missing:
        return f"{place(file, lines, *path, missing[1])}: missing; add it, e.g. model: preset:tiny-vlm"
    found: Any = value
    for step in path:
        found = found[step] if isinstance(found, dict | list) else found  # type: ignore[index]
    said = " ".join(
        what.replace("`", "").replace("Expected", "must be").replace("Invalid enum value", "no choice:").split()
    )
    choices = _choices_at(path)
    if choices:
        near = difflib.get_close_matches(str(found), choices, n=1, cutoff=0.5)
        said = f"must be one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")
    shown = str(found)[:40]
    return f"{place(file, lines, *path)}: {said.replace('array', 'list')} (found {shown!r})"


def _path(dollar: str) -> tuple[str | int, ...]:
    """msgspec's `$.knobs.top_k[2]` as a path."""
    return tuple(int(n) if n else name for name, n in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", dollar))


def _type_at(path: tuple[str | int, ...]) -> Any:
    kind: Any = Campaign
    for step in path:
        if isinstance(step, str) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = {f.name: f.type for f in msgspec.structs.fields(kind)}.get(step)
        elif isinstance(step, int) and kind is not None:
            kind = getattr(kind, "__args__", (None,))[0]
    return kind


def _fields_at(path: tuple[str | int, ...]) -> list[str]:
    kind = _type_at(path)
    return list(kind.__struct_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []


def _choices_at(path: tuple[str | int, ...]) -> list[str]:
    found: list[str] = []
    waiting = [_type_at(path)]
    while waiting:
        kind = waiting.pop()
        if getattr(kind, "__origin__", None) is Literal:
            found += [str(choice) for choice in kind.__args__]
        else:
            waiting += list(getattr(kind, "__args__", ()))
    return found
