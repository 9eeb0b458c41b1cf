"""JSONL of questions about images: read with errors that name the line, made into inputs by the model's processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from laptime.errors import LaptimeError
from laptime.workload.datasets import inputs_from_example
from laptime.workload.images import synthetic_image
from laptime.workload.jsonl import read_jsonl
from laptime.workload.placeholders import image_token_id
from tests.workload.families import loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    synthetic_image(60, 40, 1).save(tmp_path / "pictures" / "a.png")
    synthetic_image(40, 60, 2).convert("L").save(tmp_path / "b.jpg")
    (tmp_path / "broken.png").write_bytes(b"no image at all")
    return tmp_path


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_reads_all_fields(folder: Path) -> None:
    path = write(
        folder,
        {"image": "pictures/a.png", "question": "What is it?", "id": "first", "answer": "a dog"},
        "",
        {"image": "b.jpg", "question": "Wie viele? 猫", "answer": ["2", 3]},
        {"question": "No image at all?", "id": 17, "extra": [1]},
    )
    one, two, three = read_jsonl(path)
    assert (one.id, one.question, one.image, one.answers) == (
        "first",
        "What is it?",
        folder / "pictures/a.png",
        ("a dog",),
    )
    assert (two.id, two.answers, two.place) == ("0003", ("2", "3"), f"{path}:3")
    assert (three.id, three.image, three.answers) == ("17", None, ())


def test_a_byte_order_mark_and_windows_line_ends_are_fine(folder: Path) -> None:
    path = folder / "w.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "a"}\r\n{"question": "b"}\r\n')
    assert [example.question for example in read_jsonl(path)] == ["a", "b"]


GOOD = {"question": "Is it?"}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{not json", "not JSON"),
        ('{"question": "x"', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([1, 2], "must be a JSON object"),
        ({}, "'question'"),
        ({"question": "  "}, "'question'"),
        ({"question": 5}, "'question'"),
        ({"question": "x", "image": 5}, "'image'"),
        ({"question": "x", "image": ""}, "'image'"),
        ({"question": "x", "image": "missing.png"}, "no image file"),
        ({"question": "x", "image": "pictures"}, "no image file"),
        ({"question": "x", "image": "a\0b"}, "'image'"),
        ({"question": "x", "image": "https://example.org/a.png"}, "no local file"),
        ({"question": "x", "image": "file:///etc/passwd"}, "no local file"),
        ({"question": "x", "image": "data:image/png;base64,AAAA"}, "no local file"),
        ({"question": "x", "id": [1]}, "'id'"),
        ({"question": "x", "id": True}, "'id'"),
        ({"question": "x", "answer": {"a": 1}}, "'answer'"),
        ({"question": "x", "id": "0001"}, "used before, at"),
    ],
)
def test_a_bad_line_is_named(folder: Path, bad: Any, says: str) -> None:
    path = write(folder, GOOD, bad)
    with pytest.raises(LaptimeError) as raised:
        read_jsonl(path)
    message = str(raised.value)
    assert message.startswith(f"{path}:2: ")
    assert says in message
    assert "\n" not in message


def test_files_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(LaptimeError, match="No such file"):
        read_jsonl(folder / "none.jsonl")
    with pytest.raises(LaptimeError, match="is a folder"):
        read_jsonl(folder)
    with pytest.raises(LaptimeError, match="holds no example"):
        read_jsonl(write(folder, "", "  "))
    (folder / "latin.jsonl").write_bytes(b'{"question": "caf\xe9"}')
    with pytest.raises(LaptimeError, match="not UTF-8"):
        read_jsonl(folder / "latin.jsonl")


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        read_jsonl(path)
    except LaptimeError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("family", ["llava_next", "internvl", "qwen3_vl", "gemma3", "paligemma", "idefics3"])
def test_an_example_becomes_inputs(folder: Path, family: str) -> None:
    model = loaded(family)
    (example,) = read_jsonl(write(folder, {"image": "pictures/a.png", "question": "What is in it?"}))
    inputs = inputs_from_example(model, example)
    ids = inputs.kwargs["input_ids"]
    assert inputs.image_tokens == (ids == image_token_id(model)).sum() > 0
    assert inputs.prompt_tokens == ids.shape[1] == inputs.text_tokens + inputs.image_tokens
    assert "What is in it?" in model.tokenizer.decode(ids[0])
    out = model.model.generate(**inputs.kwargs, max_new_tokens=2)
    assert out.shape[1] == inputs.prompt_tokens + 2


def test_a_grey_image_and_a_text_only_question(folder: Path) -> None:
    model = loaded("llava_next")
    grey, text = read_jsonl(write(folder, {"image": "b.jpg", "question": "Grey?"}, {"question": "And you?"}))
    assert inputs_from_example(model, grey).kwargs["pixel_values"].shape[2] == 3
    inputs = inputs_from_example(model, text)
    assert set(inputs.kwargs) == {"input_ids", "attention_mask"}
    assert (inputs.images, inputs.image_tokens, inputs.text_tokens) == (0, 0, len("And you?"))


def test_the_chat_template_is_used_when_there_is_one(folder: Path) -> None:
    model = loaded("llava_next")
    model.processor.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (example,) = read_jsonl(write(folder, {"image": "pictures/a.png", "question": "Why?"}))
    inputs = inputs_from_example(model, example)
    ids = inputs.kwargs["input_ids"]
    assert model.tokenizer.decode(ids[ids != image_token_id(model)]) == "[user]Why?[assistant]"


def test_the_tokenizer_adds_no_second_bos_to_a_template(folder: Path) -> None:
    model = loaded("llava_next")
    opening = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    model.tokenizer.backend_tokenizer.post_processor = opening
    path = write(folder, {"image": "pictures/a.png", "question": "Why?"}, {"question": "Why?"})
    for example in read_jsonl(path):
        ids = inputs_from_example(model, example).kwargs["input_ids"]
        assert (ids == 1).sum() == 1  # without a template it is the tokenizer's to add
    model.processor.chat_template = "<bos>{% if messages[0].content|length > 1 %}<image>{% endif %}Why?"
    for example in read_jsonl(path):
        ids = inputs_from_example(model, example).kwargs["input_ids"]
        assert (ids == 1).sum() == 1


def test_a_text_models_chat_template_gets_plain_text(folder: Path) -> None:
    model = loaded("qwen3")
    model.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    (example,) = read_jsonl(write(folder, {"question": "Why?"}))
    ids = inputs_from_example(model, example).kwargs["input_ids"]
    assert model.tokenizer.decode(ids[0]) == "[user]Why?"
    assert torch.equal(ids, model.tokenizer("[user]Why?", return_tensors="pt")["input_ids"])


def test_a_name_that_no_file_can_have_is_no_file(folder: Path) -> None:
    with pytest.raises(LaptimeError, match="no image file at"):
        read_jsonl(write(folder, {"image": "x" * 5000, "question": "What?"}))


def test_examples_that_a_model_cannot_take(folder: Path) -> None:
    image, broken, long, half = read_jsonl(
        write(
            folder,
            {"image": "pictures/a.png", "question": "What?"},
            {"image": "broken.png", "question": "What?"},
            {"question": "long " * 100},
            {"question": "half \ud800?"},
        )
    )
    with pytest.raises(LaptimeError, match="jsonl:4: the question holds half a character"):
        inputs_from_example(loaded("llama"), half)
    with pytest.raises(LaptimeError, match=r"jsonl:1: has an image, and llama takes text only"):
        inputs_from_example(loaded("llama"), image)
    with pytest.raises(LaptimeError, match=r"jsonl:2: .*broken\.png is no readable image"):
        inputs_from_example(loaded("llava_next"), broken)
    with pytest.raises(LaptimeError, match="context of 256"):
        inputs_from_example(loaded("llama"), long)
    with pytest.raises(LaptimeError, match="context of 256"):
        inputs_from_example(loaded("llava_next"), image, new_tokens=250)
