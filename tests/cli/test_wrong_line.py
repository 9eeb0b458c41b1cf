"""A command line that can't be meant so gets one line: the option, what was written, and what is wanted."""

from __future__ import annotations

from typing import get_origin

import pytest

from laptime.cli.declared import parameters
from laptime.cli.main import run as laptime
from laptime.cli.verbs import VERBS, Group, imported
from laptime.cli.wrong_line import with_option_names


def declared_options():
    """Each option of each verb that takes a value, with the words before it."""
    for name in (name for verbs in VERBS.values() for name in verbs):
        verb = imported(name)
        for function in verb.functions if isinstance(verb, Group) else [verb]:
            words = (name, function.__name__) if isinstance(verb, Group) else (name,)
            for one in parameters(function):
                if one.declared.is_option:
                    yield pytest.param(words, one, id=f"{' '.join(words)} {one.declared.names[0]}")


OPTIONS = list(declared_options())


def refused(capsys, *words):
    """The one line that a command line is refused with."""
    assert laptime(list(words)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.mark.parametrize(("words", "one"), OPTIONS)
def test_no_option_takes_the_next_one_for_its_value(capsys, tmp_path, monkeypatch, words, one):
    monkeypatch.chdir(tmp_path)
    option = one.declared.names[0]
    if one.kind is bool:
        option = option.split("/")[0]
        assert f"{option}=1: {option} takes no value" in refused(capsys, *words, f"{option}=1")
    else:
        assert f"{option} --json: {option} needs a value" in refused(capsys, *words, option, "--json")
        said = refused(capsys, *words, option)
        assert f"{option}: its value is missing" in said
        assert f"(see laptime {' '.join(words)} --help)" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "one"), [param for param in OPTIONS if get_origin(param.values[1].kind) is not list]
)  # fmt: skip
def test_no_option_but_a_list_is_given_twice(capsys, words, one):
    option = one.declared.names[0]
    if one.kind is bool:
        if "/" in option:
            on, off = option.split("/")
            assert f"{on} and {off} contradict each other" in refused(capsys, *words, on, off)
    else:
        assert f"{option} is given twice (7, 7)" in refused(capsys, *words, option, "7", option, "7")


@pytest.mark.parametrize(("words", "one"), [param for param in OPTIONS if param.values[1].default != ""])
def test_no_option_is_empty(capsys, tmp_path, monkeypatch, words, one):
    """An empty path would mean the current folder."""
    monkeypatch.chdir(tmp_path)
    if one.kind is not bool:
        option = one.declared.names[0]
        assert f"{option}: its value is empty" in refused(capsys, *words, option, "")
        assert f"{option}: its value is empty" in refused(capsys, *words, f"{option}=")


@pytest.mark.parametrize("words", [("audit",), ("profile",), ("predict", "est"), ("trace", "a"), ("control", "bounds")])
def test_no_argument_is_empty(capsys, words):
    assert "is empty; name it" in refused(capsys, *words, "")


@pytest.mark.parametrize(("words", "one"), [param for param in OPTIONS if param.values[1].kind in (int, float)])
def test_what_is_no_number_is_named_with_its_option(capsys, words, one):
    option = one.declared.names[0]
    wrong = "2.5" if one.kind is int else "2,5"
    assert f"{option} {wrong}: write a " in refused(capsys, *words, option, wrong)
    if one.kind is int:
        assert f"{option} {10**20}: " in refused(capsys, *words, option, str(10**20))
    least = one.declared.settings.get("min")
    if least is not None:
        below = f"{least - 1:g}"
        assert f"{option} {below}: " in refused(capsys, *words, option, below)


SEEDED = [words for words, one in (param.values for param in OPTIONS) if "--seed" in one.declared.names]


@pytest.mark.parametrize("words", SEEDED, ids=" ".join)
def test_a_seed_below_0_is_refused_by_every_verb(capsys, words):
    assert "--seed -1: can't be negative" in refused(capsys, *words, "--seed", "-1")


def test_a_text_may_begin_with_dashes_but_a_path_may_not(capsys):
    run = ["control", "run", "no-policy", "--budget-ms", "9", "--question"]
    for text in ("-- why?", "--why is that?", "--?"):
        assert "no-policy: no such folder; name one that holds a policy" in refused(capsys, *run, text)
        assert "no-policy: no such folder" in refused(capsys, *run[:-1], f"--question={text}")
    assert "--html ./--my page" in refused(capsys, "trace", "x", "--html", "--my page")


def test_an_option_before_its_verb_is_put_after_it(capsys):
    assert "write the verb first, as laptime trace --json" in refused(capsys, "--json", "trace", "a.json")


def test_help_is_shown_beside_what_is_wrong(capsys):
    assert laptime(["profile", "--samples", "2.5", "--help"]) == 0
    assert "Usage: laptime profile" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "shown"), [(["help"], "Usage: laptime "), (["help", "fit"], "Usage: laptime fit ")])
def test_help_is_a_verb_too(capsys, words, shown):
    assert laptime(words) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (["profile", "m"], "`new_tokens` 0: must be at least 1", "--new-tokens 0: must be at least 1"),
        (["--debug", "profile", "m"], "x: use `compile`, not `cache`", "x: use --compile/--no-compile, not --cache"),
        (["control", "train", "run"], "choose another `out`", "choose another --out"),
        (["trace", "file"], "`new_tokens` 0: must be at least 1", "`new_tokens` 0: must be at least 1"),
        (["control"], "choose another `out`", "choose another `out`"),
        ([], "`out` of `laptime fit`", "`out` of `laptime fit`"),
    ],
)
def test_an_argument_that_an_error_names_is_shown_as_the_option_of_its_verb(words, text, said):
    assert with_option_names(text, words) == said


def test_an_error_below_the_command_line_is_printed_with_the_option(capsys):
    assert refused(capsys, "profile", "preset:tiny-vlm", "--percentiles", "100").startswith(
        "laptime: --percentiles 100: "
    )
