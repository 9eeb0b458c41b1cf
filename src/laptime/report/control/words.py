"""What an evaluation of policies says, in words: the page's headline and the terminal's last sentence are the same."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from laptime.control.judge.result import BOUNDED, ControlEvaluation, Difference, PolicyPoint, SlowDown
from laptime.data.record import Interval
from laptime.report.control.policies import (
    LESS,
    at,
    baselines,
    budgets,
    kept,
    main_policy,
    names,
    role,
    spoken,
    surely_late,
    title,
    told_budget,
)
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, number, percent, text
from laptime.report.kit.text import counted, one_line

BASELINES_TOLD = 2
MISSES_TOLD = 4


def headline(found: ControlEvaluation) -> str:
    """The answer at the middle budget: how often the policy in question is right, and what stands beside it."""
    budget = told_budget(found)
    main = main_policy(found)
    point = at(found, main, budget) if budget is not None else None
    if point is None or main is None or budget is None:
        return "No policy was judged"
    surely_late = kept(point, found.confidence, main) in {"missed", "unfit"}
    words = f"{'With a budget of' if surely_late else 'Within'} {budget_text(budget)}, {spoken(main)} answers "
    words += f"{_whole(point.accuracy.value)} right{_whole_ends(point.accuracy)}"
    words += "".join(f", {_beside(one, found.confidence)}" for one in _told_beside(found, budget))
    oracles = [name for name in names(found) if role(name, main) == "oracle"]
    limit = at(found, oracles[0], budget) if oracles else None
    return words + (f"; {spoken(oracles[0])} {_whole(limit.accuracy.value)}" if limit is not None else "")


def answer_lines(found: ControlEvaluation) -> Iterator[str]:
    """What holds over all budgets: gains, distance to the oracle, the promise, what deciding costs. Whole sentences."""
    if gains := gain_words(found):
        yield gains
    yield from promise_lines(found)
    if costs := deciding_words(found):
        yield costs
    if found.way == "replayed":
        yield "Replayed: accuracy and times were looked up in a sweep's table; no call was made for this."


def gain_words(found: ControlEvaluation) -> str:
    """At how many budgets the policy in question is surely better, and how far from the oracle it stays."""
    main = main_policy(found)
    parts = []
    for than in baselines(found)[:BASELINES_TOLD]:
        told = told_differences(found, than)
        if not told:
            continue
        sure = [one for one in told if surely(one.accuracy) == "better"]
        worse = [one for one in told if surely(one.accuracy) == "worse"]
        of = f"{len(sure)} of {counted(len(budgets(found)), 'budget')}"
        words = f"than {spoken(than)} at {of}"
        least, most = (pick(one.accuracy.value for one in told) for pick in (min, max))
        same = points_number(least) == points_number(most)
        span = points_text(most) if same else f"{points_number(least)} to {points_text(most)}"
        words += f" ({span}{_at_equal(told)})"
        words += f", worse at {len(worse)}" if worse else ""
        apart = len(budgets(found)) - len(told)
        parts.append(words + (f", not comparable at {apart}, where one of both is late too often" if apart > 0 else ""))
    sentence = f"{_capital(spoken(main))} is surely better {', '.join(parts)}" if parts and main else ""
    regrets = [one.regret.value for one in found.points if one.policy == main and one.regret is not None]
    if regrets:
        mean = sum(regrets) / len(regrets)
        way = f"{abs(mean) * 100:.1f} points {'above' if mean < -5e-4 else 'below'} the oracle on average"
        way += _below_bounded(found, main)
        sentence += f"; {way}" if sentence else f"{_capital(spoken(main or ''))} stays {way}"
    return f"{sentence}." if sentence else ""


def _below_bounded(found: ControlEvaluation, main: str | None) -> str:
    """How far below what choosing could gain within the same bounds."""
    pairs = [(at(found, BOUNDED, ms), at(found, main, ms)) for ms in budgets(found)]
    gaps = [most.accuracy.value - mine.accuracy.value for most, mine in pairs if most is not None and mine is not None]
    if not gaps:
        return ""
    mean = sum(gaps) / len(gaps)
    return f", {abs(mean) * 100:.1f} {'above' if mean < -5e-4 else 'below'} {spoken(BOUNDED)}"


def promise_lines(found: ControlEvaluation) -> Iterator[str]:
    """Whether the bounds kept what they promise, and what those without a bound reach."""
    main, sure = main_policy(found), whole_share(found.confidence)
    state = [(point, kept(point, found.confidence, main)) for point in found.points]
    judged = [point for point, how in state if how in {"kept", "short", "missed"}]
    missed = [point for point, how in state if how == "missed"]
    short = [point for point, how in state if how == "short"]
    if judged and not missed:
        count = len({point.policy for point in judged})
        who = "the one policy" if count == 1 else f"the {count} policies"
        held = f"{sure} in time was promised, and kept at every feasible budget by {who} with a bound"
        yield held + (f" ({_misses(short)}: short by no more than chance explains)." if short else ".")
    elif missed:
        held = f"{sure} in time was promised, and missed by {_misses(missed)}"
        yield held + (f"; {_misses(short)} short by no more than chance explains." if short else ".")
    if unfit := [point for point, how in state if how == "unfit" and point.policy == main]:
        listed = ", ".join(budget_text(point.budget_ms) for point in unfit)
        yield f"At {listed} too few questions have a choice that fits, so {spoken(main or '')} promises nothing there."
    loose = [name for name in names(found) if role(name, main) == "no bound"]
    if loose:
        reached = [f"{spoken(name)} {_span([p for p in found.points if p.policy == name])}" for name in loose]
        yield f"In time without a bound: {'; '.join(reached)}."


def deciding_words(found: ControlEvaluation) -> str:
    """What deciding costs the policy in question at the headline's budget."""
    budget, main = told_budget(found), main_policy(found)
    point = at(found, main, budget) if budget is not None else None
    if point is None or point.deciding_ms is None or budget is None or not point.total_ms.value > 0:
        return ""
    share = percent(point.deciding_ms.value / point.total_ms.value)
    return (
        f"Deciding takes {text(point.deciding_ms.value, 'ms')} a call, {share} of the median at {budget_text(budget)}."
    )


def told_differences(found: ControlEvaluation, than: str) -> list[Difference]:
    """The differences of the policy in question to another, one for each budget.

    At the same budget where both were in time often enough; else at equal attainment, the other having been told less.
    """
    main = main_policy(found)
    told: dict[float, Difference] = {}
    for one in found.differences:
        mine = one.policy == main and one.than.removesuffix(LESS) == than
        if mine and (one.at == "same budget" or one.budget_ms not in told):
            told[one.budget_ms] = one
    return [told[budget] for budget in sorted(told)]


def slow_down_words(pair: list[SlowDown]) -> str:
    """What a slow-down did to the share in time, without and with online correction, in one sentence."""
    first = pair[0]
    how = one_line(first.how, 80)
    words = (
        f"{_capital(spoken(first.policy))} at {budget_text(first.budget_ms)}, {first.factor:.3g}× slower from request "
    )
    words += f"{first.at} on{f' ({how})' if how else ''}: {percent(first.before.value)} in time before; after it "
    return words + ", ".join(f"{percent(one.after.value)} {correction_words(one)}" for one in pair)


def correction_words(one: SlowDown) -> str:
    """Whether the stream was corrected by what was measured."""
    return "with online correction" if one.online else "without online correction"


def paired_slow_downs(found: ControlEvaluation) -> list[list[SlowDown]]:
    """Streams of one policy and budget together, the one without correction first; the policy in question first."""
    order = names(found)
    groups: dict[tuple[str, float, str], list[SlowDown]] = {}
    for one in found.slow_downs:
        groups.setdefault((one.policy, one.budget_ms, one.how), []).append(one)
    pairs = [sorted(group, key=lambda one: one.online) for group in groups.values()]
    return sorted(pairs, key=lambda pair: order.index(pair[0].policy) if pair[0].policy in order else len(order))


def surely(difference: Interval) -> str:
    """better, worse, or unsure when the interval holds zero or there is none."""
    if difference.low is not None and difference.low > 0:
        return "better"
    return "worse" if difference.high is not None and difference.high < 0 else "unsure"


def difference_words(one: Difference) -> str:
    """GRPO − best static: +11.2 points (+7.9 to +14.5)."""
    said = f"{title(one.policy)} − {title(one.than)}: {points_text(one.accuracy.value)}"
    return said if one.accuracy.low is None else f"{said} ({points_ends(one.accuracy)})"


def at_words(one: Difference) -> str:
    """Under which condition a difference was taken."""
    if one.at == "same budget":
        return "same budget"
    given = f" ({title(one.than)} with {budget_text(one.than_budget_ms)})" if one.than_budget_ms is not None else ""
    return f"equal attainment{given}"


def facts(found: ControlEvaluation) -> list[str]:
    """What was judged: questions, budgets, how, on what."""
    limits = budgets(found)
    span = f", {budget_text(limits[0])} to {budget_text(limits[-1])}" if len(limits) > 1 else ""
    machine = found.environment
    return [
        counted(found.questions, "question"),
        counted(len({point.policy for point in found.points}), "policy", "policies"),
        counted(len(limits), "budget") + span,
        "measured calls" if found.way == "measured" else "replayed from a sweep",
        *(["bounds corrected by the calls before"] if found.online else []),
        *([one_line(machine.gpu if machine.gpu and machine.device != "cpu" else machine.cpu, 80)] if machine else []),
    ]


def _told_beside(found: ControlEvaluation, budget: float) -> Iterator[PolicyPoint]:
    """The first baselines' points; told less where the whole policy is late too often and there is such a point."""
    for name in baselines(found)[:BASELINES_TOLD]:
        whole, less = at(found, name, budget), at(found, name + LESS, budget)
        if whole is not None and less is not None and surely_late(whole, found.confidence):
            yield less
        elif one := whole or less:
            yield one


def _beside(point: PolicyPoint, confidence: float) -> str:
    words = f"{spoken(point.policy)} {_whole(point.accuracy.value)}"
    late = surely_late(point, confidence)
    return words + (f" but in time only {_whole(point.attainment.value)}" if late else "")


def _misses(points: list[PolicyPoint]) -> str:
    """Which policies were late, at which budget or at how many."""
    told = []
    for name in dict.fromkeys(point.policy for point in points):
        own = [point for point in points if point.policy == name]
        worst = min(own, key=lambda point: point.attainment.value)
        where = f"{percent(worst.attainment.value)} at {budget_text(worst.budget_ms)}"
        told.append(
            f"{spoken(name)} ({where})" if len(own) == 1 else f"{spoken(name)} at {len(own)} budgets (least: {where})"
        )
    more = len(told) - MISSES_TOLD
    return ", ".join(told[:MISSES_TOLD]) + (
        f" and {counted(more, 'other policy', 'other policies')}" if more > 0 else ""
    )


def _span(points: list[PolicyPoint]) -> str:
    shares = [point.attainment.value for point in points if isfinite(point.attainment.value)]
    if not shares:
        return NOTHING
    low, high = f"{min(shares) * 100:.0f}", f"{max(shares) * 100:.0f}"
    return f"{low if low == high else f'{low} to {high}'}{KEEP_TOGETHER}%"


def _at_equal(told: list[Difference]) -> str:
    ways = {one.at for one in told}
    return "" if ways == {"same budget"} else " at equal attainment" if len(ways) == 1 else ", some at equal attainment"


def _whole(share: float) -> str:
    return f"{share * 100:.0f}{KEEP_TOGETHER}%" if isfinite(share) else NOTHING


def _whole_ends(interval: Interval) -> str:
    if interval.low is None or interval.high is None or not isfinite(interval.high - interval.low):
        return ""
    return f" ({interval.low * 100:.0f} to {interval.high * 100:.0f})"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def budget_text(budget_ms: float) -> str:
    """A budget in four digits at most: 30 ms, 12.5 ms, 23.84 ms."""
    return f"{budget_number(budget_ms)}{KEEP_TOGETHER}ms"


def budget_number(budget_ms: float) -> str:
    """The same without its unit."""
    written = number(budget_ms, 4)
    return written.rstrip("0").rstrip(".") if "." in written else written


def whole_share(share: float) -> str:
    """A round share as it was asked for: 95 %."""
    return f"{100 * share:g}{KEEP_TOGETHER}%"


def share_ends(interval: Interval) -> str:
    """The interval of a share in per cent, without the sign: 78.1–84.2."""
    if interval.low is None or interval.high is None or not isfinite(interval.high - interval.low):
        return NOTHING
    return f"{interval.low * 100:.1f}–{interval.high * 100:.1f}"


def points_number(difference: float) -> str:
    """A difference of shares in points with its sign: +11.2, −0.3."""
    if not isfinite(difference):
        return NOTHING
    written = f"{abs(difference) * 100:.1f}"
    return written if written == "0.0" else f"{'−' if difference < 0 else '+'}{written}"


def points_text(difference: float) -> str:
    """+11.2 points."""
    return f"{points_number(difference)}{KEEP_TOGETHER}points"


def points_ends(difference: Interval) -> str:
    """The interval of a difference: +7.9 to +14.5."""
    if difference.low is None or difference.high is None or not isfinite(difference.high - difference.low):
        return NOTHING
    return f"{points_number(difference.low)} to {points_number(difference.high)}"
