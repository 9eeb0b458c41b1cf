"""Shares and confidences mean the same, and are refused in the same words, in every verb."""

from __future__ import annotations

import pytest

from laptime.cli.main import run as laptime
from laptime.errors import LaptimeError
from laptime.estimate.prediction import predict
from laptime.estimate.run_evaluation import evaluate_saved
from tests.cli.estimates import COLUMNS, ask, write_table

VERBS = {
    "evaluate": ("EST", "TABLE"),
    "predict": ("EST", "batch=4", "prompt=256"),
    "budget": ("EST", "--budget-ms", "170", "--config", "batch=4,prompt=256"),
    "compare": ("TABLE", "TABLE"),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    table = write_table(folder / "steps.csv")
    assert laptime(["fit", str(table), *COLUMNS, "--out", str(folder / "est")]) == 0
    return {"EST": folder / "est", "TABLE": table}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [("0", "95%"), ("1", "95%"), ("-1", "95%"), ("nan", "95%"), ("100%", "95%"), ("90", "90%"), ("x", "95%")],
)  # fmt: skip
def test_a_confidence_that_is_none_is_refused_in_the_same_words(known, capsys, verb, written, meant):
    words = [known.get(word, word) for word in VERBS[verb]]
    code, out, err = ask(capsys, verb, *words, "--confidence", written)
    wanted = "from 0.5 to below 1" if verb == "compare" else "above 0 and below 1"
    assert (code, out) == (2, "")
    assert err.startswith(f"laptime: --confidence {written}: write a share {wanted}, as {meant} or 0.9")


def test_compare_answers_no_confidence_below_half(known, capsys):
    code, _, err = ask(capsys, "compare", known["TABLE"], known["TABLE"], "--confidence", "0.3")
    assert (code, "--confidence 0.3: write a share from 0.5" in err) == (2, True)


@pytest.mark.parametrize("written", ["90%", "0.9"])
def test_a_confidence_is_a_share_or_a_percentage(known, capsys, written):
    code, out, _ = ask(capsys, "predict", known["EST"], "batch=4", "prompt=256", "--confidence", written, "--json")
    assert (code, '"quantile": 0.9' in out) == (0, True)


@pytest.mark.parametrize("wrong", [0, 1, -1, float("nan")])
def test_python_says_confidence_too(known, wrong):
    with pytest.raises(LaptimeError, match=r"^confidence .*: a share between 0 and 1"):
        evaluate_saved(known["EST"], known["TABLE"], confidence=wrong)
    with pytest.raises(LaptimeError, match=r"^confidence .*: a share between 0 and 1"):
        predict(known["EST"], {"batch": 4, "prompt": 256}, confidence=wrong)
