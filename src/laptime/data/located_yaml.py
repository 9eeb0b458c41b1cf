"""YAML as plain values, each with the line that it stands on, so that an error can name its place.

Only plain data is read: no tags, no key twice, and no aliases, since a small file of aliases can grow without limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from laptime.data.outside import read_regular
from laptime.errors import LaptimeError

MAX_BYTES = 1 << 18
MAX_DEPTH = 16
LARGEST = 2.0**63

Lines = dict[tuple[str | int, ...], int]
"""The line of each value by its path: ("knobs", "top_k", 2)."""


@dataclass(frozen=True)
class Places:
    """Where each value of a configuration stands, as messages begin. file: None for a mapping, which has no lines."""

    file: Path | None
    lines: Lines

    def of(self, *path: str | int) -> str:
        """`file:line: path` of a value."""
        if path and isinstance(path[-1], int) and path not in self.lines:
            path = path[:-1]  # a knob's one value, written without a list
        if self.file is None:
            return f"configuration: {_dotted(path)}"
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return f"{self.file}:{self.lines.get(known, 1)}: {_dotted(path)}"


def read_yaml(file: Path) -> tuple[Any, Lines]:
    """A YAML file's value, and the line of each of its parts.

    Raises LaptimeError with file and line: unreadable, not YAML, too large or too deep, an alias, a tag, a key twice.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise LaptimeError(f"{file}: larger than {MAX_BYTES >> 10} KiB; a configuration is a few lines of YAML")
        text = read_regular(file).decode("utf-8-sig")
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
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node)
            if not isinstance(key, str):
                raise _RefusedError(key_node, f"key {key!r}: keys are words")
            at = (*path, key)
            if key in mapping:
                raise _RefusedError(key_node, f"key {key!r} stands here twice (first in line {lines[at]})")
            mapping[key] = _value(loader, value_node, at, lines)
            lines[at] = key_node.start_mark.line + 1
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(loader, item, (*path, number), lines) for number, item in enumerate(node.value)]
    return _scalar(loader, node, path)


def _scalar(loader: _Loader, node: Any, path: tuple[str | int, ...] = ()) -> Any:
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
        raise _RefusedError(node, f"{node.tag.removeprefix('tag:yaml.org,2002:')} is not used here; write plain values")
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError):
        raise _RefusedError(node, f"{node.value[:40]!r} can't be read") from None
    if isinstance(value, int | float) and not abs(value) < LARGEST:
        raise _RefusedError(node, f"{_dotted(path)}: {node.value[:40]!r}: a number must be finite and below 2^63")
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _RefusedError(node, f"{_dotted(path)}: {node.value[:40]!r} holds half a character (a lone surrogate)")
    return value
