"""What an evaluation of policies says in words: the answer, the gains, the promise; and which policy is which."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from msgspec.structs import replace

from laptime.control.judge.result import ControlEvaluation, Difference, PolicyPoint
from laptime.control.judge.verdict import (
    baselines,
    differences_to,
    headline_budget,
    kept,
    main_policy,
    paired_slow_downs,
    policy_names,
)
from laptime.data.record import Interval
from laptime.data.stats import wilson
from laptime.report.control.words import (
    answer_lines,
    at_words,
    deciding_words,
    difference_words,
    facts,
    gain_words,
    headline,
    intervals_note,
    promise_lines,
    slow_down_words,
)
from tests.report.control.sample_controls import BUDGETS, an_evaluation, changed, slow_down


def plain(words: str) -> str:
    return words.replace("\xa0", " ")


def a_point(policy: str, budget: float = 30.0, right: float = 0.7, in_time: float = 0.98, **more: Any) -> PolicyPoint:
    return PolicyPoint(
        policy=policy,
        budget_ms=budget,
        questions=400,
        accuracy=wilson(right, 400),
        attainment=wilson(in_time, 400),
        total_ms=Interval(20.0, 19.8, 20.2, 400),
        total_p95_ms=28.0,
        **more,
    )


def an_evaluation_of(*points: PolicyPoint, **more: Any) -> ControlEvaluation:
    return changed(points=list(points), differences=[], slow_downs=[], training=[], findings=[], **more)


def a_difference(than: str, value: float, low: float | None, high: float | None, **more: Any) -> Difference:
    given = {"budget_ms": 30.0, "policy": "grpo"} | more
    return Difference(than=than, accuracy=Interval(value, low, high, 400), **given)


def test_the_headline_answers_in_one_sentence() -> None:
    evaluation = an_evaluation_of(
        a_point("grpo", right=0.81), a_point("static", right=0.69), a_point("lookup", right=0.66),
        a_point("oracle", right=0.84), a_point("mean-based", right=0.9, in_time=0.6),
    )  # fmt: skip
    assert plain(headline(evaluation)) == (
        "Within 30 ms, GRPO answers 81 % right (77 to 85), the best static configuration 69 %, a lookup table 66 %; "
        "the oracle 84 %"
    )


def test_an_answer_that_was_late_too_often_is_not_called_within() -> None:
    late = an_evaluation_of(a_point("grpo", right=0.81, in_time=0.9))
    assert plain(headline(late)).startswith("With a budget of 30 ms, GRPO answers")
    assert headline(an_evaluation_of()) == "No policy was judged"


def test_the_headline_speaks_of_the_middle_feasible_budget() -> None:
    points = [a_point("grpo", budget) for budget in (10.0, 20.0, 30.0, 40.0, 50.0)]
    assert headline_budget(an_evaluation_of(*points)) == 30.0
    unfit = [replace(point, unfit=300 if point.budget_ms < 25 else 0) for point in points]
    assert headline_budget(an_evaluation_of(*unfit)) == 40.0


def test_the_policy_in_question_is_the_one_that_differences_are_about() -> None:
    points = [a_point("oracle", right=0.99), a_point("static", right=0.9), a_point("grpo-language"), a_point("other")]
    assert main_policy(an_evaluation_of(*points)) == "grpo-language"
    about = replace(an_evaluation_of(*points), differences=[a_difference("static", 0.1, 0.0, 0.2, policy="other")])
    assert main_policy(about) == "other"
    assert baselines(about) == ["static"]
    assert policy_names(about)[0] == "other"
    assert policy_names(about)[-1] == "oracle"
    without = an_evaluation_of(a_point("oracle", right=0.99), a_point("analytic", right=0.98), a_point("static"))
    assert main_policy(without) == "static"
    assert main_policy(an_evaluation_of()) is None


@pytest.mark.parametrize(
    ("policy", "in_time", "unfit", "expected"),
    [
        ("static", 0.98, 0, "kept"),
        ("static", 0.95, 0, "kept"),
        ("static", 0.94, 0, "short"),
        ("static", 0.9, 0, "missed"),
        ("static", 0.9, 19, "missed"),
        ("static", 0.9, 20, "unfit"),
        ("lookup", 0.6, 0, "no promise"),
        ("lookup, told less", 0.97, 0, "no promise"),
        ("grpo, mean budgets", 0.6, 0, "no promise"),
        ("mean-based", 0.6, 0, "no promise"),
        ("analytic", 0.6, 0, "no promise"),
        ("grpo (roofline)", 0.6, 0, "no promise"),
        ("meaningful", 0.9, 0, "missed"),
        ("oracle", 0.6, 0, "upper limit"),
        ("per type, top-k only", 0.6, 0, "one knob"),
        ("per type, top-k only", 0.6, 20, "unfit"),
        ("per type, blocks only", 0.96, 0, "kept"),
    ],
)
def test_a_promise_is_kept_short_or_missed(policy: str, in_time: float, unfit: int, expected: str) -> None:
    assert kept(a_point(policy, in_time=in_time, unfit=unfit), 0.95, "grpo") == expected


def test_kept_promises_are_one_sentence_and_peers_stand_beside() -> None:
    evaluation = an_evaluation_of(
        a_point("grpo"), a_point("static"), a_point("mean-based", in_time=0.61),
        a_point("mean-based", 40.0, in_time=0.55), a_point("analytic", in_time=0.23),
    )  # fmt: skip
    assert [plain(line) for line in promise_lines(evaluation)] == [
        "95 % in time was promised. The 2 policies with a bound kept it at every feasible budget.",
        "Without a bound the share in time was: analytic 23 %; mean-based 55 to 61 %.",
    ]


def test_missed_promises_are_named_and_chance_is_told_apart() -> None:
    evaluation = an_evaluation_of(
        a_point("grpo", in_time=0.94), a_point("static", in_time=0.9), a_point("supervised", 20.0, in_time=0.85),
        a_point("supervised", 30.0, in_time=0.8),
    )  # fmt: skip
    assert [plain(line) for line in promise_lines(evaluation)] == [
        "95 % in time was promised. It was missed by the best static configuration (90.0 % at 30 ms), supervised at "
        "2 budgets (least: 80.0 % at 30 ms). Below it by no more than chance: GRPO (94.0 % at 30 ms)."
    ]


def test_an_infeasible_budget_is_said() -> None:
    points = [a_point("grpo", 12.5, unfit=20), a_point("grpo", 10.0, in_time=0.2, unfit=390), a_point("grpo", 30.0)]
    evaluation = an_evaluation_of(*points)
    lines = [plain(line) for line in promise_lines(evaluation)]
    assert lines[0].endswith("The one policy with a bound kept it at every feasible budget.")
    said = "That is as many as may be late, or more, so GRPO promises nothing there."
    assert lines[1] == f"At 10 ms and 12.5 ms no choice was known to fit for 20 to 390 of 400 questions. {said}"
    one = [plain(line) for line in promise_lines(an_evaluation_of(*points[1:]))]
    assert one[1] == f"At 10 ms no choice was known to fit for 390 of 400 questions. {said}"


def test_a_policy_of_one_knob_alone_misses_no_promise() -> None:
    """Where none of its settings fits it takes the fastest one, whatever its bounds say."""
    evaluation = an_evaluation_of(
        a_point("grpo"),
        a_point("per type, tier only", 20.0, in_time=0.0),
        a_point("per type, tier only", in_time=0.98),
    )
    assert [plain(line) for line in promise_lines(evaluation)] == [
        "95 % in time was promised. The one policy with a bound kept it at every feasible budget.",
        "With one knob alone the share in time was: per type, tier only 0 to 98 %. Where no setting of that knob is "
        "known to keep a budget, its fastest one is taken.",
    ]
    about = replace(evaluation, differences=[a_difference("per type, tier only", 0.1, 0.0, 0.2)])
    assert baselines(about) == ["per type, tier only"]


def test_a_replay_is_called_one() -> None:
    assert list(answer_lines(changed(way="replayed")))[-1].startswith("Replayed:")
    assert not any("eplayed" in line for line in answer_lines(an_evaluation()))


def test_bounds_that_were_corrected_are_said_to_be() -> None:
    words = "bounds corrected by earlier calls"
    assert words in facts(changed(online=True))
    assert words not in facts(changed(online=False))


def test_how_far_an_oracle_within_the_same_bounds_is_ahead_is_said() -> None:
    points = [a_point("grpo", ms, right=0.9, regret=Interval(0.05, 0.0, 0.1, 400)) for ms in (20.0, 30.0)]
    points += [a_point("oracle", ms, right=0.95) for ms in (20.0, 30.0)]
    points += [a_point("oracle, same bounds", ms, right=right) for ms, right in ((20.0, 0.91), (30.0, 0.94))]
    evaluation = an_evaluation_of(*points)
    assert plain(gain_words(evaluation)) == (
        "On average GRPO is 5.0 points below the oracle, and 2.5 points below an oracle within the same bounds."
    )


def test_gains_count_only_what_is_more_than_chance() -> None:
    points = [a_point("grpo", budget, regret=Interval(0.01, 0.0, 0.02, 400)) for budget in (20.0, 30.0, 40.0)]
    points += [a_point("static", budget) for budget in (20.0, 30.0, 40.0)]
    differences = [
        a_difference("static", 0.112, 0.079, 0.145, budget_ms=20.0),
        a_difference("static", 0.01, -0.01, 0.03, budget_ms=30.0),
        a_difference("static", -0.05, -0.08, -0.02, budget_ms=40.0),
    ]
    evaluation = replace(an_evaluation_of(*points), differences=differences)
    assert plain(gain_words(evaluation)) == (
        "GRPO is surely better than the best static configuration at 1 of 3 budgets (−5.0 to +11.2 points), "
        "worse at 1. On average it is 1.0 points below the oracle."
    )


def test_a_baseline_that_was_late_is_compared_at_equal_attainment() -> None:
    """A lookup table is one policy, in time as it is or under a smaller budget."""
    points = [
        a_point(name, budget) for name in ("grpo", "lookup", "lookup, told less") for budget in (30.0, 40.0, 50.0)
    ]
    equal = a_difference("lookup, told less", 0.1, 0.05, 0.15, at="equal attainment", than_budget_ms=27.5)
    same = a_difference("lookup", 0.2, 0.1, 0.3, budget_ms=40.0)
    both = replace(equal, budget_ms=40.0)
    for order in ([same, both, equal], [equal, both, same]):
        evaluation = replace(an_evaluation_of(*points), differences=order)
        assert baselines(evaluation) == ["lookup"]
        assert differences_to(evaluation, "lookup") == [equal, same]
    assert plain(gain_words(evaluation)) == (
        "GRPO is surely better than a lookup table at 2 of 3 budgets (+10.0 to +20.0 points, some at equal "
        "attainment), not comparable at 1 (one of the two is late too often)."
    )
    assert plain(at_words(equal)) == "equal attainment (lookup table at 27.5 ms)"
    assert at_words(same) == "same budget"


def test_a_baseline_that_is_late_says_so_in_the_headline() -> None:
    late = a_point("lookup", right=0.9, in_time=0.5)
    less = a_point("lookup, told less", right=0.66)
    assert "a lookup table 90 % (but in time only 50 %)" in plain(headline(an_evaluation_of(a_point("grpo"), late)))
    assert plain(headline(an_evaluation_of(a_point("grpo"), late, less))).endswith(
        "a lookup table with a smaller budget 66 %"
    )
    in_time = a_point("lookup", right=0.68)
    assert plain(headline(an_evaluation_of(a_point("grpo"), in_time, less))).endswith("a lookup table 68 %")


def test_the_same_policy_on_other_budgets_is_no_baseline() -> None:
    points = [
        a_point("grpo"),
        a_point("grpo, mean budgets"),
        a_point("supervised"),
        a_point("static"),
        a_point("oracle"),
    ]
    differences = [a_difference(point.policy, 0.1, 0.05, 0.15) for point in reversed(points[1:])]
    evaluation = replace(an_evaluation_of(*points), differences=differences)
    assert baselines(evaluation) == ["static", "supervised"]
    assert policy_names(evaluation) == ["grpo", "static", "supervised", "grpo, mean budgets", "oracle"]
    assert "GRPO on mean budgets 98 %" in plain(" ".join(promise_lines(evaluation)))


def test_what_deciding_costs() -> None:
    costly = a_point("grpo", deciding_ms=Interval(0.1, 0.09, 0.11, 400))
    assert plain(deciding_words(an_evaluation_of(costly))) == (
        "Deciding takes 0.100 ms a call, 0.50 % of the median at 30 ms."
    )
    assert deciding_words(an_evaluation_of(a_point("grpo"))) == ""


def test_a_difference_in_words() -> None:
    one = a_difference("static", 0.112, 0.079, 0.145)
    assert plain(difference_words(one)) == "GRPO − best static: +11.2 points (+7.9 to +14.5)"
    assert plain(difference_words(a_difference("x", -0.0001, None, None))) == "GRPO − x: 0.0 points"


def test_a_slow_down_in_words() -> None:
    with_, without = slow_down(online=True), slow_down(online=False)
    evaluation = changed(slow_downs=[with_, without, replace(with_, policy="static")])
    (pair, lone) = paired_slow_downs(evaluation)
    assert pair == [without, with_]
    before, after = (plain(f"{100 * one.value:.1f} %") for one in (without.before, without.after))
    assert plain(slow_down_words(pair)) == (
        f"GRPO at 45 ms, 1.50× slower from request 200 on (clocks locked at 990 MHz): {before} in time before, then "
        f"{after} without online correction, {100 * with_.after.value:.1f} % with online correction"
    )
    assert lone[0].policy == "static"


def test_the_sample_is_worth_drawing() -> None:
    evaluation = an_evaluation()
    at = {(point.policy, point.budget_ms): point for point in evaluation.points}
    for budget in BUDGETS:
        assert at["static", budget].accuracy.value < at["grpo", budget].accuracy.value
        assert at["grpo", budget].accuracy.value <= at["oracle", budget].accuracy.value
        assert at["grpo", budget].attainment.value > 0.95
        assert sum(share.count for share in at["grpo", budget].choices) == evaluation.questions
    assert at["grpo, analytic budgets", BUDGETS[2]].attainment.value < 0.6


def test_the_faces_of_control_import_no_torch() -> None:
    parts = ", ".join(f"laptime.report.{name}" for name in ("control.page", "control.terminal"))
    code = f"import sys, {parts}; print([n for n in ('torch', 'transformers', 'polars', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_simple_policy_that_is_as_good_is_said_in_the_first_line() -> None:
    points = [a_point(name, right=right) for name, right in (("grpo", 0.81), ("per type", 0.8), ("static", 0.6))]
    better = a_difference("static", 0.21, 0.15, 0.27, p=1e-6, p_corrected=1e-5)
    unsure = a_difference("per type", 0.01, 0.001, 0.019, p=0.03, p_corrected=0.06)
    told = plain(headline(replace(an_evaluation_of(*points), differences=[better, unsure])))
    assert told.startswith(
        "GRPO is not surely better than a per-type lookup with the same bounds at the one budget that can be compared: "
        "within 30 ms, GRPO answers 81 %"
    )
    sure = replace(unsure, p_corrected=0.01)
    assert plain(headline(replace(an_evaluation_of(*points), differences=[better, sure]))).startswith("Within 30 ms")


def test_few_questions_tell_no_policies_apart_and_the_headline_says_so() -> None:
    told = plain(headline(replace(an_evaluation_of(a_point("grpo"), a_point("static")), questions=1)))
    assert told.startswith("Only 1 question was asked, too few to tell policies apart: within 30 ms, GRPO answers")
    told = plain(headline(replace(an_evaluation_of(a_point("grpo"), a_point("static")), questions=10)))
    assert told.startswith("Within 30 ms")


@pytest.mark.parametrize(("questions", "in_time", "late"), [(1, 0.0, False), (2, 0.0, True), (40, 0.9, False)])
def test_one_late_answer_of_one_misses_no_promise(questions: int, in_time: float, late: bool) -> None:
    point = replace(a_point("grpo", in_time=in_time), questions=questions, attainment=wilson(in_time, questions))
    assert (kept(point, 0.95, "grpo") == "missed") is late


def test_what_rewards_add_over_supervised_learning_is_the_first_gain() -> None:
    points = [a_point(name) for name in ("grpo", "lookup", "static", "supervised")]
    differences = [a_difference(point.policy, 0.1, 0.05, 0.15) for point in points[1:]]
    told = plain(gain_words(replace(an_evaluation_of(*points), differences=differences)))
    assert told.startswith(
        "GRPO is surely better than supervised at 1 of 1 budget (+10.0 points), than the best static"
    )
    of_itself = [replace(one, policy="supervised") for one in differences[:2]]
    told = plain(gain_words(replace(an_evaluation_of(*points), differences=of_itself)))
    assert told.startswith("Supervised is surely better than the best static")


def test_answers_for_which_nothing_fitted_are_counted() -> None:
    points = (a_point("grpo", 20.0, unfit=7), a_point("grpo", 30.0), a_point("static", 20.0, unfit=9))
    told = [plain(line) for line in answer_lines(an_evaluation_of(*points))]
    assert "For 7 of 800 answers of GRPO no choice was known to fit: the fastest was taken." in told


def test_intervals_that_the_verdict_does_not_use_are_said_to_be_of_one_difference() -> None:
    """+26.7 points (+1.3 to +52.0), and still not surely better: corrected for all that is compared."""
    alone = a_difference("static", 0.267, 0.013, 0.52)
    old = replace(an_evaluation_of(a_point("grpo"), a_point("static")), differences=[alone])
    assert "one that leaves out zero is called sure" in plain(intervals_note(old))
    corrected = a_difference("static", 0.267, 0.013, 0.52, p_corrected=0.2)
    new = replace(old, differences=[corrected] * 3)
    assert "Of 3 of them" in plain(intervals_note(new))
    assert "an interval without zero may still not be sure" in plain(intervals_note(new))
