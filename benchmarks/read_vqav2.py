"""How long it takes to read VQAv2's validation set, beside json.load of the same files.

Files of visualqa.org's shape and size (214,354 questions, ten answers each, 40,504 images) are made in a temporary
folder; the images are empty files, since readers only look for their names.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from laptime.workload.reading import read_examples
from recorded import record

WORDS = (
    "yes",
    "no",
    "2",
    "red",
    "blue",
    "a dog",
    "frisbee",
    "none",
    "tennis racket",
    "well-known",
    "man's hat",
    "left",
)


def write_set(folder: Path, questions: int, images: int) -> tuple[Path, Path]:
    """VQAv2's two files and its image folder, with as many entries."""
    draw = random.Random(0)
    ids = [139 + 14 * number for number in range(images)]
    (folder / "val2014").mkdir()
    for image_id in ids:
        (folder / "val2014" / f"COCO_val2014_{image_id:012d}.jpg").touch()
    asked, annotated = [], []
    for number in range(questions):
        image_id = ids[number * images // questions]
        question_id = image_id * 1000 + number % 10 + 10 * (number // 10 % 10)
        asked.append({"image_id": image_id, "question": "What is on the table?", "question_id": question_id})
        said = [
            {"answer": draw.choice(WORDS), "answer_confidence": "yes", "answer_id": place} for place in range(1, 11)
        ]
        annotated.append(
            {
                "question_type": "what is",
                "multiple_choice_answer": said[0]["answer"],
                "answers": said,
                "image_id": image_id,
                "answer_type": "other",
                "question_id": question_id,
            }
        )
    common = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    question_file = folder / "v2_OpenEnded_mscoco_val2014_questions.json"
    answer_file = folder / "v2_mscoco_val2014_annotations.json"
    question_file.write_text(json.dumps({**common, "task_type": "Open-Ended", "questions": asked}))
    answer_file.write_text(json.dumps({**common, "annotations": annotated}))
    return question_file, answer_file


def timed(what: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        gc.collect()
        start = perf_counter()
        what()
        seconds.append(perf_counter() - start)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=214_354)
    parser.add_argument("--images", type=int, default=40_504)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        questions, answers = write_set(Path(name), options.questions, options.images)
        megabytes = (questions.stat().st_size + answers.stat().st_size) / 1e6
        figures: dict[str, Any] = {"questions": options.questions, "megabytes": round(megabytes, 1)}
        ways: dict[str, Callable[[], Any]] = {
            "json.load of both files": lambda: [json.loads(file.read_bytes()) for file in (questions, answers)],
            "read_examples, all": lambda: read_examples(questions),
            "read_examples, samples=1000": lambda: read_examples(questions, samples=1000),
        }
        print(f"{options.questions:,} questions, {megabytes:.0f} MB")
        peer = None
        for way, what in ways.items():
            seconds = timed(what, options.repeats)
            peer = peer or seconds
            figures[way] = {"seconds": round(seconds, 3), "of_peer": round(seconds / peer, 3)}
            print(f"{way:30} {seconds:7.2f} s   x {seconds / peer:.2f}")
    print(record("read_vqav2", figures, {"python": platform.python_version(), "platform": platform.platform()}).name)


if __name__ == "__main__":
    main()
