"""A value on disk: a JSON file for its fields, a safetensors file for its arrays. No torch, nothing is unpickled.

    NAME.json          the schema, the value's fields, and a hash of NAME.safetensors
    NAME.safetensors   arrays of float32, float64 or int32

A file is not trusted when it is read: its size is limited, the hash is compared, every array's type and shape is
checked, and a number that is not finite is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.outside import DAMAGE, read_regular
from laptime.errors import LaptimeError

MOST_JSON = 16 * 1024 * 1024
MOST_ARRAYS = 1024 * 1024 * 1024
KINDS = ("float32", "float64", "int32")

T = TypeVar("T")
Arrays = Mapping[str, npt.NDArray[Any]]


class _Envelope(msgspec.Struct, frozen=True):
    schema: str
    arrays_sha256: str
    fields: msgspec.Raw = msgspec.field(name="told")


def packed_arrays(arrays: Arrays) -> bytes:
    """The arrays as the content of a safetensors file. The same arrays give the same bytes."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def write_value(folder: Path, name: str, schema: str, fields: msgspec.Struct, arrays: Arrays) -> None:
    """Write both files. Raises LaptimeError when the folder can't be written."""
    packed = packed_arrays(arrays)
    envelope = _Envelope(schema, hashlib.sha256(packed).hexdigest(), msgspec.Raw(msgspec.json.encode(fields)))
    text = msgspec.json.format(msgspec.json.encode(envelope), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.safetensors").write_bytes(packed)
        (folder / f"{name}.json").write_bytes(text + b"\n")
    except OSError as error:
        raise LaptimeError(f"{folder}: can't be written ({error.strerror}); name another folder") from error


def read_value(folder: Path, name: str, schema: str, kind: type[T], what: str) -> tuple[T, dict[str, npt.NDArray[Any]]]:
    """The fields and arrays that `write_value` wrote. `what` names the value in errors: "a policy".

    Raises LaptimeError for a folder that is damaged, foreign or from a newer laptime.
    """
    raw = _read(folder, f"{name}.json", MOST_JSON, what)
    file = folder / f"{name}.json"
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not {what} ({error}); name a folder that laptime wrote") from error
    if envelope.schema != schema:
        raise LaptimeError(f"{file}: schema {envelope.schema[:60]!r}, this laptime reads {schema}; make it anew")
    try:
        fields = msgspec.json.decode(envelope.fields, type=kind)
    except DAMAGE as error:
        raise LaptimeError(f"{file}: {what} that is damaged ({error}); make it anew") from error
    packed = _read(folder, f"{name}.safetensors", MOST_ARRAYS, what)
    if hashlib.sha256(packed).hexdigest() != envelope.arrays_sha256:
        raise LaptimeError(f"{folder / name}.safetensors: not the file that was written with {name}.json; make it anew")
    return fields, _arrays(folder / f"{name}.safetensors", packed)


def take_array(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], place: Path, *, finite: bool = True
) -> npt.NDArray[Any]:
    """One array of this shape. Raises LaptimeError when it is missing, of another shape, or not finite.

    finite: False lets infinite values pass, which promise nothing. NaN never passes.
    """
    if name not in arrays:
        raise LaptimeError(f"{place}: array {name!r} is missing; make it anew")
    array = arrays[name]
    if array.shape != shape:
        raise LaptimeError(f"{place}: array {name!r} has shape {array.shape}, {shape} is needed; make it anew")
    if array.dtype.kind == "f" and not (np.isfinite(array) if finite else ~np.isnan(array)).all():
        raise LaptimeError(f"{place}: array {name!r} has a value that is no number; make it anew")
    return array


def _arrays(file: Path, packed: bytes) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(packed)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise LaptimeError(f"{file}: not safetensors ({' '.join(str(error).split())[:120]}); make it anew") from error
    for name, array in arrays.items():
        if array.dtype.name not in KINDS:
            raise LaptimeError(f"{file}: array {name[:60]!r} is {array.dtype}; {', '.join(KINDS)} are read")
    return dict(arrays)


def _read(folder: Path, name: str, most: int, what: str) -> bytes:
    file = folder / name
    try:
        if file.stat().st_size > most:
            raise LaptimeError(f"{file}: larger than any that laptime writes; name a folder that laptime wrote")
        return read_regular(file)
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise LaptimeError(f"{folder}: no such folder; name one that holds {what}") from None
        raise LaptimeError(f"{folder} doesn't hold {what} (no {name} there); name one that laptime wrote") from None
    except (OSError, ValueError) as error:
        raise LaptimeError(f"{file}: can't be read ({error})") from error
