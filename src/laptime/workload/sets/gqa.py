"""GQA: questions about scenes, one right answer each: testdev_balanced_questions.json and its like. No torch.

An object of {"question id": {"imageId": "n161313", "question": "...", "answer": "no", ...}}, and a folder of
n161313.jpg. Hudson and Manning, CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.image_folder import image_folder


class _Entry(msgspec.Struct, frozen=True, gc=False):
    imageId: str  # noqa: N815 - the file's own name
    question: str
    answer: str | None = None


def read_gqa(file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0) -> list[Example]:
    """The questions in the file's order; an example's id is the file's key.

    images: the folder; unless given, `images` beside the file or one above, or the file's own.
    Raises LaptimeError with file and question: not this format, an image that isn't there.
    """
    entries = decode(read_bytes(file), dict[str, _Entry], str(file), "GQA's questions by their ids")
    if not entries:
        raise LaptimeError(f"{file}: holds no question; name GQA's file of questions")
    picked = pick(list(entries.items()), list(entries), samples, seed)
    names = [f"{entry.imageId}.jpg" for _, entry in picked]
    folder = image_folder(file, images, ["images", "../images", "."], names)
    examples = []
    for (key, entry), name in zip(picked, names, strict=True):
        place = f"{file}: question {key}"
        path = folder.find([name])
        if path is None:
            raise LaptimeError(f"{place}: no image {name} in {folder.folder}; add it, or name its folder")
        answers = () if entry.answer is None else (entry.answer,)
        question = f"{entry.question.strip()} Answer with one word or a short phrase."
        examples.append(Example(key, question, path, answers, place))
    return examples
