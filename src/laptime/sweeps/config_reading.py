"""A sweep's configuration file: strict, and every complaint names file, line and the path of the key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from laptime.errors import LaptimeError
from laptime.sweeps.config import KNOBS, KnobGrid, SweepConfig
from laptime.workload.images import parse_size


def read_sweep_config(file: Path) -> SweepConfig:
    """Read and check a configuration file; paths in it are relative to it.

    Raises LaptimeError: file:line: path: what is wrong, and near names for an unknown key.
    """
    value, lines = read_yaml(file)
    if not isinstance(value, dict):
        raise LaptimeError(f"{file}:1: a sweep's configuration is a list of `key: value`; at least `model: NAME`")
    try:
        sweep_config = msgspec.convert(_listed(value), SweepConfig)
    except msgspec.ValidationError as error:
        raise LaptimeError(_complaint(str(error), value, lines, file)) from None
    check_combinations(sweep_config, lines, file)
    check_workload(sweep_config, value, lines, file)
    return with_absolute_paths(sweep_config, file.parent, lines, file)


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
    kind: Any = SweepConfig
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


def check_combinations(sweep_config: SweepConfig, lines: Lines, file: Path) -> None:
    for section in ("exclude", "include"):
        for number, combination in enumerate(getattr(sweep_config, section)):
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
                    msgspec.convert({name: values}, KnobGrid)
                except msgspec.ValidationError as error:
                    what = str(error).partition(" - at ")[0].replace("`", "").replace("Expected", "must be")
                    raise LaptimeError(f"{where}: {what} (found {str(value)[:40]!r})") from None
                grid = getattr(sweep_config.knobs, name)
                if section == "exclude" and not any(v in grid for v in values):
                    raise LaptimeError(f"{where}: {value!r} is not in the grid (knobs.{name} is {grid})")


def check_workload(sweep_config: SweepConfig, value: dict[str, Any], lines: Lines, file: Path) -> None:
    workload = sweep_config.workload
    if workload.data is None:
        for name in ("annotations", "images", "score"):
            if getattr(workload, name) is not None:
                raise LaptimeError(f"{place(file, lines, 'workload', name)}: needs workload.data")
    else:
        for name in ("prompt_tokens", "image_size"):
            if name in value.get("knobs", {}):
                raise LaptimeError(f"{place(file, lines, 'knobs', name)}: comes from the data; leave it out")
        if sweep_config.knobs.batch != [1]:
            raise LaptimeError(f"{place(file, lines, 'knobs', 'batch')}: questions from files are asked one at a time")
    for number, crops in enumerate(sweep_config.knobs.crops):
        if isinstance(crops, str) and not _is_crop_range(crops):
            raise LaptimeError(
                f"{place(file, lines, 'knobs', 'crops', number)}: a number, or a range as in 4-8 (found {crops[:40]!r})"
            )
    if sweep_config.knobs.tier != [None] and sweep_config.knobs.crops != [None]:
        raise LaptimeError(f"{place(file, lines, 'knobs', 'crops')}: tier says the same; give one of both")
    for number, size in enumerate(sweep_config.knobs.image_size):
        try:
            size is None or parse_size(size)
        except LaptimeError as error:  # noqa: PERF203 - a few values
            raise LaptimeError(f"{place(file, lines, 'knobs', 'image_size', number)}: {error}") from None


def _is_crop_range(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
    return match is not None and 1 <= int(match[1]) <= int(match[2]) <= 64


def with_absolute_paths(sweep_config: SweepConfig, folder: Path, lines: Lines, file: Path) -> SweepConfig:
    def found(path: str | None, *at: str) -> str | None:
        if path is None:
            return None
        whole = (folder / path).resolve()
        if not whole.exists():
            raise LaptimeError(f"{place(file, lines, *at)}: no such file: {whole}")
        return str(whole)

    workload = msgspec.structs.replace(
        sweep_config.workload,
        **{
            name: found(getattr(sweep_config.workload, name), "workload", name)
            for name in ("data", "annotations", "images")
        },
    )
    model = sweep_config.model
    if not model.startswith("preset:") and (folder / model).is_dir():
        model = str((folder / model).resolve())
    return msgspec.structs.replace(
        sweep_config, model=model, workload=workload, importance=found(sweep_config.importance, "importance")
    )


MAX_BYTES = 1 << 20
MAX_DEPTH = 16

Lines = dict[tuple[str | int, ...], int]
"""The line of each value by its path: ("knobs", "top_k", 2)."""


def read_yaml(file: Path) -> tuple[Any, Lines]:
    """A YAML file's value and the lines of its parts.

    Raises LaptimeError with file and line: unreadable, no YAML, too large or deep, an alias, a tag, a key twice.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise LaptimeError(f"{file}: larger than {MAX_BYTES >> 20} MiB; this is no sweep's configuration")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LaptimeError(f"{file}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise LaptimeError(f"{file}: can't be read: {error.strerror}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: Lines = {}
        value = None if node is None else _value(loader, node, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(error.problem or error.context).split())
        raise LaptimeError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise LaptimeError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    except _RefusedError as error:
        raise LaptimeError(f"{file}:{error.line}: {error.what}") from None
    return value, lines


def place(file: Path, lines: Lines, *path: str | int) -> str:
    """`file:line: path` of a value, as messages begin."""
    if path and isinstance(path[-1], int) and path not in lines:
        path = path[:-1]  # a knob's one value, written without a list
    known = path
    while known and known not in lines:
        known = known[:-1]
    return f"{file}:{lines.get(known, 1)}: {_dotted(path)}"


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


class _RefusedError(Exception):
    def __init__(self, node: Any, what: str) -> None:
        super().__init__(what)
        self.line, self.what = node.start_mark.line + 1, what


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, up to the node graph; no aliases, no deep nesting."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(event, f"alias *{event.anchor}: not used here; write the value itself")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _RefusedError(event, f"nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))


def _value(loader: _Loader, node: Any, path: tuple[str | int, ...], lines: Lines) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node)
            if not isinstance(key, str):
                raise _RefusedError(key_node, f"key {key!r}: keys are words")
            at = (*path, key)
            if key in found:
                raise _RefusedError(key_node, f"key {key!r} stands here twice (first in line {lines[at]})")
            found[key] = _value(loader, value_node, at, lines)
            lines[at] = key_node.start_mark.line + 1
        return found
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(loader, item, (*path, number), lines) for number, item in enumerate(node.value)]
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: Any) -> Any:
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
        raise _RefusedError(node, f"{node.tag.removeprefix('tag:yaml.org,2002:')} is not used here; write plain values")
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError):
        raise _RefusedError(node, f"{node.value[:40]!r} can't be read") from None
