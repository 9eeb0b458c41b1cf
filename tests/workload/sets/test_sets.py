"""Published data sets in their published file formats, written anew here: read, scored, and every fault named."""

from __future__ import annotations

import base64
import io
import json
from math import exp
from pathlib import Path
from typing import Any

import pytest

from laptime.errors import LaptimeError
from laptime.workload.images import synthetic_image
from laptime.workload.reading import read_examples
from laptime.workload.scoring import score, scorer
from laptime.workload.scoring.cider import CaptionCorpus
from laptime.workload.scoring.yes_no import said


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    synthetic_image(16, 16, 0).save(path)


def mme(folder: Path) -> Path:
    """Two subtasks in the two layouts of the release."""
    picture(folder / "existence/0006.jpg")
    (folder / "existence/0006.txt").write_text("Is there a dog? Please answer yes or no.\tYes\nIs there a cat?\tNo\n")
    picture(folder / "OCR/images/a-1.png")
    (folder / "OCR/questions_answers_YN").mkdir()
    (folder / "OCR/questions_answers_YN/a-1.txt").write_text("Is the word cool?\tYes\nIs the word hot?\tNo")
    return folder


def pope(folder: Path) -> Path:
    name = "COCO_val2014_000000310196.jpg"
    picture(folder / "val2014" / name)
    asked = [("snowboard", "yes"), ("car", "no")]
    lines = [
        {"question_id": n, "image": name, "text": f"Is there a {what} in the image?", "label": label}
        for n, (what, label) in enumerate(asked, 1)
    ]
    file = folder / "coco_pope_random.json"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return file


def gqa(folder: Path) -> Path:
    picture(folder / "images/n161313.jpg")
    entry = {"imageId": "n161313", "question": "Is it overcast?", "answer": "no", "isBalanced": True, "groups": {}}
    other = {**entry, "question": "Who is it?", "answer": "girl"}
    file = folder / "testdev_balanced_questions.json"
    file.write_text(json.dumps({"201307251": entry, "201640614": other}))
    return file


def textvqa(folder: Path) -> Path:
    picture(folder / "train_images/003a8ae2ef43b901.jpg")
    entry = {"question_id": 34602, "image_id": "003a8ae2ef43b901", "question": "what brand?"}
    file = folder / "TextVQA_0.5.1_val.json"
    file.write_text(json.dumps({"dataset_name": "textvqa", "data": [{**entry, "answers": ["dakota"] * 10}]}))
    return file


def scienceqa(folder: Path) -> Path:
    picture(folder / "test/11/image.png")
    plain = {"question": "Which?", "choices": ["iron", "salt"], "answer": 1, "hint": "", "image": None, "split": "test"}
    with_image = {**plain, "image": "image.png", "hint": "Look.", "answer": 0}
    file = folder / "problems.json"
    file.write_text(json.dumps({"11": with_image, "12": plain, "13": {**plain, "split": "train"}}))
    return file


def mmbench(folder: Path) -> Path:
    buffer = io.BytesIO()
    synthetic_image(16, 16, 3).save(buffer, "JPEG")
    packed = base64.b64encode(buffer.getvalue()).decode()
    rows = [
        ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "l2-category", "split"],
        ["241", "Which one is red?", "nan", "left", "right", "", "", "A", "attribute", packed, "x", "dev"],
        ["1000241", "Which one is red?", "Look.", "right", "left", "up", "", "B", "attribute", "241", "x", "dev"],
    ]
    file = folder / "mmbench_dev_en.tsv"
    file.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return file


def test_mme_has_two_questions_an_image_and_its_subtask_as_type(tmp_path: Path) -> None:
    examples = read_examples(mme(tmp_path))
    assert [one.id for one in examples] == ["OCR-a_1.1", "OCR-a_1.2", "existence-0006.1", "existence-0006.2"]
    assert [one.answers for one in examples] == [("yes",), ("no",)] * 2
    assert [one.image.name for one in examples if one.image] == ["a-1.png"] * 2 + ["0006.jpg"] * 2
    assert score("yesno", "Yes, it is.", examples[0]) == 1
    assert len(read_examples(tmp_path / "OCR")) == 2


def test_pope(tmp_path: Path) -> None:
    yes, no = read_examples(pope(tmp_path))
    assert (yes.id, yes.answers, no.answers) == ("1", ("yes",), ("no",))
    assert yes.question == "Is there a snowboard in the image? Answer with yes or no."
    assert score("yesno", "There is no car in the image.", no) == 1
    assert score("yesno", "I can see the image.", yes) == 0


def test_gqa(tmp_path: Path) -> None:
    first, second = read_examples(gqa(tmp_path))
    assert (first.id, first.answers) == ("201307251", ("no",))
    assert second.image == tmp_path / "images/n161313.jpg"
    assert score("exact", "A girl.", second) == 1


def test_textvqa(tmp_path: Path) -> None:
    (one,) = read_examples(textvqa(tmp_path))
    assert (one.id, len(one.answers)) == ("34602", 10)
    assert score("vqa", "Dakota", one) == 1


def test_scienceqa(tmp_path: Path) -> None:
    with_image, plain = read_examples(scienceqa(tmp_path))
    assert (with_image.id, with_image.choices, with_image.answer_index) == ("11", ("iron", "salt"), 0)
    assert with_image.question == "Look.\nWhich?"
    assert plain.image is None
    assert score("choice", "B. salt", plain) == 1


def test_scienceqas_own_folder_is_read(tmp_path: Path) -> None:
    file = scienceqa(tmp_path)
    (tmp_path / "pid_splits.json").write_text(json.dumps({"test": ["11", "12"], "train": ["13"]}))
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"11": "a picture"}}))
    assert read_examples(tmp_path) == read_examples(file)
    (tmp_path / "again.json").write_text(file.read_text())
    with pytest.raises(LaptimeError, match=r"2 files it may be \(again.json, problems.json\)"):
        read_examples(tmp_path)


def test_mmbench_unpacks_its_images_and_rows_may_share_one(tmp_path: Path) -> None:
    first, second = read_examples(mmbench(tmp_path))
    assert (first.id, first.choices, first.answer_index) == ("attribute-241", ("left", "right"), 0)
    assert (second.choices, second.answer_index) == (("right", "left", "up"), 1)
    assert first.image is not None
    assert first.image == second.image
    assert first.image.read_bytes()[:2] == b"\xff\xd8"
    kept = tmp_path / "kept"
    kept.mkdir()
    read_examples(tmp_path / "mmbench_dev_en.tsv", images=kept)
    assert [file.name for file in kept.iterdir()] == ["241.jpg"]


@pytest.mark.parametrize("write", [mme, pope, gqa, textvqa, scienceqa, mmbench])
def test_some_of_the_questions_can_be_taken(tmp_path: Path, write: Any) -> None:
    data = write(tmp_path)
    every = [one.id for one in read_examples(data)]
    some = [one.id for one in read_examples(data, samples=1, seed=4)]
    assert len(some) == 1
    assert set(some) <= set(every)


@pytest.mark.parametrize(
    ("write", "old", "new", "says"),
    [
        (pope, '"label": "no"', '"label": "perhaps"', ":2: label 'perhaps'"),
        (pope, '"question_id": 2', '"question_id": 1', "question_id 1 is used twice"),
        (pope, "310196.jpg", "1.jpg", "no image"),
        (gqa, "n161313", "n1", "no image n1.jpg"),
        (textvqa, '"answers": ["dakota"', '"answers": ["dakota", 5', "TextVQA"),
        (textvqa, "003a8ae2ef43b901", "other", "other.jpg"),
        (scienceqa, '"answer": 0', '"answer": 7', "answer 7 of 2 choices"),
        (scienceqa, "image.png", "none.png", "no image"),
        (mmbench, "\tA\tattribute", "\tE\tattribute", "answer 'E' of 2 options"),
        (mmbench, "\t/9j/", "\t!!!!", "is no base64"),
        (mmbench, "\tattribute\t241\tx\tdev", "", "row 3 ends before its last column"),
        (mmbench, "\t241\tx\tdev", "\t\tx\tdev", "index 1000241: its image is no base64"),
        (mmbench, "\n1000241\t", "\n241\t", "index 241 is used twice"),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, write: Any, old: str, new: str, says: str) -> None:
    file = write(tmp_path)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(LaptimeError) as raised:
        read_examples(file)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_mmes_faults(tmp_path: Path) -> None:
    folder = mme(tmp_path)
    (folder / "existence/0006.txt").write_text("Is there a dog? Yes")
    with pytest.raises(LaptimeError, match=r"0006\.txt:1: must be a question, a tab, and Yes or No"):
        read_examples(folder)
    with pytest.raises(LaptimeError, match="leave out the other paths"):
        read_examples(folder, images=tmp_path)
    folder = mme(tmp_path / "whole")
    (folder / "OCR/questions_answers_YN/0000.txt").write_text("Is it A?\tYes\nIs it B?\tNo\n")
    with pytest.raises(LaptimeError, match=r"0000\.txt: no image 0000"):  # not: the subtask is left out
        read_examples(folder)


def test_captions_are_scored_by_cider_over_the_whole_set(tmp_path: Path) -> None:
    captions = {
        1: ["a dog runs over the green grass", "a brown dog is running on grass"],
        2: ["two people ride a red train", "a red train with two people"],
        3: ["a bowl of soup on a table", "soup in a white bowl"],
    }
    for number in captions:
        picture(tmp_path / f"val2017/{number:012d}.jpg")
    annotations = [{"image_id": n, "caption": text, "id": 1} for n, some in captions.items() for text in some]
    file = tmp_path / "captions_val2017.json"
    file.write_text(json.dumps({"images": [{"id": n} for n in captions], "annotations": annotations}))
    examples = read_examples(file)
    right = scorer("cider", examples)
    own = right("a dog runs over the green grass", examples[0])
    assert 0.5 < own <= 1  # one reference is met in full, the other in part
    assert right("a dog runs over the green grass", examples[1]) < 0.02
    assert right("", examples[0]) == 0
    assert own > right("a dog", examples[0]) > right("soup", examples[0])
    alone = scorer("cider", [examples[2]])
    assert alone("soup in a white bowl", examples[2]) == 0  # what every image's captions hold says nothing
    with pytest.raises(LaptimeError, match="captions of a whole data set"):
        score("cider", "a dog", examples[0])


def test_cider_is_the_published_sum_for_one_reference() -> None:
    """Two images, one caption each, of other words: every n-gram weighs log 2, and a copy of a caption gets 10 / 10."""
    corpus = CaptionCorpus([("one two three four five",), ("six seven eight nine ten",)])
    assert corpus.score("one two three four five", ["one two three four five"]) == pytest.approx(1.0)
    # "one two" beside the five words: cosines 2 / sqrt(2 * 5), 1 / sqrt(1 * 4), 0, 0; three words fewer, sigma 6
    expected = (2 / 10**0.5 + 1 / 4**0.5) / 4 * exp(-9 / 72)
    assert corpus.score("one two", ["one two three four five"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        ("Yes, no doubt", "yes"),
        ("There is a dog.", "yes"),
        ("There isn't any", "no"),
        ("I see a dog", None),
        ("", None),
        ("The answer is yes. Not a cat.", "yes"),
        ("It is not there", "no"),
        ("Not sure.", None),
        ("No doubt: yes", "yes"),
        ("Isn't it? Yes", "yes"),
        ("Nope", "no"),
        ("yes or no", None),
    ],
)
def test_yes_or_no(text: str, says: str | None) -> None:
    assert said(text) == says
