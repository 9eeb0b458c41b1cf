"""Write the figures of the controller's benchmarks into docs/appendix/control-figures.md, between its markers.

python benchmarks/control_docs.py

after control_glyphs.py, control_fast.py, control_cost.py, control_training.py and token_pruning.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from into_docs import RESULTS, ROOT, result

BEGIN, END = "<!-- control:begin -->\n", "<!-- control:end -->"
SIMPLE = ("logistic", "per type", "per type, tier only", "per type, top-k only", "per type, blocks only")
FIXED = ("static", "lookup", "lookup, told less")
ORACLES = ("oracle, same bounds", "oracle")
SHOWN = ("grpo", "grpo-pixels", "grpo-language", "grpo-budget", "supervised", *SIMPLE, *FIXED,
         "grpo, mean budgets", "grpo, analytic budgets", *ORACLES)  # fmt: skip
LABELS = {"lookup, told less": "lookup, less budget"}
"""What readers see instead of a policy's name in the results."""
FAST = ("control-fast-wide", "control-fast")
"""Evaluations on FastModel: of the wide glyphs model, and of the one that is committed."""
HOW = {"measured": "measured calls", "replayed": "looked up in the sweep, where each was measured once"}


def main() -> None:
    """Fill the marked block."""
    file = ROOT / "docs" / "appendix" / "control-figures.md"
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [evaluation(name.stem) for name in sorted(RESULTS.glob("control_glyphs*.json"))]
    parts += [evaluation(name) for name in FAST]
    parts.append(uncorrected("control-fast-uncorrected"))
    parts += [cost(name.stem) for name in sorted(RESULTS.glob("control_cost*.json"))]
    if (RESULTS / "control_training.json").exists():
        parts.append(training())
    if (RESULTS / "token_pruning.json").exists():
        parts.append(pruning())
    file.write_text(before + BEGIN + "\n".join(parts) + END + after, encoding="utf-8")
    print(file.relative_to(ROOT))


def evaluation(name: str) -> str:
    """Accuracy and attainment of every policy at every budget, differences, and the slower machine."""
    record = result(name)
    evaluation = record["figures"].get("evaluation", record["figures"])
    points = {(p["policy"], p["budget_ms"]): p for p in evaluation["points"]}
    policies = [policy for policy in SHOWN if any(policy == one for one, _ in points)]
    budgets = evaluation["budgets_ms"]
    asked = f"{evaluation['questions']} held-out questions, {HOW[evaluation['way']]}"
    lines = [f"`{record['command']}`: {place(record)}, {asked}.", ""]
    lines += ["Right, % (in time, %):", "", f"| policy | {' | '.join(map(budget, budgets))} |"]
    lines.append("|---|" + "---|" * len(budgets))
    lines += [
        f"| {LABELS.get(one, one)} | " + " | ".join(cell(points[one, ms]) for ms in budgets) + " |" for one in policies
    ]
    lines += ["", *fast_path(record["figures"]), *differences(evaluation), *slower(evaluation)]
    return "\n".join(lines) + "\n"


def budget(ms: float) -> str:
    """A budget with three digits or more."""
    return f"{ms:.1f} ms" if ms >= 10 else f"{ms:.2f} ms"


def fast_path(figures: dict[str, Any]) -> Iterator[str]:
    """What is said of answers on FastModel beside the evaluation; nothing of the plain path."""
    if "evaluation" not in figures:
        return
    usual = [choice["total_ms"] for choice in figures["choices"].values()]
    deciding = [p["deciding_ms"]["value"] for p in figures["evaluation"]["points"] if p["policy"] == "grpo"]
    yield (
        f"- On FastModel, {figures['learn']} questions to learn from. A choice takes {min(usual):.2f} to "
        f"{max(usual):.2f} ms (medians), the model's own call {figures['eager_ms']:.1f} ms. With all knobs at their "
        f"most the answer is the model's own for {figures['equal_in_float32']} questions in float32 and "
        f"{figures['equal_to_eager']} in bfloat16. GRPO decides in "
        f"{max(deciding):.3f} ms."
    )
    if (live := figures.get("live_over_learnt")) is not None:
        yield (
            f"- Answers took {live['p5']:.3f} to {live['p95']:.3f} times what their setting took while the bounds were "
            f"learnt (5th to 95th percentile), {live['median']:.3f} in the median."
        )
    learnt = "corrected by earlier calls" if figures["evaluation"].get("online") else "as they were learnt, uncorrected"
    yield f"- Bounds: {learnt}."
    yield from infeasible(figures["evaluation"])
    for finding in figures["evaluation"].get("findings", []):
        message = finding["message"].replace("grpo", "GRPO")
        yield f"- {message[:1].upper()}{message[1:]}."


def uncorrected(name: str) -> str:
    """How often GRPO was in time in a run whose bounds stayed as they were learnt."""
    record = result(name)
    judged = record["figures"]["evaluation"]
    own = sorted((p for p in judged["points"] if p["policy"] == "grpo"), key=lambda p: float(p["budget_ms"]))
    shares = [f"{100 * p['attainment']['value']:.0f} % at {budget(p['budget_ms'])}" for p in own]
    return (
        f"The same with bounds as they were learnt, uncorrected (benchmarks/results/{name}.json, an hour before, "
        f"another {record['environment']['gpu']}, {judged['questions']} held-out questions): GRPO was in time in "
        f"{', '.join(shares)}.\n"
    )


def infeasible(evaluation: dict[str, Any]) -> Iterator[str]:
    """At which budgets GRPO promises nothing, since for as many questions as may be late, or more, nothing fits."""
    late = 1 - evaluation["confidence"]
    own = sorted((p for p in evaluation["points"] if p["policy"] == "grpo"), key=lambda p: float(p["budget_ms"]))
    unfit = [f"{p['unfit']} at {budget(p['budget_ms'])}" for p in own if p["unfit"] >= late * p["questions"]]
    if unfit:
        yield (
            f"- No choice was known to fit for {', '.join(unfit)}. That is as many of {evaluation['questions']} "
            "questions as may be late, or more, so nothing was promised there."
        )


def cell(point: dict[str, Any]) -> str:
    """One policy at one budget."""
    return f"{100 * point['accuracy']['value']:.1f} ({100 * point['attainment']['value']:.1f})"


def differences(evaluation: dict[str, Any]) -> Iterator[str]:
    """GRPO against its peers, in points, at the same budget or at equal attainment."""
    for than in ("supervised", *SIMPLE, *FIXED, *ORACLES):
        compared = [one for one in evaluation["differences"] if one["policy"] == "grpo" and one["than"] == than]
        compared.sort(key=lambda one: one["budget_ms"])
        gaps = [f"{budget(one['budget_ms'])} {gap(one['accuracy'])}" for one in compared]
        if gaps:
            yield f"- GRPO less {LABELS.get(than, than)}, points: {'; '.join(gaps)}."


def gap(interval: dict[str, Any]) -> str:
    """A difference of accuracies in points."""
    low, high = interval["low"], interval["high"]
    ends = "" if low is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * interval['value']:+.1f}{ends}"


def slower(evaluation: dict[str, Any]) -> Iterator[str]:
    """Attainment before and after the machine became slower."""
    for one in evaluation["slow_downs"]:
        way = "with" if one["online"] else "without"
        yield (
            f"- {one['how'].capitalize()}, calls {one['factor']:.2f} times as long, {way} online correction: in time "
            f"{100 * one['before']['value']:.1f} % before, {100 * one['after']['value']:.1f} % after the first "
            f"{one['settling']} requests."
        )


def cost(name: str) -> str:
    """What deciding takes."""
    record = result(name)
    figures = record["figures"]
    deciding, more = figures["deciding_ms"], figures["more_than_set_beforehand_ms"]
    return (
        f"`{record['command']}`: {place(record)}. Deciding takes {deciding['value']:.3f} ms of host time a call "
        f"({deciding['low']:.3f} to {deciding['high']:.3f}; {figures['before_ms']['value']:.3f} before the call, "
        f"{figures['inside_ms']['value']:.3f} inside it), {figures['deciding_new_text_ms']['value']:.3f} ms for a text "
        f"that is new, {figures['deciding_with_pixels_ms']['value']:.3f} ms for a policy that looks at pixels too; "
        f"reading the early block's output {figures['waited_ms']['value']:.3f} ms. The whole call takes "
        f"{more['value']:+.2f} ms ({more['low']:+.2f} to {more['high']:+.2f}) more than with the same knobs set "
        f"beforehand, of {figures['total_ms']['value']:.0f} ms.\n"
    )


def training() -> str:
    """How fast policies learn."""
    record = result("control_training")
    figures, where = record["figures"], record["environment"]
    rates = [rate / 1e6 for rate in figures["decisions_per_minute"].values()]
    alone = figures["one_at_a_time_per_minute"] / 1e6
    return (
        f"`{record['command']}`: {where['processors']} processors, torch {where['torch']}, numpy {where['numpy']}. "
        f"GRPO learns from {min(rates):.0f} to {max(rates):.0f} million decisions a minute (drawn and rewarded one at "
        f"a time: {alone:.2f} million).\n"
    )


def pruning() -> str:
    """Token pruning beside plain downsampling at equal tokens."""
    record = result("token_pruning")
    figures = record["figures"]
    lines = [
        f"`{record['command']}`: {place(record)}, {figures['questions']} questions. Unpruned, the prompt of embeddings "
        f"gives the answer of generate() for {figures['unpruned_as_generate']}.",
        "",
        "| the image's tokens | right, % (95 %) |",
        "|---|---|",
    ]
    for name, row in figures["rows"].items():
        lines.append(f"| {name} | {100 * row['right']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f}) |")
    return "\n".join(lines) + "\n"


def place(record: dict[str, Any]) -> str:
    """The machine in a few words."""
    where = record["environment"]
    device = where["gpu"] or f"{where['cpu_count']} CPU cores ({where['cpu']})"
    return f"{device}, torch {where['torch']}, transformers {where['transformers']}"


if __name__ == "__main__":
    main()
