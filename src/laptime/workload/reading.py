"""Any data set by its path: JSON lines, VQAv2 or COCO, recognised by its content. Local files only; no torch."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.workload.coco import read_coco
from laptime.workload.example import Example, decode, pick, read_bytes
from laptime.workload.jsonl import read_jsonl
from laptime.workload.sets.gqa import read_gqa
from laptime.workload.sets.mmbench import is_mmbench, read_mmbench
from laptime.workload.sets.mme import is_mme, read_mme
from laptime.workload.sets.pope import read_pope
from laptime.workload.sets.scienceqa import read_scienceqa
from laptime.workload.sets.textvqa import read_textvqa
from laptime.workload.vqav2 import read_vqav2

FORMATS = (
    "JSON lines of {image, question, answer}, VQAv2's questions (v2_OpenEnded_mscoco_val2014_questions.json), COCO's "
    "captions (captions_val2017.json), or the published files of GQA, TextVQA, ScienceQA, POPE, MMBench (TSV) or MME "
    "(a folder)"
)


class _Head(msgspec.Struct):
    questions: msgspec.Raw = msgspec.Raw()
    images: msgspec.Raw = msgspec.Raw()
    annotations: msgspec.Raw = msgspec.Raw()
    question: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _AnyEntry(msgspec.Struct):
    """An entry of a file that is an object of entries by their ids."""

    imageId: msgspec.Raw = msgspec.Raw()  # noqa: N815 - GQA's own name
    choices: msgspec.Raw = msgspec.Raw()


SETS = {
    "gqa": read_gqa,
    "textvqa": read_textvqa,
    "scienceqa": read_scienceqa,
    "pope": read_pope,
    "mmbench": read_mmbench,
}


def read_examples(
    data: Path | str,
    *,
    annotations: Path | str | None = None,
    images: Path | str | None = None,
    samples: int | None = None,
    seed: int = 0,
    need_images: bool = False,
) -> list[Example]:
    """The questions of a data set, in its order: all, or `samples` of them (laptime.workload.example).

    Args:
        data: a file, or a folder that holds one file of questions (FORMATS).
        annotations: VQAv2's answers; unless given, looked for beside the questions.
        images: the folder of the images; unless given, looked for beside the file, for JSONL the file's own.
        samples, seed: how many, and which: the same ids on every machine and worker.
        need_images: refuse a question without an image.

    Raises LaptimeError, one line with file, place (line, question_id or image id) and mend.
    """
    if Path(data).is_dir() and is_mme(Path(data)):
        if annotations is not None or images is not None:
            raise LaptimeError(f"{data}: MME's folder holds its answers and images itself; leave out the other paths")
        return read_mme(Path(data), samples=samples, seed=seed)
    file = _file(Path(data))
    folder = None if images is None else Path(images)
    answers = None if annotations is None else Path(annotations)
    if folder is not None and not folder.is_dir():
        raise LaptimeError(f"{folder}: no such folder of images; correct 'images'")
    kind = _kind(file)
    if answers is not None and kind != "vqav2":
        raise LaptimeError(f"{file}: 'annotations' belong to VQAv2's questions; this file holds its answers itself")
    if kind == "vqav2":
        return read_vqav2(file, annotations=answers, images=folder, samples=samples, seed=seed)
    if kind == "coco":
        return read_coco(file, images=folder, samples=samples, seed=seed)
    if kind in SETS:
        return SETS[kind](file, images=folder, samples=samples, seed=seed)
    examples = read_jsonl(file, folder)
    for example in examples if need_images else ():
        if example.image is None:
            raise LaptimeError(f"{example.place}: has no 'image', and every question needs one here; add it")
    return pick(examples, [example.id for example in examples], samples, seed)


def _kind(file: Path) -> str:
    content = read_bytes(file)
    first = content.split(b"\n", 1)[0]
    if is_mmbench(first):
        return "mmbench"
    if _is_pope(first):
        return "pope"
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return "jsonl"
    try:
        head = msgspec.json.decode(content, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:  # one object a line is no JSON file as a whole
            msgspec.json.decode(first, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decode(content, _Head, str(file), FORMATS)
        return "jsonl"
    if head.data:
        return "textvqa"
    if head.questions:
        return "vqav2"
    if head.images:
        return "coco"
    if head.question:
        return "jsonl"
    if head.annotations:
        raise LaptimeError(f"{file}: holds VQAv2's answers; name the file of questions, and this one as 'annotations'")
    if (kind := _by_entries(content)) is not None:
        return kind
    raise LaptimeError(f"{file}: no data set that laptime knows: {FORMATS}")


def _holds_questions(file: Path) -> bool:
    try:
        _kind(file)
    except LaptimeError:
        return False
    return True


def _by_entries(content: bytes) -> str | None:
    """GQA or ScienceQA, by the first entry of an object of entries; None for another file."""
    try:
        entries = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
        first = msgspec.json.decode(next(iter(entries.values()), b"{}"), type=_AnyEntry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return "gqa" if first.imageId else "scienceqa" if first.choices else None


def _is_pope(first: bytes) -> bool:
    try:
        line = msgspec.json.decode(first, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return {"question_id", "image", "text", "label"} <= set(line)


def _file(data: Path) -> Path:
    """The file itself, or the one file of questions in a folder."""
    if not data.is_dir():
        if not data.exists():
            raise LaptimeError(f"{data}: no such file; name {FORMATS}")
        return data
    names = [file for file in sorted(data.iterdir()) if file.suffix.lower() in (".json", ".jsonl", ".ndjson", ".tsv")]
    likely = [file for file in names if file.suffix != ".json" or "questions" in file.name] or names
    if len(likely) > 1:  # what stands beside the questions (answers, splits, captions) holds none
        likely = [file for file in likely if _holds_questions(file)] or likely
    if len(likely) != 1:
        files = f"{len(likely)} files it may be ({', '.join(f.name for f in likely[:4])})" if likely else "none"
        raise LaptimeError(f"{data}: which file holds the questions? {files}; name the file")
    return likely[0]
