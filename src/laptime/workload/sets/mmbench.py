"""MMBench: multiple choice with the image inside the table. The published TSV, mmbench_dev_en.tsv. No torch.

Columns index, question, hint, A to D, answer, category and image (base64; a row may hold the index of another row,
whose image it shares). Liu et al., ECCV 2024 (arXiv 2307.06281).
"""

from __future__ import annotations

import atexit
import base64
import binascii
import csv
import io
import shutil
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

from laptime.data.files import write_whole
from laptime.errors import LaptimeError
from laptime.workload.example import LETTERS, Example, pick, read_bytes

NEEDED = ("index", "question", "A", "B", "image")
MOST_CELL = 1 << 28


def is_mmbench(first_line: bytes) -> bool:
    """Whether this is the first line of such a table."""
    return set(NEEDED) <= set(first_line.decode("utf-8", "replace").strip().split("\t"))


def read_mmbench(file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0) -> list[Example]:
    """The questions in the table's order; an example's id is "category-index". Score them by `choice`.

    The images are unpacked into `images` (files there stay as they are), or into a folder that is gone when the process
    ends. Raises LaptimeError with file and index: a missing column, a row that is cut short, an index used twice, an
    answer that is no option, a damaged image.
    """
    csv.field_size_limit(MOST_CELL)
    text = io.StringIO(read_bytes(file).decode("utf-8", "replace"), newline="")
    try:
        rows = list(csv.DictReader(text, delimiter="\t"))
    except csv.Error as error:
        raise LaptimeError(f"{file}: not a table of MMBench: {error}") from None
    if not rows or not set(NEEDED) <= set(rows[0]):
        raise LaptimeError(f"{file}: not a table of MMBench; it needs the columns {', '.join(NEEDED)}")
    for number, row in enumerate(rows, 2):
        if any(row.get(name) is None for name in NEEDED):
            raise LaptimeError(f"{file}: row {number} ends before its last column; get the table again")
    by_index = {row["index"]: row for row in rows}
    if len(by_index) < len(rows):
        twice = next(index for index, times in Counter(row["index"] for row in rows).items() if times > 1)
        raise LaptimeError(f"{file}: index {twice[:40]} is used twice; read one of MMBench's tables at a time")
    folder = _temporary_folder(file.resolve()) if images is None else images
    ids = [f"{row.get('category') or 'question'}-{row['index']}" for row in rows]
    names = dict(zip(map(id, rows), ids, strict=True))
    picked = pick(rows, ids, samples, seed)
    return [_example(file, folder, names[id(row)], row, by_index) for row in picked]


def _example(file: Path, folder: Path, name: str, row: dict[str, str], by_index: dict[str, dict[str, str]]) -> Example:
    place = f"{file}: index {row['index'][:40]}"
    choices = [row[letter] for letter in LETTERS if row.get(letter) not in (None, "", "nan")]
    answer = (row.get("answer") or "").strip()
    if len(choices) < 2 or (answer and answer not in LETTERS[: len(choices)]):
        raise LaptimeError(f"{place}: answer {answer[:20]!r} of {len(choices)} options; this row can't be asked")
    hint = row.get("hint") or ""
    hint = "" if hint in ("", "nan") else f"{hint.strip()}\n"
    right = LETTERS.index(answer) if answer else None
    return Example(
        id=name,
        question=f"{hint}{row['question'].strip()}",
        image=_unpacked(folder, place, row, by_index),
        answers=() if right is None else (choices[right],),
        place=place,
        choices=tuple(choices),
        answer_index=right,
    )


def _unpacked(folder: Path, place: str, row: dict[str, str], by_index: dict[str, dict[str, str]]) -> Path:
    packed, index = row["image"], row["index"]
    if len(packed) <= 16 and packed in by_index:  # another row's image
        index, packed = packed, by_index[packed]["image"]
    if not index.isalnum():
        raise LaptimeError(f"{place}: an index of letters and digits is needed, to name its image's file")
    path = folder / f"{index}.jpg"
    if not path.is_file():
        try:
            content = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            content = b""
        if not content:
            raise LaptimeError(f"{place}: its image is no base64; get the table again")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise LaptimeError(f"{path}: can't be written: {error.strerror}; name another folder of images") from None
    return path


@cache
def _temporary_folder(file: Path) -> Path:
    """A folder for one table's images; rows of two tables may have the same index."""
    folder = Path(tempfile.mkdtemp(prefix="laptime-mmbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
