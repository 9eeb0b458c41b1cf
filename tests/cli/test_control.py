"""`laptime control` end to end on a CPU: a small sweep of a tiny model, features, training, judging, one answer."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from examples.glyphs.model import make_model, save
from examples.glyphs.write_questions import write_questions
from transformers import LlavaNextForConditionalGeneration

from laptime.cli.main import run as laptime
from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.judge.result import ControlEvaluation
from laptime.control.policies.saved_policy import read_policy
from laptime.data.run_folder import load_run
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.loading import load_model
from laptime.report.control.page import control_page
from tests.cli.estimates import ask

KEEP = ("--keep", "cold,foreign-process,gc-pause")
"""Tests run beside each other: no machine is theirs alone."""
SWEEP = """
model: model
device: cpu
workload: {data: questions/questions.jsonl, score: exact}
knobs: {tier: [low, medium], top_k: [1, 4], blocks: [4, 8], dtype: float32, new_tokens: 3, importance: importance.json}
measure: {repeats: 1, rounds: 1, warmups: 2}
"""
QUESTIONS = 60
MEASURED = (0, 2, 5, 7)
"""Which four blocks the importance file keeps: other ones than their position would."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A swept model, an estimator, features and a policy, as the verbs make them."""
    folder = tmp_path_factory.mktemp("control")
    torch.manual_seed(0)
    save(make_model("tiny"), folder / "model")
    write_questions(folder / "questions", split="test", samples=QUESTIONS, types=("colour", "code", "add"))
    (folder / "importance.json").write_text("[9, 1, 8, 1, 1, 7, 1, 9]")
    (folder / "sweep.yaml").write_text(SWEEP)
    for words in (
        ("sweep", folder / "sweep.yaml", "--out", folder / "run"),
        ("fit", folder / "run", "--target", "total_ms", "--group", "sample_id", "--out", folder / "est", *KEEP),
        ("control", "features", folder / "run", "--out", folder / "features", *KEEP),
    ):
        assert laptime([str(word) for word in words]) == 0, words
    assert laptime(train(folder, "policy", "--steps", "20")) == 0
    return folder


def train(folder, name, *more):
    words = ("control", "train", folder / "run", "--estimator", folder / "est", "--features", folder / "features")
    return [str(word) for word in (*words, "--out", folder / name, *KEEP, *more)]


def test_every_choice_of_the_sweep_is_the_policys(workspace):
    policy = read_policy(workspace / "policy")[0].policy
    assert [tier.name for tier in policy.space.tiers] == ["low", "medium"]
    assert (policy.space.top_ks, policy.space.blocks) == ((1, 4), (4, 8))
    assert policy.space.active == (MEASURED, tuple(range(8)))
    assert policy.needs.hidden
    assert read_policy(workspace / "policy")[0].early_block == 1


def test_the_same_seed_gives_the_same_policy(workspace):
    assert laptime(train(workspace, "again", "--steps", "20")) == 0
    one, other = (read_policy(workspace / name)[0].policy for name in ("policy", "again"))
    assert all((a == b).all() for a, b in zip(one.late.weights, other.late.weights, strict=True))


def test_a_promise_is_over_all_questions_where_that_can_be_proven(workspace, tmp_path, capsys):
    """Not by thirty; with a weaker promise thirty are enough."""
    for more, said in (
        ([], "95\xa0% in time are promised for each question by itself: too few were timed"),
        (["--confidence", "0.8"], "80\xa0% in time are promised over all questions: a choice may be late up to"),
        (["--confidence", "0.8", "--promise", "each"], "80\xa0% in time are promised for each question by itself"),
    ):
        code, _, err = ask(
            capsys, *train(workspace, tmp_path / "p", "--policy", "supervised", "--steps", "3", "--force", *more)
        )
        assert code == 0
        assert said in err
        assert (read_policy(tmp_path / "p")[0].leeway is not None) == ("over all" in said)


def test_what_is_judged_and_run_has_the_leeway_that_was_saved(workspace, tmp_path, capsys, monkeypatch):
    words = train(workspace, tmp_path / "p", "--policy", "supervised", "--steps", "3", "--confidence", "0.8")
    assert ask(capsys, *words)[0] == 0
    leeway = read_policy(tmp_path / "p")[0].leeway
    assert leeway is not None
    assert AdaptiveModel.load(str(workspace / "model"), tmp_path / "p").leeway == leeway
    seen = {}

    def calls(contestants, *_, **__):
        seen.update({one.name or one.policy.name: one.leeway for one in contestants})
        raise LaptimeError("enough")

    def looked_up(policies, table, features, bounds, comparison):
        seen.update(comparison.leeways)
        raise LaptimeError("enough")

    monkeypatch.setattr("laptime.control.judge.contest.evaluate_live", calls)
    monkeypatch.setattr("laptime.control.judge.lineup.replayed_evaluation", looked_up)
    asked = ("control", "evaluate", workspace / "run", tmp_path / "p", "--features", workspace / "features", *KEEP)
    for way in (["--replay"], []):
        seen.clear()
        assert ask(capsys, *asked, "--budgets", "100", *way)[0] == 2
        assert (seen["supervised"], seen["oracle, same bounds"]) == (leeway, leeway)
        assert seen.get("static") is None


def test_policies_are_judged_by_calls_that_are_made(workspace, capsys):
    asked = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "policy",
        "--features",
        workspace / "features",
        *KEEP,
    )
    page = workspace / "page.html"
    code, out, _ = ask(capsys, *asked, "--questions", "3", "--budgets", "1,100000", "--json", "--html", page)
    assert code in (0, 1)
    evaluation = json.loads(out)
    assert evaluation["schema"] == "laptime.control/1"
    assert (evaluation["way"], evaluation["online"]) == ("measured", True)
    names = {point["policy"] for point in evaluation["points"]}
    assert {"grpo", "static", "lookup", "oracle", "grpo, mean budgets", "grpo, analytic budgets"} <= names
    assert {"per type", "logistic", "per type, tier only", "per type, top-k only", "per type, blocks only"} <= names
    for point in evaluation["points"]:
        assert point["questions"] == 3
        assert point["attainment"]["value"] == (1.0 if point["budget_ms"] == 100000 else 0.0)
        assert sum(share["count"] for share in point["choices"]) == 3
        assert point["deciding_ms"]["value"] > 0
    late = [p for p in evaluation["points"] if p["policy"] == "grpo" and p["budget_ms"] == 1]
    assert late[0]["unfit"] == 3  # nothing fits a millisecond: the fastest choice, flagged
    assert page.read_text() == control_page(_typed(evaluation))


def test_some_questions_are_taken_from_all_types(workspace, capsys):
    """Not the first ones by name: those would be all of one type."""
    asked = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "policy",
        "--features",
        workspace / "features",
        *KEEP,
    )
    _, out, _ = ask(capsys, *asked, "--questions", "6", "--budgets", "100000", "--json")
    point = json.loads(out)["points"][0]
    assert sum(share["count"] for share in point["choices"]) == 6
    assert {share["question_type"] for share in point["choices"]} == {"add", "code", "colour"}


def test_bounds_may_stay_as_they_were_calibrated(workspace, capsys):
    asked = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "policy",
        "--features",
        workspace / "features",
        *KEEP,
    )
    code, out, _ = ask(capsys, *asked, "--questions", "1", "--budgets", "100000", "--as-calibrated", "--json")
    assert code in (0, 1)
    assert json.loads(out)["online"] is False


def test_bounds_of_fastmodel_are_measured_and_kept_with_the_policy(workspace, tmp_path, capsys):
    """A policy on them answers on FastModel without being told to; it isn't judged beside times of the plain path."""
    data = ("--data", workspace / "questions" / "questions.jsonl")
    words = ("control", "bounds", workspace / "policy", "--out", tmp_path / "fast", *data)
    code, _, said = ask(capsys, *words, "--samples", "5", "--json")
    assert code == 2
    assert "at least 19" in said
    code, out, said = ask(capsys, *words, "--samples", "19", "--json")
    assert code == 0, said
    assert "152 calls" in said
    written = json.loads(out)
    assert (written["schema"], written["questions"], written["confidence"]) == ("laptime.bounds/1", 19, 0.95)
    saved, bounds = read_policy(tmp_path / "fast")
    assert bounds.fast
    assert saved.leeway is None
    assert list(written["bound_ms"]) == [str(bounds.space.choice(number)) for number in range(8)]
    assert all(0 < ms < 60_000 for ms in written["bound_ms"].values())
    image = min((workspace / "questions").rglob("*.png"))
    words = ("control", "run", tmp_path / "fast", "--question", "x?", "--image", image, "--budget-ms", "90000")
    code, out, said = ask(capsys, *words, "--repeats", "1", "--json")
    assert code == 0, said
    assert json.loads(out)["sample"]["config"]["answered_by"] == "FastModel"
    asked = ("control", "evaluate", workspace / "run", tmp_path / "fast", "--features", workspace / "features", *KEEP)
    code, _, said = ask(capsys, *asked)
    assert code == 2
    assert "bounds are of FastModel" in said


def _typed(evaluation):
    import msgspec

    return msgspec.convert(evaluation, ControlEvaluation)


def test_a_replay_makes_no_call_and_a_slower_machine_is_noticed(workspace, capsys, monkeypatch):
    monkeypatch.setattr("laptime.models.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    asked = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "policy",
        "--features",
        workspace / "features",
        *KEEP,
    )
    code, out, _ = ask(capsys, *asked, "--replay", "--slow-down", "8", "--json")
    assert code in (0, 1)
    evaluation = json.loads(out)
    assert evaluation["way"] == "replayed"
    assert [stream["online"] for stream in evaluation["slow_downs"]] == [False, True]
    later = evaluation["slow_downs"][1]["requests"][-1]
    assert later[4] is None or later[4] > 1.1  # the factor on the bounds, or nothing is promised any more


def test_further_questions_are_learnt_from(workspace, tmp_path, capsys):
    more = write_questions(workspace / "more", split="more", samples=12, first=500, types=("colour", "code"))
    words = ("control", "ask", workspace / "run", "--data", more, "--out", workspace / "answers", "--batch", "4")
    code, out, _ = ask(capsys, *words, "--device", "cpu", "--json", *KEEP)
    assert code == 0
    result = json.loads(out)
    assert (result["questions"], result["choices"]) == (12, 8)
    answers = ("--answers", workspace / "answers")
    code, out, _ = ask(capsys, *train(workspace, "more-policy", "--steps", "20"), *answers)
    assert code == 0
    timed = len(read_run_half(workspace))
    assert f"grpo of {timed + 12} questions" in out
    asked = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "more-policy",
        "--features",
        workspace / "features",
        *KEEP,
    )
    assert ask(capsys, *asked, *answers, "--replay")[0] in (0, 1)
    own = (*words[:4], workspace / "questions" / "questions.jsonl", *words[5:], "--device", "cpu", "--force", *KEEP)
    code, _, err = ask(capsys, *own)
    assert code == 0  # the sweep's own questions may be asked, but not be learnt from twice
    code, _, err = ask(capsys, *train(workspace, "twice", "--steps", "20"), *answers)
    assert code == 2
    assert "ids of their own" in err


def read_run_half(workspace):
    from laptime.cli.control_sweep import scored_sweep

    return scored_sweep(workspace / "run", keep=KEEP[1]).table.half("train")


def test_one_answer_says_whether_it_was_in_time(workspace, capsys):
    image = next((workspace / "questions" / "images").iterdir())
    asked = (
        "control",
        "run",
        workspace / "policy",
        "--question",
        "Read the small code?",
        "--image",
        image,
        "--device",
        "cpu",
    )
    code, out, _ = ask(capsys, *asked, "--budget-ms", "1e6", "--json")
    assert code == 0
    result = json.loads(out)
    decision = result["sample"]["decision"]
    assert decision["policy"] == "grpo"
    assert decision["budget_ms"] == 1e6
    assert result["sample"]["config"]["blocks"] == decision["blocks"]
    assert result["spent_ms"] <= 1e6
    code, out, _ = ask(capsys, *asked, "--budget-ms", "1e6", "--json", "--fast")
    quick = json.loads(out)
    assert (code, quick["text"]) == (0, result["text"])
    assert quick["sample"]["config"] == {**result["sample"]["config"], "answered_by": "FastModel"}
    code, _, err = ask(capsys, *asked, "--budget-ms", "0.01")
    assert code == 1
    assert "no choice was known to fit: the fastest was taken" in err


ASK = ("run", "policy", "--question", "What?", "--budget-ms")
TRAIN = ("train", "run", "--estimator", "est", "--features", "features", "--out", "x")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*ASK, "0"], "--budget-ms 0: write a time above 0"),
        ([*ASK, "soon"], "--budget-ms soon: write a time above 0"),
        (["run", "policy", "--question", " ", "--budget-ms", "9"], "--question is empty"),
        (["run", "est", "--question", "What?", "--budget-ms", "9"], "doesn't hold a policy"),
        ([*ASK, "9", "--image", "sweep.yaml"], "no readable image"),
        (["features", "questions", "--out", "x"], "holds no run"),
        (
            ["train", "run", "--estimator", "est", "--features", "policy", "--out", "x"],
            "doesn't hold a table of features",
        ),
        (["train", "run", "--estimator", "policy", "--features", "features", "--out", "x", *KEEP], "no estimator"),
        ([*TRAIN, *KEEP, "--sees", "smell"], "--sees smell"),
        ([*TRAIN, *KEEP, "--budget-range", "9:3"], "lower one first"),
        ([*TRAIN, *KEEP, "--budget-range", "ten"], "LOW:HIGH"),
        ([*TRAIN, "--keep", "dust"], "--keep dust: no such flag"),
        ([*TRAIN, *KEEP, "--answers", "policy"], "doesn't hold a table of answers"),
        (["ask", "run", "--data", "nowhere.jsonl", "--out", "x", *KEEP], "nowhere.jsonl"),
        (
            ["evaluate", "run", "policy", "--features", "features", "--budgets", "0", *KEEP],
            "--budgets 0: write a time above 0",
        ),
    ],
)
def test_bad_input_is_one_line(workspace, capsys, monkeypatch, words, line):
    monkeypatch.chdir(workspace)
    code, out, err = ask(capsys, "control", *words)
    assert code == 2
    assert out == ""
    lines = [one for one in err.splitlines() if one.startswith("laptime: ")]
    assert len(lines) == 1
    assert line in lines[0]
    assert "Traceback" not in err


def test_what_a_question_lacks_is_said_before_a_model_is_loaded(workspace, tmp_path, capsys, monkeypatch):
    words = train(workspace, tmp_path / "p", "--policy", "supervised", "--sees", "language,pixels", "--steps", "3")
    assert ask(capsys, *words)[0] == 0
    assert read_policy(tmp_path / "p")[0].policy.needs.pixels
    asked = ("control", "run", tmp_path / "p", "--question", "What?", "--budget-ms", "1e6", "--device", "cpu")
    image = next((workspace / "questions" / "images").iterdir())
    code, _, err = ask(capsys, *asked, "--image", image, "--model", "preset:tiny-llm")
    assert code == 2
    assert "of kind llava_next instead of qwen3" in err
    monkeypatch.setattr("laptime.models.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    code, _, err = ask(capsys, *asked)
    assert code == 2
    assert "--image is missing" in err


def test_an_estimator_of_another_model_is_refused(workspace, tmp_path, capsys):
    """Fitted on a sweep whose calls took ten times as long."""
    slower = tmp_path / "slower"
    shutil.copytree(workspace / "run", slower)
    for file in slower.glob("samples-*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for one in lines:
            for stages in (one["stages"], one["host_stages"]):
                stages.update({name: None if ms is None else ms * 10 for name, ms in stages.items()})
        file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert len(load_run(slower).samples) > QUESTIONS
    fit = ("fit", slower, "--target", "total_ms", "--group", "sample_id", "--out", tmp_path / "est", *KEEP)
    assert ask(capsys, *fit)[0] == 0
    words = (
        "control",
        "train",
        workspace / "run",
        "--estimator",
        tmp_path / "est",
        "--features",
        workspace / "features",
    )
    code, _, err = ask(capsys, *words, "--out", tmp_path / "policy", *KEEP)
    assert code == 2
    assert "an estimator of another model or machine" in err


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_nothing_is_overwritten_without_force_and_nothing_else_even_with_it(workspace, tmp_path, capsys):
    policy = contents(workspace / "policy")
    static = train(workspace, workspace / "policy", "--policy", "static")
    code, _, err = ask(capsys, *static)
    assert code == 2
    assert "is already there" in err
    words = ("control", "features", workspace / "run", *KEEP, "--out")
    code, _, err = ask(capsys, *words, workspace / "features")
    assert code == 2
    assert "is already there" in err
    code, _, err = ask(capsys, *words, workspace / "policy", "--force")
    assert code == 2
    assert "holds something else" in err
    assert contents(workspace / "policy") == policy
    page = tmp_path / "page.html"
    old = '<meta name="generator" content="laptime">'
    page.write_text(old)
    judge = (
        "control",
        "evaluate",
        workspace / "run",
        workspace / "policy",
        "--features",
        workspace / "features",
        "--replay",
        *KEEP,
    )
    code, _, err = ask(capsys, *judge, "--html", page)
    assert code == 2
    assert "is already there" in err
    assert page.read_text() == old
    assert ask(capsys, *judge, "--html", page, "--force")[0] in (0, 1)
    assert page.read_text().startswith("<!doctype html>")


KILLED = """
import os, signal, sys

def kill(event, given):
    if event == "open" and str(given[0]).endswith("bounds.safetensors") and "w" in (given[1] or ""):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
from laptime.cli.main import main
sys.exit(main())
"""
"""laptime, killed when it has written policy.json and is about to write the bounds."""


def test_a_kill_in_the_middle_of_saving_leaves_the_old_policy_with_its_own_bounds(workspace, tmp_path):
    shutil.copytree(workspace / "policy", tmp_path / "policy")
    before = contents(tmp_path / "policy")
    words = train(workspace, tmp_path / "policy", "--policy", "static", "--confidence", "0.8", "--force")
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    halves = [folder for folder in tmp_path.iterdir() if folder.name != "policy"]
    assert [sorted(file.name for file in folder.iterdir()) for folder in halves] == [
        ["policy.json", "policy.safetensors"]
    ]
    assert contents(tmp_path / "policy") == before
    assert laptime(words) == 0
    saved, bounds = read_policy(tmp_path / "policy")
    assert (saved.policy.name, bounds.confidence) == ("static", 0.8)


def test_policies_of_different_bounds_are_not_judged_together(workspace, tmp_path, capsys):
    words = train(workspace, tmp_path / "other", "--policy", "static", "--confidence", "0.8")
    assert ask(capsys, *words)[0] == 0
    both = (workspace / "policy", tmp_path / "other")
    code, _, err = ask(
        capsys, "control", "evaluate", workspace / "run", *both, "--features", workspace / "features", *KEEP
    )
    assert code == 2
    assert "has other bounds than" in err


@pytest.fixture
def blocks_that_ran(workspace):
    """Of every forward the blocks that ran, by their weights: their numbers are given anew where blocks are left out.

    A late choice is made after the first block; blocks that only let their input through run no attention.
    """
    model = load_model(str(workspace / "model"), device="cpu").model
    number_of = {key_of(layer): index for index, layer in enumerate(find_anatomy(model).layers)}
    forwards: list[list[int]] = []

    def entered(module, arguments):
        if isinstance(module, LlavaNextForConditionalGeneration):
            forwards.append([])
        if hasattr(module, "q_proj") and key_of(module) in number_of:
            forwards[-1].append(number_of[key_of(module)])

    handle = torch.nn.modules.module.register_module_forward_pre_hook(entered)
    yield forwards
    handle.remove()


def test_an_early_block_before_which_a_choice_leaves_blocks_out_is_refused(workspace, tmp_path, capsys):
    """The sweep ran blocks 0, 2, 5 and 7, so nothing can be chosen after block 2."""
    later = tmp_path / "later"
    shutil.copytree(workspace / "features", later)
    text = (later / "features.json").read_text()
    (later / "features.json").write_text(re.sub(r'"early_block":\s*1', '"early_block": 2', text))
    words = ["control", "train", workspace / "run", "--estimator", workspace / "est", "--features", later]
    words += ["--features", workspace / "features", "--out", tmp_path / "p", *KEEP]
    for more, says in (((), "early block 2: a choice of 4 blocks"), (("--answers", later), "several --features first")):
        code, out, err = ask(capsys, *words, *more)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert says in err
    assert not (tmp_path / "p").exists()


def key_of(module):
    weight = next(one for name, one in module.named_parameters() if name.endswith("q_proj.weight"))
    return tuple(weight[0, :4].tolist())


def test_what_was_measured_is_what_ask_runs(workspace, blocks_that_ran):
    write_questions(workspace / "more", split="further", samples=2, first=1000, types=("colour",))
    words = ("control", "ask", workspace / "run", "--data", workspace / "more/questions.jsonl", *KEEP)
    assert laptime([str(word) for word in (*words, "--out", workspace / "asked")]) == 0
    assert {tuple(ran) for ran in blocks_that_ran if len(ran) > 1} == {MEASURED, tuple(range(8))}


def test_what_was_measured_is_what_evaluate_runs(workspace, blocks_that_ran, capsys):
    words = ("control", "evaluate", workspace / "run", workspace / "policy", "--features", workspace / "features")
    more = ("--questions", "2", "--budgets", "30,5000", *KEEP)
    capsys.readouterr()
    assert laptime([str(word) for word in (*words, *more)]) in (0, 1)
    assert {tuple(ran) for ran in blocks_that_ran} == {MEASURED, tuple(range(8))}
    told = capsys.readouterr().err
    assert "126 calls, 74 of them" in told.replace("\xa0", " ")
    assert "--time-limit make it shorter" in told


def test_an_evaluation_that_is_stopped_judges_what_all_have_answered(workspace, capsys, monkeypatch):
    asked = AdaptiveModel.generate
    seen: list[str] = []

    def until_the_third(self, question, **given):
        seen.append(question.id)
        if len(set(seen)) == 3:
            raise KeyboardInterrupt
        return asked(self, question, **given)

    monkeypatch.setattr(AdaptiveModel, "generate", until_the_third)
    words = ("control", "evaluate", workspace / "run", workspace / "policy", "--features", workspace / "features")
    code, out, _ = ask(capsys, *words, "--questions", "4", "--budgets", "5000", *KEEP, "--json")
    assert code == 130
    evaluation = json.loads(out)
    assert evaluation["questions"] == 2
    assert [one["message"] for one in evaluation["findings"] if one["code"] == "interrupted"] == [
        "2 of 4 questions were asked before it was stopped: the intervals are of these alone"
    ]


def test_an_evaluation_ends_at_its_time_limit(workspace, capsys):
    words = ("control", "evaluate", workspace / "run", workspace / "policy", "--features", workspace / "features")
    more = ("--budgets", "5000", "--time-limit", "1", "--json", *KEEP)
    capsys.readouterr()
    assert laptime([str(word) for word in (*words, *more)]) in (0, 1)
    said, told = capsys.readouterr()
    evaluation = json.loads(said)
    assert evaluation["questions"] == 1
    (cut,) = [finding for finding in evaluation["findings"] if finding["code"] == "time-limit"]
    assert cut["message"].startswith("1 of ")
    assert "no question begins after 1.00" in told or "calls" in told


def test_a_sweep_that_does_not_say_which_blocks_ran_is_refused(workspace, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(workspace / "run", old)
    for file in (*old.glob("samples-*.jsonl"), old / "plan.json"):
        file.write_text(re.sub(r',?\s*"active_blocks":\s*"[^"]*"', "", file.read_text()))
    words = ("control", "features", old, "--out", tmp_path / "features", *KEEP)
    assert laptime([str(word) for word in words]) == 2
    assert "doesn't say which 4 blocks ran" in capsys.readouterr().err


def test_a_question_with_options_is_asked_and_read_as_one(workspace, capsys):
    image = next((workspace / "questions").rglob("*.png"))
    words = ("control", "run", workspace / "policy", "--model", workspace / "model", "--budget-ms", "5000")
    asked = (*words, "--image", image, "--question", "Which colour is it?", "--repeats", "1", "--json")
    lengths = []
    for choices in ((), ("--choice", "red", "--choice", "blue")):
        capsys.readouterr()
        assert laptime([str(word) for word in (*asked, *choices)]) in (0, 1)
        said = json.loads(capsys.readouterr().out)
        assert said["option"] in (None, "red", "blue")
        lengths.append(said["sample"]["prompt_tokens"] - said["sample"]["image_tokens"])
    assert lengths[1] > lengths[0]
    assert laptime([*map(str, words), "--question", "Which?", "--choice", "red"]) == 2
    assert "give 2 to 26 different options" in capsys.readouterr().err
