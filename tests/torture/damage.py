"""How files are damaged: in their bytes, in their lines, in one value."""

from __future__ import annotations

import json
import random
from typing import Any

VALUES: tuple[str, ...] = (
    "1e308", "-1e308", "5e-324", "-5e-324", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "-0.0", "0", "1",
    "-1", "0.1", "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616",
    "1" + "0" * 400, "1" * 5000, "1e-400", "null", "true", "false", '""', "[]", "{}", "[null]", "[1e308,-1e308]",
    '"\\u001b[31mred\\u001b[0m"', '"\\u202eevil\\u2066"', '"\\ud800"', '"\\u0000"', '"a\\r\\nb"', '"</script>"',
    '"' + "x" * 100_000 + '"', "[" * 3000 + "]" * 3000, '{"a":' * 2000 + "1" + "}" * 2000, "1788000000000",
    "-1788000000000", "253402300800000", "1e300", '"nan"', '"1"', '"\\u009b31m"', '"\\u0007bell"', '"=1+1"',
)  # fmt: skip
"""JSON texts that stand where another value stood."""

BYTES: tuple[bytes, ...] = (
    b"\xff", b"\x00", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\n\n", b"\r\n", b"\r", b"{", b"}", b"[",
    b"]", b'"', b",", b":", b"\\", b"\\u", b"-", b"e999", b"nan", b"\x1b[31m", b"\xe2\x80\xae", b"9" * 400, b" " * 5000,
)  # fmt: skip
"""What is put between bytes."""

_HERE = "\ue000place\ue000"


def damaged_bytes(chance: random.Random, content: bytes) -> tuple[str, bytes]:
    """(how, content) with bytes changed somewhere: cut, flipped, put in, taken out, doubled."""
    at = chance.randrange(len(content) + 1)
    if chance.random() < 0.3:  # at an end of a line, where half a record begins
        ends = [i for i in range(len(content)) if content[i : i + 1] == b"\n"][:2000]
        if ends:
            at = max(0, min(len(content), chance.choice(ends) + chance.randrange(-1, 3)))
    way = chance.randrange(7)
    if way == 0:
        return "cut", content[:at]
    if way == 1 and content:
        changed = bytearray(content)
        for _ in range(1 << chance.randrange(4)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        return "flipped", bytes(changed)
    if way == 2:
        return "put in", content[:at] + chance.choice(BYTES) + content[at:]
    if way == 3:
        return "taken out", content[:at] + content[at + (1 << chance.randrange(10)) :]
    if way == 4:
        return "doubled", content[:at] + content[max(0, at - (1 << chance.randrange(12))) :]
    if way == 5:
        return "empty", b""
    return "zeros", content[:at] + bytes(min(4096, len(content) - at)) + content[at + 4096 :]


def damaged_lines(chance: random.Random, content: bytes) -> tuple[str, bytes]:
    """(how, content) with whole lines changed: swapped, doubled, joined, blank, without their last newline."""
    lines = content.split(b"\n")
    at = chance.randrange(len(lines))
    way = chance.randrange(7)
    if way == 0:
        chance.shuffle(lines)
        return "lines shuffled", b"\n".join(lines)
    if way == 1:
        return "a line doubled", b"\n".join([*lines[:at], lines[at], *lines[at:]])
    if way == 2:
        return "lines joined", b"\n".join(lines[:at]) + b"".join(lines[at : at + 2]) + b"\n" + b"\n".join(
            lines[at + 2 :]
        )
    if way == 3:
        return "a blank line", b"\n".join([*lines[:at], chance.choice([b"", b"  ", b"\t", b"\r"]), *lines[at:]])
    if way == 4:
        return "no last newline", content.rstrip(b"\n")
    if way == 5:
        return "one line left", lines[0] + b"\n"
    return "Windows lines", content.replace(b"\n", b"\r\n")


def damaged_value(chance: random.Random, content: bytes) -> tuple[str, bytes]:
    """(how, content) of JSON, or JSON lines, with one value replaced, a field taken out, or a field given twice."""
    lines = content.split(b"\n") if b"\n{" in content else [content]
    places = [number for number, line in enumerate(lines) if line.strip()]
    if not places:
        return "empty", content
    everywhere = chance.random() < 0.25
    at = chance.choice(places)
    try:
        path = chance.choice(list(_paths(json.loads(lines[at]))) or [()])
    except (ValueError, RecursionError):
        return "put in", content + chance.choice(BYTES)
    value = chance.choice(VALUES)
    for number in places if everywhere else [at]:
        try:
            whole = json.loads(lines[number])
            lines[number] = _replaced(whole, path, value).encode("utf-8", "surrogatepass")
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            continue
    field = next((str(step) for step in reversed(path) if isinstance(step, str)), "whole")
    return f"{field} is {value[:24]}", b"\n".join(lines)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(key, int) and key > 4:
            break
        yield from _paths(inner, (*path, key))


def _replaced(whole: Any, path: tuple[Any, ...], value: str) -> str:
    if not path:
        return value
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = _HERE
    return json.dumps(whole).replace(json.dumps(_HERE), value)
