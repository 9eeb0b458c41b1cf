"""POPE: is there such an object in the image? The published JSON lines, coco_pope_random.json and its like. No torch.

One object a line: {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a ...?", "label":
"yes"}. Li et al., EMNLP 2023 (arXiv 2305.10355).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.image_folder import image_folder


class _Line(msgspec.Struct, frozen=True):
    question_id: int
    image: str
    text: str
    label: str


def read_pope(file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0) -> list[Example]:
    """The questions in the file's order; an example's id is its question_id.

    images: the folder of COCO's images; unless given, val2014 or images beside the file, or its own folder.
    Raises LaptimeError with file and line: not this format, a label that is neither yes nor no, an id used twice, an
    image that isn't there.
    """
    lines: list[tuple[str, _Line]] = []
    for number, text in enumerate(read_bytes(file).split(b"\n"), 1):
        if text.strip():
            place = f"{file}:{number}"
            line = decode(text, _Line, place, "a line of POPE (question_id, image, text, label)")
            if line.label.strip().lower() not in ("yes", "no"):
                raise LaptimeError(f"{place}: label {line.label[:40]!r}; POPE's answers are yes and no")
            lines.append((place, line))
    ids = [str(line.question_id) for _, line in lines]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise LaptimeError(f"{file}: question_id {twice} is used twice; read one of POPE's files at a time")
    picked = pick(lines, ids, samples, seed)
    folder = image_folder(file, images, ["val2014", "images", ".", "../val2014"], [line.image for _, line in picked])
    examples = []
    for place, line in picked:
        path = folder.find([line.image])
        if path is None:
            raise LaptimeError(f"{place}: no image {line.image!r} in {folder.folder}; add it, or name its folder")
        question = f"{line.text.strip()} Answer with yes or no."
        examples.append(Example(str(line.question_id), question, path, (line.label.strip().lower(),), place))
    return examples
