"""Any score by its name: how right an answer to a question is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

from laptime.errors import LaptimeError
from laptime.workload.example import Example
from laptime.workload.scoring.choice import choice_score
from laptime.workload.scoring.cider import CaptionCorpus
from laptime.workload.scoring.match import anls, contains, exact_match, relaxed_accuracy
from laptime.workload.scoring.vqa import FEWEST_ANSWERS, vqa_accuracy
from laptime.workload.scoring.yes_no import yes_no_score

Kind = Literal["vqa", "exact", "choice", "anls", "relaxed", "yesno", "cider", "contains"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def score(kind: str, prediction: str, example: Example) -> float:
    """How right `prediction` is as the answer to `example`, from 0 (wrong) to 1.

    The same prediction always gets the same score: nothing is drawn. Raises LaptimeError when the kind is unknown or
    the example lacks what it needs (check_scorable finds that for a whole data set, before anything is measured), and
    for "cider", which needs the captions of a whole data set: use `scorer`.
    """
    check_scorable(kind, (example,))
    if kind == "vqa":
        return vqa_accuracy(prediction, example.answers)
    if kind == "exact":
        return exact_match(prediction, example.answers)
    if kind == "contains":
        return contains(prediction, example.answers)
    if kind == "anls":
        return anls(prediction, example.answers)
    if kind == "relaxed":
        return relaxed_accuracy(prediction, example.answers)
    if kind == "yesno":
        return yes_no_score(prediction, example.answers)
    if kind == "cider":
        raise LaptimeError("score 'cider' needs the captions of a whole data set; use scorer(kind, examples)")
    assert example.answer_index is not None
    return choice_score(prediction, example.choices, example.answer_index)


def scorer(kind: str, examples: Sequence[Example]) -> Callable[[str, Example], float]:
    """The score of a data set's answers: a function of a prediction and the example that it answers.

    Raises LaptimeError as check_scorable does.
    """
    check_scorable(kind, examples)
    if kind == "cider":
        corpus = CaptionCorpus(example.answers for example in examples)
        return lambda prediction, example: corpus.score(prediction, example.answers)
    return lambda prediction, example: score(kind, prediction, example)


def check_scorable(kind: str, examples: Iterable[Example]) -> None:
    """Raise LaptimeError, with the example's place, at the first one that this kind of score can't be given for."""
    if kind not in KINDS:
        raise LaptimeError(f"score {kind!r} is unknown: use {', '.join(KINDS)}")
    for example in examples:
        if kind == "choice":
            if len(example.choices) < 2 or example.answer_index is None:
                raise LaptimeError(
                    f"{example.place}: score 'choice' needs 'choices' and the right one as 'answer' (its letter, its "
                    "place from 0, or its text)"
                )
        elif kind == "yesno" and not (example.answers and example.answers[0].strip().lower() in ("yes", "no")):
            raise LaptimeError(f"{example.place}: score 'yesno' needs yes or no as the answer")
        elif not example.answers:
            raise LaptimeError(f"{example.place}: score {kind!r} needs an answer, and this question has none")
        elif kind == "vqa" and len(example.answers) < FEWEST_ANSWERS:
            raise LaptimeError(
                f"{example.place}: score 'vqa' compares with the answers of ten people (at least {FEWEST_ANSWERS}), "
                f"here are {len(example.answers)}: use exact or anls"
            )
