"""TextVQA: questions about text in images, with ten people's answers: TextVQA_0.5.1_val.json and its like. No torch.

An object with {"data": [{"question_id": 34602, "image_id": "003a8ae2ef43b901", "question": "...", "answers": [10
texts]}]}, and a folder of image_id.jpg (train_images). Singh et al., CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.image_folder import image_folder


class _Entry(msgspec.Struct, frozen=True, gc=False):
    question_id: int
    image_id: str
    question: str
    answers: list[str] = []


class _File(msgspec.Struct, frozen=True):
    data: list[_Entry]


def read_textvqa(file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0) -> list[Example]:
    """The questions in the file's order; an example's id is its question_id. Score them by `vqa`.

    images: the folder; unless given, train_images, test_images or images beside the file, or its own.
    Raises LaptimeError with file and question: not this format, an id used twice, an image that isn't there.
    """
    entries = decode(read_bytes(file), _File, str(file), "TextVQA's questions").data
    ids = [str(entry.question_id) for entry in entries]
    if not entries or len(set(ids)) < len(ids):
        what = "a question_id is used twice" if entries else "holds no question"
        raise LaptimeError(f"{file}: {what}; name one of TextVQA's files")
    picked = pick(entries, ids, samples, seed)
    names = [f"{entry.image_id}.jpg" for entry in picked]
    folder = image_folder(file, images, ["train_images", "test_images", "images", "."], names)
    examples = []
    for entry, name in zip(picked, names, strict=True):
        place = f"{file}: question_id {entry.question_id}"
        path = folder.find([name])
        if path is None:
            raise LaptimeError(f"{place}: no image {name} in {folder.folder}; add it, or name its folder")
        question = f"{entry.question.strip()} Answer with one word or a short phrase."
        examples.append(Example(str(entry.question_id), question, path, tuple(entry.answers), place))
    return examples
