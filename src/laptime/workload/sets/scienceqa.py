"""ScienceQA: multiple choice from school books, some with an image. problems.json and its folders. No torch.

An object of {"id": {"question", "choices": [...], "answer": 0, "hint", "image": "image.png" or null, "split"}}; an
image is SPLIT/ID/image.png below the file, `images` or the folder that is named. Lu et al., NeurIPS 2022.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import LETTERS, Example, decode, pick, read_bytes


class _Problem(msgspec.Struct, frozen=True, gc=False):
    question: str
    choices: list[str]
    answer: int
    split: str = "test"
    hint: str = ""
    image: str | None = None


def read_scienceqa(
    file: Path, *, images: Path | None = None, samples: int | None = None, seed: int = 0, split: str = "test"
) -> list[Example]:
    """The problems of one split; an example's id is the problem's key. Score them by `choice`.

    A hint stands before the question. Raises LaptimeError with file and problem: not this format, an answer that is no
    place among the choices, an image that isn't there.
    """
    problems = decode(read_bytes(file), dict[str, _Problem], str(file), "ScienceQA's problems by their ids")
    own = {key: problem for key, problem in problems.items() if problem.split == split} or problems
    if not own:
        raise LaptimeError(f"{file}: holds no problem; name ScienceQA's problems.json")
    return [_example(file, images, key, own[key]) for key in pick(list(own), list(own), samples, seed)]


def _example(file: Path, images: Path | None, key: str, problem: _Problem) -> Example:
    place = f"{file}: problem {key}"
    if not 2 <= len(problem.choices) <= len(LETTERS) or not 0 <= problem.answer < len(problem.choices):
        raise LaptimeError(f"{place}: answer {problem.answer} of {len(problem.choices)} choices; it can't be asked")
    image = None
    if problem.image:
        below = [file.parent, file.parent / "images"] if images is None else [images]
        paths = [place_ / problem.split / key / problem.image for place_ in below]
        image = next((path for path in paths if path.is_file()), None)
        if image is None:
            raise LaptimeError(f"{place}: no image {paths[0]}; add it, or name the folder above {problem.split}")
    hint = f"{problem.hint.strip()}\n" if problem.hint.strip() else ""
    return Example(
        id=key,
        question=f"{hint}{problem.question.strip()}",
        image=image,
        answers=(problem.choices[problem.answer],),
        place=place,
        choices=tuple(problem.choices),
        answer_index=problem.answer,
    )
