"""Questions about images from a JSONL file. No torch.

One object a line: {"image": "path", "question": "text"}, with optional "id", "answer" (one or a list) and "choices"
(then "answer" is the right one's letter, its place from 0, or its text). Instead of "image" there can be "images" (a
list), "video" (a file, or a folder of frames) or "audio" (the question may then be left out). Local files only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from laptime.data.outside import is_there, read_regular
from laptime.errors import LaptimeError
from laptime.workload.example import LETTERS, Example


def read_jsonl(path: Path | str, images: Path | str | None = None) -> list[Example]:
    """All examples of the file, in its order; empty lines are skipped.

    images: the folder that image paths are relative to; the file's own unless given.

    Raises LaptimeError that names file and line: not JSON, not an object, no question, an image that isn't there or
    isn't local, an answer that is none of the choices, an id used twice, or a file without any example.
    """
    path = Path(path)
    folder = path.parent if images is None else Path(images)
    try:
        lines = read_regular(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LaptimeError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise LaptimeError(f"{path}: can't be read: {error.strerror}") from None
    examples = [
        _example(line, number, folder, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not examples:
        raise LaptimeError(f"{path}: holds no example (one JSON object a line, with question and image)")
    first: dict[str, str] = {}
    for example in examples:
        if example.id in first:
            raise LaptimeError(f"{example.place}: id {example.id!r} was used before, at {first[example.id]}")
        first[example.id] = example.place
    return examples


def _example(line: str, number: int, folder: Path, place: str) -> Example:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:  # a whole number of 5,000 digits is a ValueError
        what = getattr(error, "msg", "nested too deep, or a number too long")
        raise LaptimeError(f"{place}: not JSON: {what} (column {getattr(error, 'colno', 1)})") from None
    if not isinstance(entry, dict):
        raise LaptimeError(f"{place}: must be a JSON object, not {type(entry).__name__}")
    question = entry.get("question", "" if entry.get("audio") is not None else None)
    if not isinstance(question, str) or not (question.strip() or entry.get("audio") is not None):
        raise LaptimeError(f"{place}: 'question' must be text that isn't empty")
    name = entry.get("id", f"{number:04d}")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise LaptimeError(f"{place}: 'id' must be text or a whole number")
    if any("\ud800" <= letter <= "\udfff" for letter in str(name)):
        raise LaptimeError(f"{place}: 'id' holds half a character (a lone surrogate); write it anew")
    choices = _choices(entry.get("choices"), place)
    images = _image_paths(entry, folder, place)
    right = _right_choice(entry.get("answer"), choices, place) if choices else None
    return Example(
        id=str(name),
        question=question,
        image=images[0] if images else None,
        answers=_answers(entry.get("answer"), place) if not choices else () if right is None else (choices[right],),
        place=place,
        choices=choices,
        answer_index=right,
        images=images if len(images) > 1 else (),
        video=_media_path(entry.get("video"), "video", folder, place),
        sound=_media_path(entry.get("audio"), "audio", folder, place),
    )


def _image_paths(entry: dict[str, Any], folder: Path, place: str) -> tuple[Path, ...]:
    several = entry.get("images")
    if several is None:
        path = _media_path(entry.get("image"), "image", folder, place)
        return () if path is None else (path,)
    if entry.get("image") is not None:
        raise LaptimeError(f"{place}: has 'image' and 'images'; name all of them in 'images'")
    if not isinstance(several, list):
        raise LaptimeError(f"{place}: 'images' must be a list of the paths of image files")
    paths = [_media_path(value, "image", folder, place) for value in several]
    if None in paths:
        raise LaptimeError(f"{place}: 'images' must be a list of the paths of image files")
    return tuple(path for path in paths if path is not None)


def _media_path(value: Any, kind: str, folder: Path, place: str) -> Path | None:
    if value is None:
        return None
    article = "an" if kind[0] in "ai" else "a"
    if not isinstance(value, str) or not value or "\0" in value:
        raise LaptimeError(f"{place}: {kind!r} must be the path of {article} {kind} file")
    if "://" in value or value.startswith("data:"):
        raise LaptimeError(f"{place}: {kind} {value[:60]!r} is no local file; save it and name its path")
    path = folder / value
    if not is_there(path) or not (path.is_file() or (kind == "video" and path.is_dir())):
        raise LaptimeError(
            f"{place}: no {kind} file at {str(path)!r}; correct the path, or the folder it is relative to"
        )
    return path


def _answers(value: Any, place: str) -> tuple[str, ...]:
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values):
        raise LaptimeError(f"{place}: 'answer' must be text, a number, or a list of them")
    return tuple(str(v) for v in values)


def _choices(value: Any, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    choices = _answers(value, place) if isinstance(value, list) else ()
    if not 2 <= len(choices) <= len(LETTERS) or len(set(choices)) < len(choices) or not all(c.strip() for c in choices):
        raise LaptimeError(f"{place}: 'choices' must be a list of 2 to {len(LETTERS)} different texts")
    return choices


def _right_choice(answer: Any, choices: tuple[str, ...], place: str) -> int | None:
    if answer is None:
        return None
    last = LETTERS[len(choices) - 1]
    means = f"one of the choices: its letter (A to {last}), its place (0 to {len(choices) - 1}) or its text"
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    text = answer if isinstance(answer, str) else None
    readings = set()
    if text in choices:
        readings.add(choices.index(text))
    if text is not None and len(text) == 1 and text in LETTERS[: len(choices)]:
        readings.add(LETTERS.index(text))
    if len(readings) > 1:
        raise LaptimeError(f"{place}: 'answer' {text!r} is a choice's letter and another one's text; give its place")
    if not readings:
        raise LaptimeError(f"{place}: 'answer' {str(answer)[:40]!r} must be {means}")
    return readings.pop()
