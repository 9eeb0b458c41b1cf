"""Pages, questions and their truth."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from examples.glyphs.font import glyph, width_at
from examples.glyphs.pages import CODE, CODE_LETTERS, DIGIT, MAP, NAMES, SIDE, WORD, WORD_LETTERS, draw_page
from examples.glyphs.questions import PHRASES, TYPES, ask
from examples.glyphs.write_questions import type_of, write_questions

from laptime.workload.reading import read_examples


def test_a_page_is_the_same_everywhere():
    page = draw_page("test", 17)
    assert page.image.shape == (SIDE, SIDE, 3)
    assert hashlib.sha256(page.image.tobytes()).hexdigest()[:16] == "b1898773e945e63c"
    assert (draw_page("test", 17).image == page.image).all()
    assert (draw_page("train", 17).image != page.image).any()
    assert draw_page("test", 18).truth != page.truth


def test_the_labels_say_what_the_truth_says():
    for number in range(40):
        page = draw_page("test", number)
        shown, colours, places, centres = page.labels
        assert centres.sum() == 1 + len(page.truth.shapes) + len(page.truth.digits)
        assert page.labels.shape == (4, MAP, MAP)
        for one in page.truth.digits:
            there = shown == DIGIT + int(one.what)
            assert there.any() and (colours[there] == 1 + NAMES.index(one.colour)).all()
        for text, first, letters in ((page.truth.word, WORD, WORD_LETTERS), (page.truth.code, CODE, CODE_LETTERS)):
            inside = (shown >= first) & (shown < first + len(letters))
            for place, letter in enumerate(text, 1):
                assert set(shown[inside & (places == place)]) == {first + letters.index(letter)}


def test_nothing_covers_anything_else():
    for number in range(40):
        shown = draw_page("test", number).labels[0]
        truth = draw_page("test", number).truth
        for text, first, letters in ((truth.word, WORD, WORD_LETTERS), (truth.code, CODE, CODE_LETTERS)):
            sizes = [np.isin(shown, [first + letters.index(letter)]).sum() / text.count(letter) for letter in text]
            assert max(sizes) - min(sizes) <= 0.35 * max(sizes)  # every letter's box, up to whole points


def test_glyphs_keep_their_coverage_at_any_height():
    for height in (8, 9, 14, 31):
        mask = glyph("E", height)
        assert mask.shape == (height, width_at(height), 1)
        assert mask.mean() / 255 == pytest.approx(18 / 35, abs=0.01)  # 18 of its 35 dots are set


def test_digits_differ_and_one_has_the_large_shapes_colour():
    for number in range(100):
        truth = draw_page("test", number).truth
        assert len({one.what for one in truth.digits}) == len({one.colour for one in truth.digits}) == 3
        assert truth.large.colour in {one.colour for one in truth.digits}


@pytest.mark.parametrize("kind", TYPES)
def test_answers_are_true_short_and_not_one_sided(kind):
    said = Counter()
    for number in range(200):
        truth = draw_page("test", number).truth
        asked = ask(kind, truth, "test", number)
        assert asked == ask(kind, truth, "test", number)
        assert len(asked.text) <= 30 and asked.text.endswith("?") and asked.text.count("?") == 1
        assert 1 <= len(asked.answer) <= 6 and asked.answer.isascii()
        said[asked.answer] += 1
        named = [name for name in NAMES if name in asked.text.lower()]
        values = {one.colour: int(one.what) for one in truth.digits}
        if kind == "add":
            assert int(asked.answer) == sum(values[name] for name in named)
        if kind == "compare":
            assert asked.answer == max(named, key=values.__getitem__)
        if kind == "digit":
            assert int(asked.answer) == values[named[0]]
        if kind == "count":
            shapes = [truth.large, *truth.shapes]
            assert int(asked.answer) == len([one for one in shapes if one.colour == named[0]])
    assert said.most_common(1)[0][1] < 200 * 0.45


def test_every_phrase_is_asked():
    truth = draw_page("test", 0).truth
    for kind, forms in PHRASES.items():
        assert len({ask(kind, truth, "test", number).text.split(" ")[0] for number in range(60)}) == len(
            {form.format(a="A", b="B").split(" ")[0] for form in forms}
        ) or "{a}" in "".join(forms)


def test_laptime_reads_what_was_written(tmp_path):
    file = write_questions(tmp_path, split="test", samples=20, per_page=2)
    examples = read_examples(file, need_images=True)
    assert len(examples) == 20
    assert [type_of(one.id) for one in examples] == [TYPES[index % len(TYPES)] for index in range(20)]
    assert len({one.image for one in examples}) == 10
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    truth = draw_page("test", 4).truth
    assert lines[8]["answer"] == truth.code[0] and lines[8]["id"] == "initial-000008"
    assert read_examples(tmp_path, samples=5)
