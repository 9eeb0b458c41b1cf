"""MME: two yes-no questions about each image, a folder for each of its 14 subtasks. No torch.

The release as it is unpacked: a subtask's folder holds 0006.jpg and 0006.txt side by side, or in `images` and
`questions_answers_YN`. A text has lines of a question, a tab and Yes or No. Fu et al., arXiv 2306.13394.
"""

from __future__ import annotations

from pathlib import Path

from laptime.errors import LaptimeError
from laptime.workload.example import Example, pick, read_bytes

IMAGES = (".jpg", ".png", ".jpeg")


def is_mme(folder: Path) -> bool:
    """Whether a folder looks like MME's, or like one of its subtasks."""
    return any(_texts(place) for place in (folder, *_subfolders(folder)))


def read_mme(folder: Path, *, samples: int | None = None, seed: int = 0) -> list[Example]:
    """All questions of all subtasks below a folder. An id is subtask, image and 1 or 2: "OCR-0006.1".

    So the type of a question is its subtask. Both questions of an image stand beside each other, for MME's accuracy+.
    Raises LaptimeError with the file: no image beside a text, a line that isn't a question, a tab and yes or no.
    """
    subtasks = [folder] if _texts(folder) else _subfolders(folder)
    examples = [example for subtask in subtasks for text in _texts(subtask) for example in _questions(subtask, text)]
    if not examples:
        raise LaptimeError(f"{folder}: holds none of MME's subtasks (a folder of NAME.txt beside NAME.jpg)")
    return pick(examples, [example.id for example in examples], samples, seed)


def _subfolders(folder: Path) -> list[Path]:
    return [one for one in sorted(folder.iterdir()) if one.is_dir()]


def _texts(subtask: Path) -> list[Path]:
    for place in (subtask / "questions_answers_YN", subtask):
        texts = sorted(place.glob("*.txt")) if place.is_dir() else []
        if any(_image(subtask, text) is not None for text in texts):
            return texts
    return []


def _image(subtask: Path, text: Path) -> Path | None:
    paths = [place / f"{text.stem}{end}" for place in (subtask / "images", text.parent) for end in IMAGES]
    return next((path for path in paths if path.is_file()), None)


def _questions(subtask: Path, text: Path) -> list[Example]:
    image = _image(subtask, text)
    if image is None:
        raise LaptimeError(f"{text}: no image {text.stem}.jpg or .png beside it or in {subtask / 'images'}; add it")
    examples: list[Example] = []
    for number, line in enumerate(read_bytes(text).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        question, tab, answer = line.rpartition("\t")
        if not tab or answer.strip().lower() not in ("yes", "no"):
            raise LaptimeError(f"{text}:{number}: must be a question, a tab, and Yes or No (found {line[:60]!r})")
        name = f"{subtask.name}-{text.stem.replace('-', '_')}.{len(examples) + 1}"
        examples.append(Example(name, question.strip(), image, (answer.strip().lower(),), f"{text}:{number}"))
    return examples
