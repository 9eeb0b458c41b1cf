"""Scores by their published definitions. The expected values are worked out by hand from the papers' formulas."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.workload.example import Example
from laptime.workload.scoring import KINDS, check_scorable, match, score, scorer
from laptime.workload.scoring import vqa as vqa_text
from laptime.workload.scoring.choice import chosen
from laptime.workload.scoring.match import edit_distance


def example(*answers: str, choices: tuple[str, ...] = (), right: int | None = None) -> Example:
    return Example("1", "What?", None, answers, "data.jsonl:1", choices, right)


# VQA accuracy


@pytest.mark.parametrize(
    ("matches", "accuracy"),
    [
        (0, 0.0),
        (1, 0.3),  # nine subsets keep the one match: 9 * 1/3 / 10
        (2, 0.6),  # eight keep both, two keep one: (8 * 2/3 + 2 * 1/3) / 10
        (3, 0.9),  # seven keep three, three keep two: (7 * 1 + 3 * 2/3) / 10
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_vqa_accuracy_of_so_many_of_ten(matches: int, accuracy: float) -> None:
    people = ["red"] * matches + [f"colour {number}" for number in range(10 - matches)]
    assert score("vqa", "red", example(*people)) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("Yes", "yes"),
        (" two\nbirds\t", "2 birds"),
        ("None", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("The dog and a cat", "dog and cat"),
        ("a", ""),
        ("dont know", "don't know"),
        ("it wont", "it won't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("Im here", "im here"),  # the table's entry has a capital, and words are in lower case by then
        ("man's hat", "man's hat"),  # the apostrophe stays
        ("2:50 p.m.", "2:50 pm"),  # and the colon; a full stop goes unless a digit follows
        ("3.5", "3.5"),
        (".5", ".5"),
        ("5.", "5"),
        ("100,978", "100978"),  # a comma between digits goes without a space
        ("red/blue", "red blue"),  # nothing beside a space: the sign becomes one
        ("red, blue", "red blue"),  # beside a space: the sign goes
        ("well-known", "well known"),
        ("well-known - yes", "wellknown yes"),  # the rule looks at the whole text: one hyphen has a space
        ("1,000 red/blue", "1000 redblue"),  # a comma in a number makes every sign go
        ("(yes)", "yes"),
        ("what?!", "what"),
    ],
)
def test_vqa_normalisation(text: str, means: str) -> None:
    assert vqa_text.normalised(text) == means


def test_vqa_normalises_people_too() -> None:
    people = ["Two birds.", "the 2 birds", "two, birds", "2 birds"] + ["birds"] * 6
    assert score("vqa", "2 birds", example(*people)) == 1.0
    assert score("vqa", "Yes.", example(*["yes"] * 10)) == 1.0


# exact match


@pytest.mark.parametrize(
    ("said", "answers", "right"),
    [
        ("the Eiffel Tower.", ("Eiffel tower",), 1.0),
        ("Eiffel", ("Eiffel tower",), 0.0),
        ("U.S.A", ("usa",), 1.0),  # punctuation goes before articles are looked for
        ("an-a", ("ana",), 1.0),
        ("anthem", ("them",), 0.0),  # articles are whole words
        ("cat", ("dog", "a cat!"), 1.0),  # any answer will do
        ("12", ("12.0",), 0.0),
    ],
)
def test_exact_match(said: str, answers: tuple[str, ...], right: float) -> None:
    assert score("exact", said, example(*answers)) == right


@pytest.mark.parametrize(
    ("said", "answers", "right"),
    [
        ("The capital of France is Paris.", ("Paris",), 1.0),
        ("Parisian", ("Paris",), 0.0),
        ("It is in New  York!", ("york", "the new york"), 1.0),
        ("New and York", ("New York",), 0.0),
        ("", ("Paris",), 0.0),
        ("anything", ("the",), 0.0),
    ],
)
def test_contains(said: str, answers: tuple[str, ...], right: float) -> None:
    assert score("contains", said, example(*answers)) == right


# ANLS


@pytest.mark.parametrize(
    ("said", "answers", "similarity"),
    [
        ("kitten", ("sitting",), 1 - 3 / 7),  # 3 edits of 7 letters: 0.43 is below the threshold
        ("ab", ("ac",), 0.0),  # half of it wrong is at the threshold, which does not count
        ("abc", ("abd",), 2 / 3),
        ("Coca  Cola", ("coca cola",), 1.0),  # case and spaces
        ("coca cola", ("pepsi", "coca-cola"), 1 - 1 / 9),  # the best of the answers
        ("", ("no",), 0.0),
        ("", ("",), 1.0),
        ("x" * 100, ("x" * 51,), 1 - 49 / 100),
        ("x" * 100, ("x" * 50,), 0.0),
    ],
)
def test_anls(said: str, answers: tuple[str, ...], similarity: float) -> None:
    assert score("anls", said, example(*answers)) == pytest.approx(similarity)


def slow_distance(a: str, b: str) -> int:
    """Levenshtein's recursion, as it is written in textbooks."""

    @cache
    def rest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + (a[i] != b[j]))

    return rest(0, 0)


@given(st.text("abc ", max_size=12), st.text("abc ", max_size=12))
def test_edit_distance_is_the_textbook_one_and_symmetric(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == slow_distance(a, b)


def test_edit_distance_of_long_texts() -> None:
    assert edit_distance("x" * 500 + "y", "x" * 500) == 1
    assert edit_distance("ab" * 300, "ba" * 300) == 2


# relaxed accuracy


@pytest.mark.parametrize(
    ("said", "answer", "right"),
    [
        ("105", "100", 1.0),  # the bound is within
        ("95", "100", 1.0),
        ("105.1", "100", 0.0),
        ("94.9", "100", 0.0),
        ("1.05", "1", 1.0),
        ("-100", "100", 0.0),
        ("-104", "-100", 1.0),
        ("21%", "20%", 1.0),
        ("0.2", "20%", 1.0),  # a percentage is a hundredth
        ("20", "20%", 0.0),
        ("0", "0.0", 1.0),
        ("0.01", "0", 0.0),
        ("1e3", "1000", 1.0),
        ("1,000", "1000", 0.0),  # text, as in the published code
        ("2016", "2015", 1.0),  # years are numbers to this measure
        ("Red ", "red", 1.0),
        ("reds", "red", 0.0),
        ("nan", "nan", 1.0),
        ("nan", "5", 0.0),
        ("inf", "1e999", 0.0),
        ("5", "1e999", 0.0),
        ("12 apples", "12", 0.0),
    ],
)
def test_relaxed_accuracy(said: str, answer: str, right: float) -> None:
    assert score("relaxed", said, example(answer)) == right


# multiple choice

OPTIONS = ("a cat", "a dog", "the dog and cat", "fish", "7.5")


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ("B", 1),
        ("b", 1),
        (" (b). ", 1),
        ("**D**", 3),
        ("The answer is C.", 2),
        ("the answer is (b)", 1),
        ("Answer: D", 3),
        ("A cat", 0),  # the option itself, not the letter A with a word behind it
        ("A dog", 1),
        ("the 7.5", 4),
        ("B) a dog", 1),
        ("B. because it barks", 1),
        ("I first took it for (A), but it is (B)", 1),  # the last one named
        ("It must be E", 4),
        ("A fish is what I see", 3),  # an article and a pronoun are no options
        ("It is the dog and cat", 2),  # not the cat within it
        ("a cat, no: a dog", 1),
        ("The answer is b.", 1),
        ("Option d", 3),
        ("\u7b54\u6848\u662fB", 1),  # the answer is B, in Chinese, which has no spaces
        ("\u9009\u9879B\u3002", 1),
        ("The answer is a dog", 1),
        ("It can't be B.", None),  # what is denied is not named
        ("B, not A", 1),
        ("D. A is incorrect.", 3),
        ("a dog, not a fish", 1),
        ("e.g. U.S.A.", None),
        ("X", None),
        ("none of these", None),
        ("dogs", None),
        ("", None),
    ],
)
def test_the_option_that_an_answer_names(said: str, place: int | None) -> None:
    assert chosen(said, OPTIONS) == place
    for right in range(len(OPTIONS)):
        assert score("choice", said, example(choices=OPTIONS, right=right)) == float(place == right)


# all kinds

WORDS = st.text(st.sampled_from("abcdeTHE 0123456789.,%'-/?(:é\n"), max_size=25)


def case_of(kind: str, answers: list[str]) -> Example:
    if kind == "choice":
        return example(choices=("first", "second"), right=1)
    return example("no") if kind == "yesno" else example(*answers)


@settings(max_examples=200)
@given(st.sampled_from(KINDS), WORDS, st.lists(WORDS, min_size=10, max_size=10))
def test_every_score_is_between_0_and_1_and_the_same_each_time(kind: str, said: str, answers: list[str]) -> None:
    case = case_of(kind, answers)
    right = scorer(kind, [case, case_of(kind, ["a caption of another image"] * 10)])
    value = right(said, case)
    assert 0 <= value <= 1
    assert right(said, case) == value


@given(st.sampled_from(["vqa", "exact", "contains", "anls", "relaxed"]), WORDS)
def test_the_answer_itself_is_right(kind: str, answer: str) -> None:
    assert score(kind, answer, example(*[answer] * 10)) == 1


@given(st.integers(2, 26), st.data())
def test_an_options_letter_and_its_text_are_right(count: int, data: st.DataObject) -> None:
    choices = tuple(f"option number {n}" for n in range(count))
    right = data.draw(st.integers(0, count - 1))
    case = example(choices=choices, right=right)
    for said in ("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[right], choices[right]):
        assert score("choice", said, case) == 1
        assert score("choice", said, example(choices=choices, right=(right + 1) % count)) == 0


@given(WORDS)
def test_normalising_twice_changes_no_comparison_by_case_space_or_article(text: str) -> None:
    for normal in (match.normalised, vqa_text.normalised):
        assert normal(text.upper()) == normal(text)
        assert normal(f"  {text}\n") == normal(text)
        assert normal(f"the {text.strip()}") == normal(f"a {text.strip()}")
    assert match.normalised(match.normalised(text)) == match.normalised(text)


@pytest.mark.parametrize(
    ("kind", "case", "says"),
    [
        ("bleu", example("a"), "score 'bleu' is unknown: use vqa, exact, choice, anls, relaxed"),
        ("exact", example(), "data.jsonl:1: score 'exact' needs an answer"),
        ("vqa", example("a", "b", "c"), "data.jsonl:1: score 'vqa' compares with the answers of ten people"),
        ("choice", example("a"), "data.jsonl:1: score 'choice' needs 'choices'"),
        ("choice", example(choices=("a", "b")), "data.jsonl:1: score 'choice' needs 'choices'"),
    ],
)
def test_a_question_that_cannot_be_scored_is_named(kind: str, case: Example, says: str) -> None:
    with pytest.raises(LaptimeError) as raised:
        check_scorable(kind, [case])
    assert str(raised.value).startswith(says)
    with pytest.raises(LaptimeError):
        score(kind, "a", case)
