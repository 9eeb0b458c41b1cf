"""What an evaluation of policies says, in words. The page's headline is the terminal's last sentence."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from laptime.control.judge.result import BOUNDED, SMALLER_BUDGET, ControlEvaluation, Difference, PolicyPoint, SlowDown
from laptime.control.judge.verdict import (
    SIMPLE,
    SUPERVISED,
    as_good,
    at,
    baselines,
    budgets,
    differences_to,
    headline_budget,
    kept,
    main_policy,
    mean_gain_left,
    mean_regret,
    policy_names,
    role,
    surely,
    surely_late,
)
from laptime.data.record import Interval
from laptime.report.control.policies import in_sentence, sentence, title
from laptime.report.kit.numbers import (
    KEEP_TOGETHER,
    NOTHING,
    count,
    decimals,
    percent,
    plain_percent,
    plain_text,
    ratio,
    text,
    whole_percent,
)
from laptime.report.kit.text import counted, one_line

FEW_QUESTIONS = 10
"""McNemar's test, corrected for what is compared, tells no two policies apart with fewer."""

BASELINES_NAMED = 2
MISSES_NAMED = 4


def headline(evaluation: ControlEvaluation) -> str:
    """The answer at the middle budget: how often the policy in question is right, and its peers beside it."""
    budget = headline_budget(evaluation)
    main = main_policy(evaluation)
    point = at(evaluation, main, budget) if budget is not None else None
    if point is None or main is None or budget is None:
        return "No policy was judged"
    late = kept(point, evaluation.confidence, main) in {"missed", "unfit"}
    words = f"{'With a budget of' if late else 'Within'} {plain_text(budget, 'ms')}, {in_sentence(main)} answers "
    words += f"{whole_percent(point.accuracy.value)} right{_whole_ends(point.accuracy)}"
    words += "".join(f", {_beside(one, evaluation.confidence)}" for one in _peers(evaluation, budget))
    oracles = [name for name in policy_names(evaluation) if role(name, main) == "oracle"]
    limit = at(evaluation, oracles[0], budget) if oracles else None
    if limit is not None:
        words += f"; {in_sentence(oracles[0])} {whole_percent(limit.accuracy.value)}"
    if evaluation.questions < FEW_QUESTIONS:
        asked = f"{counted(evaluation.questions, 'question')} {'was' if evaluation.questions == 1 else 'were'} asked"
        return f"Only {asked}, too few to tell policies apart: {words[:1].lower()}{words[1:]}"
    if (simple := as_good(evaluation)) is None:
        return words
    compared = len(differences_to(evaluation, simple))
    where = f"at none of {compared} budgets" if compared > 1 else "at the one budget"
    how = "surely" if compared > 1 else "not surely"
    told = f"{in_sentence(main)} is {how} better than {in_sentence(simple)} {where} that can be compared"
    return f"{sentence(told)}: {words[:1].lower()}{words[1:]}"


def answer_lines(evaluation: ControlEvaluation) -> Iterator[str]:
    """What holds over all budgets: gains, distance to the oracle, the promise, the cost of deciding."""
    if gains := gain_words(evaluation):
        yield gains
    yield from promise_lines(evaluation)
    if costs := deciding_words(evaluation):
        yield costs
    if evaluation.way == "replayed":
        yield "Replayed: accuracy and times were looked up in a sweep's table. No call was measured for this."


def intervals_note(evaluation: ControlEvaluation) -> str:
    """What the intervals of differences are, and by what a difference is called sure instead."""
    made = len(evaluation.differences)
    if not any(one.p_corrected is not None for one in evaluation.differences):
        return "Each 95 % interval is of one difference; one that leaves out zero is called sure."
    return (
        f"Each 95 % interval is of one difference alone. Of {count(made)} of them some leave out zero by chance, so "
        '"surely" is corrected for all of them (Holm), and an interval without zero may still not be sure.'
    )


def gain_words(evaluation: ControlEvaluation) -> str:
    """At how many budgets the policy in question is surely better, and how far it is from the oracle.

    What rewards add over supervised learning comes first.
    """
    main = main_policy(evaluation)
    if main is None:
        return ""
    others = baselines(evaluation)
    named = others[:BASELINES_NAMED]
    if SUPERVISED in others and main not in SIMPLE:
        named = [SUPERVISED, *(name for name in named if name != SUPERVISED)]
    parts = [part for than in named if (part := _better_words(evaluation, than))]
    sentences = [f"{sentence(in_sentence(main))} is surely better {', '.join(parts)}."] if parts else []
    if (regret := mean_regret(evaluation)) is not None:
        who = "it" if parts else in_sentence(main)
        words = f"On average {who} is {_points_apart(regret)} the oracle"
        if (gap := mean_gain_left(evaluation)) is not None:
            words += f", and {_points_apart(gap)} {in_sentence(BOUNDED)}"
        sentences.append(f"{words}.")
    return " ".join(sentences)


def _better_words(evaluation: ControlEvaluation, than: str) -> str:
    """than the best static configuration at 3 of 5 budgets (+6.0 to +8.0 points)."""
    compared = differences_to(evaluation, than)
    if not compared:
        return ""
    every = len(budgets(evaluation))
    verdicts = [surely(one) for one in compared]
    least, most = (pick(one.accuracy.value for one in compared) for pick in (min, max))
    same = points_number(least) == points_number(most)
    span = points_text(most) if same else f"{points_number(least)} to {points_text(most)}"
    words = f"than {in_sentence(than)} at {verdicts.count('better')} of {counted(every, 'budget')}"
    words += f" ({span}{_at_equal(compared)})"
    words += f", worse at {verdicts.count('worse')}" if "worse" in verdicts else ""
    apart = every - len(compared)
    return words + (f", not comparable at {apart} (one of the two is late too often)" if apart > 0 else "")


def _points_apart(gap: float) -> str:
    return f"{decimals(abs(gap) * 100, 1)} points {'above' if gap < -5e-4 else 'below'}"


def promise_lines(evaluation: ControlEvaluation) -> Iterator[str]:
    """Whether policies with a bound kept the promise, and how often the others were in time."""
    main, confidence = main_policy(evaluation), evaluation.confidence
    state = [(point, kept(point, confidence, main)) for point in evaluation.points]
    alone = [name for name in policy_names(evaluation) if role(name, main) == "one knob"]
    judged = [point for point, how in state if how in {"kept", "short", "missed"} and point.policy not in alone]
    missed = [point for point, how in state if how == "missed"]
    short = [point for point, how in state if how == "short"]
    if judged:
        words = f"{plain_percent(confidence)} in time was promised."
        if missed:
            words += f" It was missed by {_misses(missed)}."
        else:
            number = len({point.policy for point in judged})
            who = "The one policy" if number == 1 else f"The {number} policies"
            words += f" {who} with a bound kept it at every feasible budget."
        yield words + (f" Below it by no more than chance: {_misses(short)}." if short else "")
    if unfit := [point for point, how in state if how == "unfit" and point.policy == main]:
        yield _unfit_words(sorted(unfit, key=lambda point: point.budget_ms))
    own = [point for point in evaluation.points if point.policy == main]
    if none := sum(point.unfit for point in own):
        every = counted(sum(point.questions for point in own), "answer")
        who = in_sentence(main or "")
        yield f"For {count(none)} of {every} of {who} no choice was known to fit: the fastest was taken."
    if alone:
        yield (
            f"With one knob alone the share in time was: {_reached(evaluation, alone)}. Where no setting of that knob "
            "is known to keep a budget, its fastest one is taken."
        )
    if loose := [name for name in policy_names(evaluation) if role(name, main) == "no bound"]:
        yield f"Without a bound the share in time was: {_reached(evaluation, loose)}."


def _unfit_words(points: list[PolicyPoint]) -> str:
    """At which budgets a policy promises nothing, and for how many questions nothing fits there. points: ascending."""
    *others, last = [plain_text(point.budget_ms, "ms") for point in points]
    where = f"{', '.join(others)} and {last}" if others else last
    least, most = (pick(point.unfit for point in points) for pick in (min, max))
    of = counted(points[0].questions, "question")
    which = count(most) if least == most else f"{count(least)} to {count(most)}"
    who = in_sentence(points[0].policy)
    return (
        f"At {where} no choice was known to fit for {which} of {of}. That is as many as may be late, or more, so {who} "
        "promises nothing there."
    )


def _reached(evaluation: ControlEvaluation, names: list[str]) -> str:
    """The share in time of each of these policies over all budgets."""
    return "; ".join(
        f"{in_sentence(name)} {_span([p for p in evaluation.points if p.policy == name])}" for name in names
    )


def deciding_words(evaluation: ControlEvaluation) -> str:
    """What deciding costs the policy in question at the headline's budget."""
    budget, main = headline_budget(evaluation), main_policy(evaluation)
    point = at(evaluation, main, budget) if budget is not None else None
    if point is None or point.deciding_ms is None or budget is None or not point.total_ms.value > 0:
        return ""
    share = percent(point.deciding_ms.value / point.total_ms.value)
    took, limit = text(point.deciding_ms.value, "ms"), plain_text(budget, "ms")
    return f"Deciding takes {took} a call, {share} of the median at {limit}."


def slow_down_words(pair: list[SlowDown]) -> str:
    """What a slow-down did to the share in time, without and with online correction."""
    first = pair[0]
    how = one_line(first.how, 80)
    words = (
        f"{sentence(in_sentence(first.policy))} at {plain_text(first.budget_ms, 'ms')}, {ratio(first.factor)} slower "
    )
    words += f"from request {first.at} on{f' ({how})' if how else ''}: {percent(first.before.value)} in time before, "
    return words + "then " + ", ".join(f"{percent(one.after.value)} {correction_words(one)}" for one in pair)


def correction_words(one: SlowDown) -> str:
    """Whether measured calls corrected the bounds in this stream."""
    return "with online correction" if one.online else "without online correction"


def difference_words(one: Difference) -> str:
    """GRPO − best static: +11.2 points (+7.9 to +14.5)."""
    words = f"{title(one.policy)} − {title(one.than)}: {points_text(one.accuracy.value)}"
    return words if one.accuracy.low is None else f"{words} ({points_ends(one.accuracy)})"


def at_words(one: Difference) -> str:
    """Whether both policies had the same budget: same budget, or equal attainment (lookup table at 27.5 ms)."""
    if one.at == "same budget":
        return "same budget"
    if one.than_budget_ms is None:
        return "equal attainment"
    than = title(one.than.removesuffix(SMALLER_BUDGET))
    return f"equal attainment ({than} at {plain_text(one.than_budget_ms, 'ms')})"


def facts(evaluation: ControlEvaluation) -> list[str]:
    """What was judged: questions, policies, budgets, how, on which machine."""
    limits = budgets(evaluation)
    span = f", {plain_text(limits[0], 'ms')} to {plain_text(limits[-1], 'ms')}" if len(limits) > 1 else ""
    machine = evaluation.environment
    return [
        counted(evaluation.questions, "question"),
        counted(len({point.policy for point in evaluation.points}), "policy", "policies"),
        counted(len(limits), "budget") + span,
        "measured calls" if evaluation.way == "measured" else "replayed from a sweep",
        *(["bounds corrected by earlier calls"] if evaluation.online else []),
        *([one_line(machine.gpu if machine.gpu and machine.device != "cpu" else machine.cpu, 80)] if machine else []),
    ]


def _peers(evaluation: ControlEvaluation, budget: float) -> Iterator[PolicyPoint]:
    """The first baselines' points; on a smaller budget if there is such a point and the policy is late without it."""
    for name in baselines(evaluation)[:BASELINES_NAMED]:
        whole, smaller = at(evaluation, name, budget), at(evaluation, name + SMALLER_BUDGET, budget)
        if whole is not None and smaller is not None and surely_late(whole, evaluation.confidence):
            yield smaller
        elif one := whole or smaller:
            yield one


def _beside(point: PolicyPoint, confidence: float) -> str:
    words = f"{in_sentence(point.policy)} {whole_percent(point.accuracy.value)}"
    late = surely_late(point, confidence)
    return words + (f" (but in time only {whole_percent(point.attainment.value)})" if late else "")


def _misses(points: list[PolicyPoint]) -> str:
    """Which policies were late, and at which budget or at how many."""
    misses = []
    for name in dict.fromkeys(point.policy for point in points):
        own = [point for point in points if point.policy == name]
        worst = min(own, key=lambda point: point.attainment.value)
        where = f"{percent(worst.attainment.value)} at {plain_text(worst.budget_ms, 'ms')}"
        if len(own) == 1:
            misses.append(f"{in_sentence(name)} ({where})")
        else:
            misses.append(f"{in_sentence(name)} at {len(own)} budgets (least: {where})")
    more = len(misses) - MISSES_NAMED
    rest = f" and {counted(more, 'other policy', 'other policies')}" if more > 0 else ""
    return ", ".join(misses[:MISSES_NAMED]) + rest


def _span(points: list[PolicyPoint]) -> str:
    shares = [point.attainment.value for point in points if isfinite(point.attainment.value)]
    if not shares:
        return NOTHING
    low, high = decimals(min(shares) * 100, 0), decimals(max(shares) * 100, 0)
    return f"{low if low == high else f'{low} to {high}'}{KEEP_TOGETHER}%"


def _at_equal(compared: list[Difference]) -> str:
    ways = {one.at for one in compared}
    return "" if ways == {"same budget"} else " at equal attainment" if len(ways) == 1 else ", some at equal attainment"


def _whole_ends(interval: Interval) -> str:
    if not _has_ends(interval):
        return ""
    return f" ({decimals((interval.low or 0) * 100, 0)} to {decimals((interval.high or 0) * 100, 0)})"


def _has_ends(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and isfinite(interval.high - interval.low)


def share_number(share: float) -> str:
    """A share in per cent with one decimal, for a column whose head has the sign: 81.3."""
    return decimals(share * 100, 1)


def share_ends(interval: Interval) -> str:
    """The interval of a share in per cent, without the sign: 78.1–84.2."""
    if not _has_ends(interval):
        return NOTHING
    return f"{share_number(interval.low or 0)}–{share_number(interval.high or 0)}"


def points_number(difference: float) -> str:
    """A difference of shares in points with its sign: +11.2, −0.3, 0.0."""
    written = decimals(difference * 100, 1)
    if written.strip("−") in ("0.0", NOTHING):
        return written.strip("−")
    return f"+{written}" if difference > 0 else written


def points_text(difference: float) -> str:
    """+11.2 points."""
    return f"{points_number(difference)}{KEEP_TOGETHER}points"


def points_ends(difference: Interval) -> str:
    """The interval of a difference: +7.9 to +14.5."""
    if not _has_ends(difference):
        return NOTHING
    return f"{points_number(difference.low or 0)} to {points_number(difference.high or 0)}"
