"""The older JSON results that laptime itself wrote (laptime.data.legacy_export): their fields and types are known.

So a sample is decoded at once into a value of its type, and needs no look at each of its cells. Whatever is otherwise
in one file, if only a missing field, makes laptime.data.legacy read them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from laptime.data.columns import COLUMNS, DECODE_PER_TOKEN, ON_REQUEST, FrameColumn, Kind, SampleColumns
from laptime.data.legacy import EXTRAS, FIELDS, RESULTS, plain_knobs
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.record import Real, Scalar, Whole

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

BESIDE = {"sample_id": "sample_id", **FIELDS, "score": "accuracy", "text": "prediction"}
"""A column that stands in the sample itself -> its field. All others are in its part EXTRAS."""

_TYPES: dict[Kind, Any] = {
    "text": str | None,
    "words": str | None,
    "float": Real | None,
    "int": Whole | None,
    "floats": list[Real] | None,
}


BLOCK_BYTES = 1 << 19
"""Samples are decoded in blocks of this size: their objects stay in the processor's cache until they are columns."""

_OPENS, _BETWEEN, _CLOSES = f'"{RESULTS}": ['.encode(), b"\n  },\n  {", b"\n  }\n ]"
"""Where the list of samples begins, one ends and the next begins, and the list ends, as laptime lays a file out.
No text in JSON has a new line in it."""


def read_own(files: Sequence[Path], *, bulky: bool, block_bytes: int = BLOCK_BYTES) -> polars.DataFrame | None:
    """The samples of all these files as a frame; None where laptime didn't write every one of them."""
    columns = SampleColumns(bulky=bulky, columns=_columns(), config=f"{EXTRAS}.config")
    decoder = _decoder(bulky=bulky)
    try:
        for file in files:
            for block in _blocks(read_regular(file), block_bytes):
                columns.add(decoder.decode(block))
        knobs = [msgspec.json.decode(config, type=dict[str, Scalar]) for config in columns.configs]
        if not files or any(plain_knobs(one) != one for one in knobs):
            return None
        return columns.frame()
    except (*DAMAGE, OSError, OverflowError):
        return None


def _blocks(content: bytes, size: int) -> Iterator[bytes]:
    """The samples of a file as JSON lists of some of them.

    Raises msgspec.DecodeError where the file is laid out otherwise.
    """
    opens, closes = content.find(_OPENS), content.rfind(_CLOSES)
    begin, end = opens + len(_OPENS), closes + len(_CLOSES) - 1
    rest = msgspec.json.decode(content[:begin] + content[end:]) if 0 <= opens < closes else None
    if not isinstance(rest, dict) or rest.get(RESULTS) != []:
        raise msgspec.DecodeError("not as laptime writes it")
    while (cut := content.find(_BETWEEN, min(begin + size, end), end)) >= 0:
        yield b"[" + content[begin : cut + len(_BETWEEN) - len(b",\n  {")] + b"]"
        begin = cut + len(_BETWEEN) - 1
    yield b"[" + content[begin:end] + b"]"


def _columns() -> list[FrameColumn]:
    """Where each column's values are in such a sample."""
    known = [*COLUMNS, FrameColumn(DECODE_PER_TOKEN, "float", DECODE_PER_TOKEN)]
    return [
        replace(
            column,
            kind="text" if column.kind == "words" else column.kind,  # they are one text already
            field=BESIDE.get(column.name, column.name),
            struct=None if column.name in BESIDE else EXTRAS,
            optional=False,
        )
        for column in known
    ]


@cache
def _decoder(*, bulky: bool) -> msgspec.json.Decoder[Any]:
    kinds = {column.name: column.kind for column in _columns()}
    within = [
        (name, _TYPES[kind], None)
        for name, kind in kinds.items()
        if name not in BESIDE and (bulky or name not in ON_REQUEST)
    ]
    extras = msgspec.defstruct("Extras", [("config", msgspec.Raw), *within], gc=False, module=__name__)
    always = [("sample_id", str), *((field, _TYPES[kinds[name]]) for name, field in FIELDS.items()), (EXTRAS, extras)]
    sample: Any = msgspec.defstruct(
        "OwnSample",
        [*always, ("accuracy", Real | None, None), ("prediction", str | None, None)],
        forbid_unknown_fields=True,
        gc=False,
        module=__name__,
    )
    return msgspec.json.Decoder(list[sample])
