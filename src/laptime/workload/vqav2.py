"""VQAv2: a file of questions, a file of ten people's answers to each, a folder of COCO's images. No torch.

The files of visualqa.org as they are: v2_OpenEnded_mscoco_val2014_questions.json,
v2_mscoco_val2014_annotations.json, val2014/COCO_val2014_000000262148.jpg. Goyal et al., CVPR 2017.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.image_folder import ImageFolder, coco_names, image_folder


class _QuestionEntry(msgspec.Struct, frozen=True, gc=False):
    """One question about one image."""

    question_id: int
    image_id: int
    question: str


class _QuestionFile(msgspec.Struct, frozen=True):
    """The file of questions."""

    questions: list[_QuestionEntry]
    data_subtype: str | None = None


class _AnswerEntry(msgspec.Struct, frozen=True, gc=False):
    """What one person said."""

    answer: str


class _AnnotationEntry(msgspec.Struct, frozen=True, gc=False):
    """All answers to one question. They stay undecoded: of 2 million only the picked questions' are needed."""

    question_id: int
    image_id: int
    answers: msgspec.Raw


class _AnnotationFile(msgspec.Struct, frozen=True):
    """The file of answers."""

    annotations: list[_AnnotationEntry]


def read_vqav2(
    questions: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> list[Example]:
    """The questions with their answers and images, in the file's order; `samples` of them (laptime.workload.example).

    annotations: the file of answers; unless given, the one beside the questions by visualqa.org's names, and without
    one the questions have no answers. images: the folder; unless given, the subset's name (val2014), `images` or the
    file's own folder, there or one above. An example's id is its question_id. Image files are looked for only for the
    questions that were picked.

    Raises LaptimeError that names file and question: not these formats, a question_id used twice, a question without
    an annotation or an annotation without a question, another image in the two, an image that isn't there.
    """
    asked = decode(read_bytes(questions), _QuestionFile, str(questions), "VQA questions")
    if not asked.questions:
        raise LaptimeError(f"{questions}: holds no question; name the file of questions")
    _check_ids(questions, asked.questions)
    answers_file = annotations or _beside(questions)
    picked = pick(asked.questions, [str(q.question_id) for q in asked.questions], samples, seed)
    answers = {} if answers_file is None else _answers(answers_file, questions, asked.questions, picked)
    folder = _folder(questions, images, asked)
    return [
        Example(
            id=str(q.question_id),
            question=q.question,
            image=_image(folder, q, asked.data_subtype, questions),
            answers=answers.get(q.question_id, ()),
            place=_place(questions, q.question_id),
        )
        for q in picked
    ]


def _check_ids(file: Path, questions: list[_QuestionEntry]) -> None:
    seen: set[int] = set()
    for q in questions:
        if q.question_id in seen:
            raise LaptimeError(f"{_place(file, q.question_id)}: used by two questions; remove one")
        if not q.question.strip():
            raise LaptimeError(f"{_place(file, q.question_id)}: 'question' is empty; fill it or remove the entry")
        seen.add(q.question_id)


def _beside(questions: Path) -> Path | None:
    """visualqa.org's name of the answers to these questions, if that file is there."""
    name = questions.name.replace("OpenEnded_", "").replace("MultipleChoice_", "").replace("questions", "annotations")
    file = questions.with_name(name)
    return file if name != questions.name and file.is_file() else None


def _answers(
    file: Path, questions_file: Path, questions: list[_QuestionEntry], picked: list[_QuestionEntry]
) -> dict[int, tuple[str, ...]]:
    entries = decode(read_bytes(file), _AnnotationFile, str(file), "VQA annotations").annotations
    asked = {q.question_id: q.image_id for q in questions}
    by_id: dict[int, _AnnotationEntry] = {}
    for a in entries:
        if a.question_id not in asked:
            place = _place(file, a.question_id)
            raise LaptimeError(f"{place}: no such question in {questions_file}; name the annotations of that file")
        if a.image_id != asked[a.question_id]:
            raise LaptimeError(
                f"{_place(file, a.question_id)}: about image {a.image_id}, the question about {asked[a.question_id]}; "
                f"name the annotations of {questions_file}"
            )
        if a.question_id in by_id:
            raise LaptimeError(f"{_place(file, a.question_id)}: annotated twice; remove one")
        by_id[a.question_id] = a
    for q in questions:
        if q.question_id not in by_id:
            raise LaptimeError(f"{file}: no annotation for question_id {q.question_id} of {questions_file}; add it")
    return {
        q.question_id: tuple(
            answer.answer
            for answer in decode(
                by_id[q.question_id].answers, list[_AnswerEntry], _place(file, q.question_id), "answers"
            )
        )
        for q in picked
    }


def _folder(questions: Path, given: Path | None, asked: _QuestionFile) -> ImageFolder:
    subset = asked.data_subtype
    named = [name for name in (subset, f"images/{subset}" if subset else None, "images", ".") if name]
    first = asked.questions[: 1 if given else 100]  # of a few images kept on this machine, one may be among these
    names = [name for q in first for name in coco_names(q.image_id, subset)]
    return image_folder(questions, given, [*named, *(f"../{name}" for name in named)], names)


def _image(folder: ImageFolder, q: _QuestionEntry, subset: str | None, questions: Path) -> Path:
    names = coco_names(q.image_id, subset)
    image = folder.find(names)
    if image is None:
        raise LaptimeError(
            f"{_place(questions, q.question_id)}: no image {names[0]} in {folder.folder}; add it, or name the folder "
            "that holds it"
        )
    return image


def _place(file: Path, question_id: int) -> str:
    return f"{file}: question_id {question_id}"
