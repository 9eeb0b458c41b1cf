"""Reads a sweep's configuration and checks it before any model is asked.

Every error names the file, the line and the path of the key. A key that doesn't exist is refused, and the nearest one
is named. From Python a mapping with the same fields does as well as a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from laptime.data.located_yaml import Places, read_yaml
from laptime.errors import LaptimeError
from laptime.sweeps.config import IMPORTANCE_WORDS, KNOBS, KnobGrid, SweepConfig
from laptime.workload.images import parse_size

Step = str | int
"""One step of a value's path: a key, or a place in a list."""


def as_sweep_config(config: str | Path | Mapping[str, Any] | SweepConfig) -> SweepConfig:
    """A sweep's configuration, checked.

    config: a YAML file (paths in it are relative to it), or a mapping with the same fields (paths are relative to the
    current folder). A SweepConfig is returned as it is.
    Raises LaptimeError: where, the path of the key, what is wrong.
    """
    if isinstance(config, SweepConfig):
        return config
    if isinstance(config, Mapping):
        return _checked(dict(config), Places(None, {}), Path())
    return read_sweep_config(Path(config))


def read_sweep_config(file: Path) -> SweepConfig:
    """Read and check a configuration file; paths in it are relative to it.

    Raises LaptimeError: file:line: path: what is wrong, and near names for an unknown key.
    """
    value, lines = read_yaml(file)
    if not isinstance(value, dict):
        raise LaptimeError(f"{file}:1: a sweep's configuration is a list of `key: value`; at least `model: NAME`")
    return _checked(value, Places(file, lines), file.parent)


def _checked(value: dict[str, Any], places: Places, folder: Path) -> SweepConfig:
    value = _with_importance(value, places)
    try:
        config = msgspec.convert(_with_lists(value), SweepConfig)
    except msgspec.ValidationError as error:
        raise LaptimeError(_complaint(str(error), value, places)) from None
    _check_combinations(config, places)
    _check_workload(config, value, places)
    _check_images(config, places)
    return _with_absolute_paths(config, folder, places)


def _with_importance(value: dict[str, Any], places: Places) -> dict[str, Any]:
    """The configuration with knobs.importance, where people look for it, at its own place."""
    knobs = value.get("knobs")
    if not isinstance(knobs, dict) or "importance" not in knobs:
        return value
    if "importance" in value:
        raise LaptimeError(f"{places.of('knobs', 'importance')}: importance is there twice; keep the top-level one")
    rest = {name: levels for name, levels in knobs.items() if name != "importance"}
    return {**value, "knobs": rest, "importance": knobs["importance"]}


def _with_lists(value: dict[str, Any]) -> dict[str, Any]:
    """The configuration with every knob as a list."""
    knobs = value.get("knobs")
    if not isinstance(knobs, dict):
        return value
    return {
        **value,
        "knobs": {name: list(v) if isinstance(v, list | tuple | range) else [v] for name, v in knobs.items()},
    }


def _complaint(error: str, value: dict[str, Any], places: Places) -> str:
    """msgspec's message as one line of laptime's."""
    what, _, where = error.partition(" - at ")
    path = _path(where.strip().strip("`"))
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        return f"{places.of(*path, unknown[1])}: unknown key; {_hint(unknown[1], _fields_at(path))}"
    missing = re.search(r"missing required field `(.*)`", what)
    if missing:
        return f"{places.of(*path, missing[1])}: missing; add it, e.g. model: preset:tiny-vlm"
    written: Any = value
    for step in path:
        written = _inside(written, step)
    wrong = " ".join(
        what.replace("`", "").replace("Expected", "must be").replace("Invalid enum value", "no choice:").split()
    )
    choices = _choices_at(path)
    if choices:
        near = difflib.get_close_matches(str(written), choices, n=1, cutoff=0.5)
        wrong = f"must be one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")
    return f"{places.of(*path)}: {wrong.replace('array', 'list')} (found {str(written)[:40]!r})"


def _inside(value: Any, step: Step) -> Any:
    """One step into a value; the value itself where there is no such step (msgspec numbers a mapping's values)."""
    if isinstance(value, dict):
        return value.get(step, value)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else value


def _hint(name: str, names: Sequence[str]) -> str:
    """What may have been meant by a name that doesn't exist."""
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"


def _path(dollar: str) -> tuple[Step, ...]:
    """msgspec's `$.knobs.top_k[2]` as a path."""
    return tuple(int(n) if n else name for name, n in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", dollar))


def _type_at(path: tuple[Step, ...]) -> Any:
    kind: Any = SweepConfig
    for step in path:
        if isinstance(step, str) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = {f.name: f.type for f in msgspec.structs.fields(kind)}.get(step)
        elif isinstance(step, int) and kind is not None:
            kind = getattr(kind, "__args__", (None,))[0]
    return kind


def _fields_at(path: tuple[Step, ...]) -> list[str]:
    kind = _type_at(path)
    return list(kind.__struct_fields__) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else []


def _choices_at(path: tuple[Step, ...]) -> list[str]:
    choices: list[str] = []
    waiting = [_type_at(path)]
    while waiting:
        kind = waiting.pop()
        if getattr(kind, "__origin__", None) is Literal:
            choices += [str(choice) for choice in kind.__args__]
        else:
            waiting += list(getattr(kind, "__args__", ()))
    return choices


def _check_combinations(config: SweepConfig, places: Places) -> None:
    """Every knob has a value; `exclude` and `include` name knobs and values that there are."""
    for name in KNOBS:
        if not getattr(config.knobs, name):
            raise LaptimeError(f"{places.of('knobs', name)}: an empty list; give a value, or leave the knob out")
    for section in ("exclude", "include"):
        for number, combination in enumerate(getattr(config, section)):
            if not combination:
                raise LaptimeError(f"{places.of(section, number)}: names no knob")
            for name, value in combination.items():
                where = places.of(section, number, name)
                if name not in KNOBS:
                    raise LaptimeError(f"{where}: unknown knob; {_hint(name, KNOBS)}")
                values = value if isinstance(value, list) else [value]
                if section == "include" and isinstance(value, list):
                    raise LaptimeError(f"{where}: one value, not a list; write one combination for each")
                try:
                    msgspec.convert({name: values}, KnobGrid)
                except msgspec.ValidationError as error:
                    what = str(error).partition(" - at ")[0].replace("`", "").replace("Expected", "must be")
                    raise LaptimeError(f"{where}: {what} (found {str(value)[:40]!r})") from None
                grid = getattr(config.knobs, name)
                if section == "exclude" and not any(v in grid for v in values):
                    raise LaptimeError(f"{where}: {value!r} is not in the grid (knobs.{name} is {grid})")


def _check_workload(config: SweepConfig, value: dict[str, Any], places: Places) -> None:
    """What comes from data files isn't set by knobs, and what belongs to them isn't given without them."""
    workload = config.workload
    if workload.data is None:
        for name in ("annotations", "images", "score"):
            if getattr(workload, name) is not None:
                raise LaptimeError(f"{places.of('workload', name)}: needs workload.data")
    else:
        for name in ("prompt_tokens", "image_size"):
            if name in value.get("knobs", {}):
                raise LaptimeError(f"{places.of('knobs', name)}: comes from the data; leave it out")
        if config.knobs.batch != [1]:
            raise LaptimeError(f"{places.of('knobs', 'batch')}: questions from files are asked one at a time")


def _check_images(config: SweepConfig, places: Places) -> None:
    """Crops and image sizes can be read."""
    for number, crops in enumerate(config.knobs.crops):
        if isinstance(crops, str) and not _is_crop_range(crops):
            raise LaptimeError(
                f"{places.of('knobs', 'crops', number)}: a number, or a range as in 4-8 (found {crops[:40]!r})"
            )
    if config.knobs.tier != [None] and config.knobs.crops != [None]:
        raise LaptimeError(f"{places.of('knobs', 'crops')}: tier says the same; give one of both")
    for number, size in enumerate(config.knobs.image_size):
        try:
            size is None or parse_size(size)
        except LaptimeError as error:  # noqa: PERF203 - a few values
            raise LaptimeError(f"{places.of('knobs', 'image_size', number)}: {error}") from None


def _is_crop_range(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
    return match is not None and 1 <= int(match[1]) <= int(match[2]) <= 64


def _with_absolute_paths(config: SweepConfig, folder: Path, places: Places) -> SweepConfig:
    def absolute(path: str | None, *at: str) -> str | None:
        if path is None or (at == ("importance",) and path in IMPORTANCE_WORDS):
            return path
        whole = (folder / path).resolve()
        if not whole.exists():
            raise LaptimeError(f"{places.of(*at)}: no such file: {whole}")
        return str(whole)

    workload = msgspec.structs.replace(
        config.workload,
        **{
            name: absolute(getattr(config.workload, name), "workload", name)
            for name in ("data", "annotations", "images")
        },
    )
    model = config.model
    if not model.startswith("preset:") and (folder / model).is_dir():
        model = str((folder / model).resolve())
    return msgspec.structs.replace(
        config,
        model=model,
        workload=workload,
        importance=absolute(config.importance, "importance"),
        experts=absolute(config.experts, "experts"),
    )
