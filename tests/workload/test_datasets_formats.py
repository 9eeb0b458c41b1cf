"""VQAv2's and COCO's files, JSONL with choices, and the door that tells them apart: real files, every fault named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.workload.datasets import inputs_from_example
from laptime.workload.example import pick
from laptime.workload.images import synthetic_image
from laptime.workload.reading import read_examples
from laptime.workload.scoring import check_scorable, score
from tests.workload.families import loaded

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


def questions() -> dict[str, Any]:
    return {
        "info": {"version": "2.0"},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "data_subtype": "val2014",
        "questions": [
            {"image_id": 262148, "question": "Where is he looking?", "question_id": 262148000},
            {"image_id": 262148, "question": "What color is it?", "question_id": 262148001},
            {"image_id": 42, "question": "How many?", "question_id": 42000},
        ],
    }


def annotations() -> dict[str, Any]:
    return {
        "data_subtype": "val2014",
        "annotations": [
            {
                "question_id": question["question_id"],
                "image_id": question["image_id"],
                "question_type": "what",
                "answer_type": "other",
                "multiple_choice_answer": "down",
                "answers": [
                    {"answer": f"{question['question_id'] % 10}", "answer_confidence": "yes", "answer_id": n}
                    for n in range(1, 11)
                ],
            }
            for question in reversed(questions()["questions"])
        ],
    }


def picture(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    synthetic_image(40, 30, 1).save(folder / name)


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def vqa(tmp_path: Path) -> Path:
    write(tmp_path / QUESTIONS, questions())
    write(tmp_path / ANNOTATIONS, annotations())
    for image_id in (262148, 42):
        picture(tmp_path / "val2014", f"COCO_val2014_{image_id:012d}.jpg")
    return tmp_path


def refused(*args: Any, **options: Any) -> str:
    with pytest.raises(LaptimeError) as raised:
        read_examples(*args, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


# VQAv2


def test_vqav2_as_it_is_downloaded(vqa: Path) -> None:
    first, second, third = read_examples(vqa / QUESTIONS)
    assert (first.id, first.question) == ("262148000", "Where is he looking?")
    assert first.image == vqa / "val2014" / "COCO_val2014_000000262148.jpg"
    assert (first.answers, second.answers, third.answers) == (("0",) * 10, ("1",) * 10, ("0",) * 10)
    assert third.place == f"{vqa / QUESTIONS}: question_id 42000"
    assert read_examples(vqa) == [first, second, third]  # the folder, too
    assert score("vqa", "Zero.", first) == 1


def test_vqav2_files_in_other_places(vqa: Path, tmp_path: Path) -> None:
    answers = (vqa / ANNOTATIONS).rename(write(tmp_path / "elsewhere" / "x", "").with_name("a.json"))
    pictures = (vqa / "val2014").rename(tmp_path / "pictures")
    assert "none of its images is in" in refused(vqa / QUESTIONS)
    without = read_examples(vqa / QUESTIONS, images=pictures)
    assert [example.answers for example in without] == [(), (), ()]
    with pytest.raises(LaptimeError, match=r"question_id 262148000: score 'vqa' needs an answer"):
        check_scorable("vqa", without)
    examples = read_examples(vqa / QUESTIONS, images=pictures, annotations=answers)
    assert [len(example.answers) for example in examples] == [10, 10, 10]


def test_vqav2_becomes_inputs(vqa: Path) -> None:
    inputs = inputs_from_example(loaded("llava_next"), read_examples(vqa)[0])
    assert inputs.images == 1


def entry(of: str, number: int, **changes: Any) -> Callable[[Path], None]:
    """A change to one entry of a file; a value of None takes the field out."""

    def change(folder: Path) -> None:
        name, key = (QUESTIONS, "questions") if of == "question" else (ANNOTATIONS, "annotations")
        value = json.loads((folder / name).read_text())
        value[key][number].update(changes)
        value[key][number] = {k: v for k, v in value[key][number].items() if v is not None}
        write(folder / name, value)

    return change


def without(of: str, number: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        name, key = (QUESTIONS, "questions") if of == "question" else (ANNOTATIONS, "annotations")
        value = json.loads((folder / name).read_text())
        del value[key][number]
        write(folder / name, value)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (entry("question", 1, question_id=42000), f"{QUESTIONS}: question_id 42000: used by two questions"),
        (entry("question", 1, question=" "), f"{QUESTIONS}: question_id 262148001: 'question' is empty"),
        (entry("question", 1, image_id=None), "Object missing required field `image_id` - at `$.questions[1]`"),
        (entry("question", 2, image_id=7), "question_id 42000: about image 42, the question about 7; name the anno"),
        (entry("annotation", 2, question_id=9), f"{ANNOTATIONS}: question_id 9: no such question"),
        (entry("annotation", 0, question_id=262148001, image_id=262148), "question_id 262148001: annotated twice"),
        (without("annotation", 0), f"{ANNOTATIONS}: no annotation for question_id 42000"),
        (without("question", 2), f"{ANNOTATIONS}: question_id 42000: no such question"),
        (entry("annotation", 0, answers=[{"answer": 5}]), f"{ANNOTATIONS}: question_id 42000: not answers: Expected"),
        (entry("annotation", 0, answers=None), "missing required field `answers`"),
        (lambda f: write(f / QUESTIONS, {"questions": []}), "holds no question"),
        (lambda f: write(f / ANNOTATIONS, "{"), f"{ANNOTATIONS}: not VQA annotations: Input data was truncated"),
        (
            lambda f: (f / "val2014" / "COCO_val2014_000000000042.jpg").unlink(),
            "question_id 42000: no image COCO_val2014_000000000042.jpg in ",
        ),
    ],
)
def test_a_fault_in_vqav2_is_named(vqa: Path, change: Callable[[Path], Any], says: str) -> None:
    change(vqa)
    message = refused(vqa / QUESTIONS)
    assert message.startswith(str(vqa))
    assert says in message


def test_annotations_given_as_the_questions(vqa: Path) -> None:
    assert "name the file of questions" in refused(vqa / ANNOTATIONS)


# COCO


def captions() -> dict[str, Any]:
    return {
        "images": [{"id": 139, "file_name": "000000000139.jpg"}, {"id": 285}],
        "annotations": [
            {"id": 1, "image_id": 285, "caption": "A bear."},
            {"id": 2, "image_id": 139, "caption": "A room."},
            {"id": 3, "image_id": 139, "caption": "A living room."},
        ],
    }


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    for image_id in (139, 285):
        picture(tmp_path / "val2017", f"{image_id:012d}.jpg")
    return write(tmp_path / "annotations" / "captions_val2017.json", captions())


def test_coco_as_it_is_downloaded(coco: Path) -> None:
    room, bear = read_examples(coco)
    assert (room.id, room.answers) == ("139", ("A room.", "A living room."))
    assert (bear.id, bear.answers) == ("285", ("A bear.",))
    assert bear.image is not None
    assert bear.image.resolve() == coco.parents[1] / "val2017" / "000000000285.jpg"
    assert bear.question.startswith("Describe")


def test_coco_boxes_are_images_without_answers(coco: Path) -> None:
    boxes = {"images": captions()["images"], "annotations": [{"id": 1, "image_id": 139, "bbox": [0, 0, 1, 1]}]}
    file = write(coco.with_name("instances_val2017.json"), boxes)
    assert [example.answers for example in read_examples(file)] == [(), ()]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value["images"].append({"id": 139}), "image id 139: used twice"),
        (lambda value: value["images"].pop(), "an annotation of image id 285, which 'images' doesn't list"),
        (lambda value: value.update(images=[]), "lists no image"),
        (
            lambda value: value["images"].append({"id": 3, "file_name": "a\nb.jpg"}),
            "image id 3: no image 'a\\nb.jpg' in",
        ),
        (lambda value: value["images"].append({"id": "x"}), "not a COCO file of images and captions: Expected `int`"),
    ],
)
def test_a_fault_in_coco_is_named(coco: Path, change: Callable[[dict[str, Any]], Any], says: str) -> None:
    value = captions()
    change(value)
    assert says in refused(write(coco, value))


# JSONL


def test_choices(tmp_path: Path) -> None:
    lines = [
        {"question": "Which?", "choices": ["a cat", "a dog"], "answer": answer} for answer in ("B", 1, "a dog", None)
    ]
    path = write(tmp_path / "q.jsonl", "\n".join(json.dumps(line) for line in lines))
    *known, unknown = read_examples(path)
    assert [(e.answer_index, e.answers) for e in known] == [(1, ("a dog",))] * 3
    assert (unknown.answer_index, unknown.answers) == (None, ())
    assert known[0].prompt.splitlines()[:3] == ["Which?", "A. a cat", "B. a dog"]
    assert score("choice", "B", known[1]) == 1
    model = loaded("llama")
    asked = inputs_from_example(model, known[0]).kwargs["input_ids"][0]
    assert "B. a dog" in model.tokenizer.decode(asked)


def test_numbers_as_answers_and_choices(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.jsonl", '{"question": "x", "answer": 7.5}\n{"question": "x", "choices": [3, 4], "answer": "4"}'
    )
    number, choice = read_examples(path)
    assert number.answers == ("7.5",)
    assert (choice.choices, choice.answer_index) == (("3", "4"), 1)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"choices": ["a", "b"], "answer": "C"}, "'answer' 'C' must be one of the choices: its letter (A to B)"),
        ({"choices": ["a", "b"], "answer": 2}, "its place (0 to 1)"),
        ({"choices": ["a", "b"], "answer": -1}, "its place (0 to 1)"),
        ({"choices": ["a", "b"], "answer": True}, "must be one of the choices"),
        ({"choices": ["a", "b"], "answer": ["a"]}, "must be one of the choices"),
        ({"choices": ["B", "A"], "answer": "A"}, "a choice's letter and another one's text; give its place"),
        ({"choices": ["a"]}, "'choices' must be a list of 2 to 26 different texts"),
        ({"choices": ["a", "a"]}, "different texts"),
        ({"choices": ["a", " "]}, "different texts"),
        ({"choices": "ab"}, "different texts"),
        ({"choices": [str(n) for n in range(27)]}, "2 to 26"),
        ({"answer": True}, "'answer' must be text, a number"),
        ({"image": "none\nsuch.png"}, "no image file at"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: dict[str, Any], says: str) -> None:
    path = write(tmp_path / "q.jsonl", '{"question": "x"}\n' + json.dumps({"question": "x", **line}))
    message = refused(path)
    assert message.startswith(f"{path}:2: ")
    assert says in message


def test_a_line_without_an_image_where_one_is_needed(tmp_path: Path) -> None:
    picture(tmp_path / "pictures", "a.png")
    path = write(tmp_path / "q.jsonl", '{"question": "x", "image": "a.png"}\n\n{"question": "y"}')
    assert len(read_examples(path, images=tmp_path / "pictures")) == 2
    message = refused(path, images=tmp_path / "pictures", need_images=True)
    assert message == f"{path}:3: has no 'image', and every question needs one here; add it"


# the door


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", "[1, 2]", "x.json: not JSON lines of {image, question, answer}, VQAv2's questions"),
        ("x.json", "{}", "no data set that laptime knows: JSON lines"),
        ("x.json", "", "x.json: not JSON lines"),
        ("x.json", "[" * 100_000, "x.json: not JSON lines"),
        ("x.txt", "What?", "x.txt: not JSON lines"),
        ("x.jsonl", "", "holds no example"),
    ],
)
def test_a_file_of_no_known_format(tmp_path: Path, name: str, content: str, says: str) -> None:
    assert says in refused(write(tmp_path / name, content))


def test_files_and_folders_that_are_not_there(tmp_path: Path, vqa: Path) -> None:
    assert "no such file; name JSON lines" in refused(tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    assert "which file holds the questions? none" in refused(tmp_path / "empty")
    write(vqa / "more.jsonl", '{"question": "x"}')
    assert f"2 files it may be (more.jsonl, {QUESTIONS})" in refused(vqa)
    assert "no such folder of images" in refused(vqa / QUESTIONS, images=vqa / "nowhere")
    assert "can't be read" in refused(vqa / QUESTIONS, annotations=vqa / "nowhere.json")
    assert "'annotations' belong to VQAv2" in refused(vqa / "more.jsonl", annotations=vqa / ANNOTATIONS)


def test_json_lines_by_another_name(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", '{"question": "x"}')
    two = write(tmp_path / "two.txt", '{"question": "x"}\n{"question": "y"}\n')
    assert [len(read_examples(file)) for file in (one, two)] == [1, 2]


# which of them


def test_a_part_of_a_set_is_the_same_for_every_worker_and_order(vqa: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"question": f"q{n}", "id": f"id{n}"}) for n in range(200)]
    path = write(tmp_path / "q.jsonl", "\n".join(lines))
    some = [example.id for example in read_examples(path, samples=20)]
    assert len(some) == 20
    assert some == sorted(some, key=lambda name: int(name[2:]))  # the file's order
    assert some == [example.id for example in read_examples(path, samples=20)]
    turned = write(tmp_path / "turned.jsonl", "\n".join(reversed(lines)))
    assert {example.id for example in read_examples(turned, samples=20)} == set(some)
    assert {example.id for example in read_examples(path, samples=20, seed=1)} != set(some)
    assert set(some) < {example.id for example in read_examples(path, samples=40)}  # more keeps the fewer
    assert len(read_examples(path, samples=500)) == 200
    two = read_examples(vqa / QUESTIONS, samples=2)
    assert len(two) == 2
    assert all(len(example.answers) == 10 for example in two)


def test_a_picture_that_was_not_picked_need_not_be_there(vqa: Path) -> None:
    picked = read_examples(vqa / QUESTIONS, samples=1)
    for file in (vqa / "val2014").iterdir():
        if file != picked[0].image:
            file.unlink()
    assert read_examples(vqa / QUESTIONS, samples=1) == picked


@given(st.lists(st.text(max_size=5), unique=True, max_size=30), st.integers(0, 30), st.integers(0, 3))
def test_any_ids_are_picked_evenly_sized_and_nested(names: list[str], samples: int, seed: int) -> None:
    fewer, more = (pick(names, names, count, seed) for count in (samples, samples + 1))
    assert len(fewer) == min(samples, len(names))
    assert set(fewer) <= set(more)
    assert fewer == [name for name in names if name in set(fewer)]
