"""Write the figures of benchmarks/results into the docs, between their markers, so that no number is typed by hand.

python benchmarks/into_docs.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    "README.md",
    "docs/method.md",
    "docs/appendix/accuracy.md",
    "docs/what-knobs-buy.md",
    "docs/fast.md",
    "docs/appendix/fast-promises.md",
    "docs/large-runs.md",
    "docs/reliability.md",
)
DATA = ROOT / "benchmarks" / "data"
LONG_RUNS = ("qwen3-4b-long", "qwen3-4b-static-long", "molmoe-1b", "qwen2.5-vl-3b")
RUNS = (*LONG_RUNS, "qwen3-4b", "qwen3-4b-static")


def main() -> None:
    """Fill every marked block of every page."""
    for page in PAGES:
        file = ROOT / page
        content = file.read_text(encoding="utf-8")
        for name, block in BLOCKS.items():
            content = re.sub(
                rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
                lambda marked, block=block: marked[1] + block() + marked[2],
                content,
                flags=re.DOTALL,
            )
        file.write_text(content, encoding="utf-8")
        print(page)


def result(name: str) -> dict[str, Any]:
    """One benchmark's JSON."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def machine(recorded: dict[str, Any]) -> str:
    """The environment in a few words."""
    where = recorded["environment"]
    return f"{where['gpu']}, driver {where['driver']}, torch {where['torch']}, transformers {where['transformers']}"


def times(interval: dict[str, Any]) -> str:
    """A ratio with its interval, as a change in percent."""
    low, high = (100 * (interval[end] - 1) for end in ("low", "high"))
    return f"{100 * (interval['value'] - 1):+.2f} % ({low:+.2f} to {high:+.2f})".replace("-0.00", "+0.00")


FIXED_PARTS = {
    "reading the arguments": ("StageTimer._prepared", "laptime.measure.stage_timer.prepare_call"),
    "looking at the machine, before": ("Watch.__enter__",),
    "hanging and removing hooks": ("Probes.__enter__", "Probes.__exit__"),
    "looking at the machine, after": ("Watch.__exit__",),
    "keeping what the sample needs": ("laptime.measure.stage_timer.returned_call",),
    "making the sample": ("StageTimer._record",),
    "making the sample, later": ("laptime.measure.records.sample_of",),
}


def observer() -> str:
    """What looking costs, for each model and way."""
    lines = ["| call | way of looking | wall clock | the call itself | pairs |", "|---|---|---|---|---|"]
    for run in RUNS:
        recorded = result(f"observer_effect-{run}")
        figures = recorded["figures"]
        for way, row in figures["ways"].items():
            model, tokens = figures["model"].removeprefix("preset:"), figures["new_tokens"]
            call = f"{model}, {figures['cache']} cache, {tokens} tokens, {row['bare_ms']['value']:.0f} ms"
            own = row.get("ratio_of_the_call_itself")
            cells = (call, way, times(row["ratio"]), times(own) if own else "", str(row["ratio"]["n"]))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{machine(recorded)}. Median of pairs, 95 % bootstrap interval.\n"


def observer_fixed() -> str:
    """What the timer does once per call, outside of its marks, and what that is of a short call."""
    runs = [result(f"observer_effect-{model}-total") for model in ("molmoe-1b", "qwen3-4b")]
    lines = [
        "| once per call, in µs | " + " | ".join(r["figures"]["model"].removeprefix("preset:") for r in runs) + " |"
    ]
    lines.append("|---" * (len(runs) + 1) + "|")
    for name, parts in FIXED_PARTS.items():
        if not any(part in r["figures"]["fixed_costs_us"] for r in runs for part in parts):
            continue  # of another version of the timer than the one that was measured
        cells = [f"{sum(r['figures']['fixed_costs_us'].get(part, 0.0) for part in parts):.0f}" for r in runs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for recorded in runs:
        figures = recorded["figures"]
        row = figures["ways"]["laptime total"]
        call = f"{figures['model'].removeprefix('preset:')}, {figures['new_tokens']} tokens"
        lines.append(
            f"- {call}, {row['bare_ms']['value']:.0f} ms: {times(row['ratio'])} on the wall clock, the call itself "
            f"{times(row['ratio_of_the_call_itself'])}, {row['ratio']['n']} pairs"
        )
        looped = figures["ways"].get("laptime total, in a loop")
        if looped:
            lines[-1] += f"; in a loop, with the sample of the call before: {times(looped['ratio'])}"
    return "\n".join(lines) + f"\n\n{machine(runs[-1])}.\n"


def observer_short() -> str:
    """The same in one line a model, for the README."""
    lines = []
    for run in LONG_RUNS:
        recorded = result(f"observer_effect-{run}")
        figures = recorded["figures"]
        ways = figures["ways"]
        total, every = (times(ways[f"laptime {way}"]["ratio"]) for way in ("total", "per token"))
        model = f"{figures['model'].removeprefix('preset:')}, {figures['cache']} cache"
        lines.append(f"  - {model}, {figures['new_tokens']} tokens: {total}; with every token marked {every}")
    note = "benchmarks/observer_effect.py: wall clock against bare generate(), interleaved pairs, 95 % interval"
    note += f"; {machine(recorded)}"
    return "\n".join(lines) + f"\n\n  ({note})\n"


def truth(name: str = "truth") -> str:
    """The largest difference of each stage, for each model."""
    recorded = result(name)
    lines = [
        "| model | cache | stage | laptime | trace | largest difference of its calls |",
        "|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for call in recorded["figures"]["calls"]:
        groups.setdefault((call["model"].removeprefix("preset:"), call["cache"]), []).append(call)
    for (model, cache), calls in groups.items():
        for stage in calls[0]["relative_difference"]:
            worst = max(abs(call["relative_difference"][stage]) for call in calls)
            one = calls[-1]
            lines.append(
                f"| {model} | {cache} | {stage} | {one['laptime'][stage + '_ms']:.3f} ms | "
                f"{one['trace'][stage + '_ms']:.3f} ms | {100 * worst:.4f} % |"
            )
    return "\n".join(lines) + f"\n\n{machine(recorded)}.\n"


def truth_short(name: str = "truth") -> str:
    """The largest of all differences."""
    recorded = result(name)
    calls = recorded["figures"]["calls"]
    models = ", ".join(dict.fromkeys(call["model"].removeprefix("preset:") for call in calls))
    worst = recorded["figures"]["largest_relative_difference"]
    at_most = math.ceil(worst * 1e6) / 1e4  # percent, rounded up, since the sentence says "at most"
    return f"  no stage of {len(calls)} calls ({models}) differs by more than {at_most:.4f} % (benchmarks/{name}.py).\n"


def subtraction() -> str:
    """How often subtraction was clamped, and how wrong it was."""
    recorded = result("subtraction")
    lines = [
        "| case | samples with decode steps | clamped to 0 | residual | mean error | mean error, absolute |",
        "|---|---|---|---|---|---|",
    ]
    for case in ("mixed precision", "same precision"):
        figures = recorded["figures"][case]
        errors = figures["summary"]
        how = f"{case}: {figures['dtype']}" + (f", autocast {figures['autocast']}" if figures["autocast"] else "")
        clamped = 100 * errors["clamped"] / errors["samples"]
        lines.append(
            f"| {how} | {errors['samples']} | {errors['clamped']} ({clamped:.1f} %) | "
            f"{errors['residual_low_ms']:.1f} to {errors['residual_high_ms']:.1f} ms | "
            f"{errors['error_mean_ms']:+.1f} ms | {100 * errors['error_relative_mean']:.0f} % of the direct decode |"
        )
    return "\n".join(lines) + f"\n\n{machine(recorded)}.\n"


def overhead() -> str:
    """Unit costs and what each strategy adds."""
    recorded = json.loads((RESULTS / "overhead-h200.json").read_text(encoding="utf-8"))
    costs = recorded["overhead"]
    units = (
        ("read of the host's clock", "host_clock_us"),
        ("a step's call that takes no mark", "idle_probe_us"),
        ("mark: event and host clock", "mark_us"),
        ("synchronize, device idle", "synchronize_idle_us"),
        ("synchronize, work queued", "synchronize_drain_us"),
    )
    lines = ["| cost of one | median | 95 % interval |", "|---|---|---|"]
    for name, key in units:
        one = costs[key]
        lines.append(f"| {name} | {one['value']:.3g} µs | {one['low']:.3g} to {one['high']:.3g} µs |")
    tokens = sorted({row["tokens"] for row in costs["strategies"]})
    lines += ["", "| adds to one generate() | " + " | ".join(f"{n} tokens" for n in tokens) + " |"]
    lines.append("|---" * (len(tokens) + 1) + "|")
    for strategy in dict.fromkeys(row["strategy"] for row in costs["strategies"]):
        cells = [f"{row['added_ms']:.3g} ms" for row in costs["strategies"] if row["strategy"] == strategy]
        lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{machine(recorded)}.\n"


def knobs() -> str:
    """What each level of each knob multiplies each stage by."""
    from laptime.data.frame import read_frame
    from laptime.sweeps.summary import summarise_sweep

    summary = summarise_sweep(read_frame(DATA / "molmoe-1b-h200.parquet"))
    stages = ("vision", "prefill", "decode", "total")
    lines = ["| knob | from | to | " + " | ".join(stages) + " |", "|---|---|---|---|---|---|---|"]
    effects = {(effect.knob, effect.stage): effect for effect in summary.effects}
    for knob in dict.fromkeys(effect.knob for effect in summary.effects):
        for number, level in enumerate(effects[knob, "total"].levels):
            cells = []
            for stage in stages:
                ratio = effects[knob, stage].levels[number].ratio
                cells.append(f"{ratio.value:.3f}× ({ratio.low:.3f}–{ratio.high:.3f})")
            base = effects[knob, "total"].base
            lines.append(f"| {knob.replace('_', ' ')} | {base} | {level.value} | " + " | ".join(cells) + " |")
    recorded = json.loads((DATA / "molmoe-1b-h200.run.json").read_text(encoding="utf-8"))
    samples = sum(row.samples for row in summary.rows)
    note = f"{len(summary.rows)} configurations, {samples} samples; {machine(recorded)}"
    return "\n".join(lines) + f"\n\n{note}. 95 % intervals over inputs.\n"


FAST = ("molmoe-1b", "qwen2.5-vl-3b", "qwen3-4b")


def fast_calls() -> str:
    """Whole calls: eager, FastDecoder and FastModel; medians."""
    lines = ["| call | tokens | eager | FastDecoder | FastModel |", "|---|---|---|---|---|"]
    for name in FAST:
        recorded = result(f"fast-{name}")
        for title, case in recorded["figures"]["cases"].items():
            for tokens in case["ways"]["eager"]:
                cells = [f"{case['ways'][way][tokens]['total_ms'][0]:.1f} ms" for way in case["ways"]]
                title = title.replace("1 crops", "1 crop")
                lines.append(f"| {name}, {title} | {tokens} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{machine(recorded)}; batch 1, bfloat16, random weights.\n"


def fast_stages() -> str:
    """FastModel's stages before decode and their floors; the distance of the first logits to float32."""
    lines = [
        "| call | prompt | vision | floor | prefill | floor | TTFT | logits off: eager | FastModel |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in FAST:
        for title, case in result(f"fast-{name}")["figures"]["cases"].items():
            taken, floors, off = case["ways"]["FastModel"]["6"], case["floors"], case["nearness"]
            vision = ("", "")
            if "vision" in floors:
                vision = (f"{taken['vision_ms'][0]:.2f} ms", f"{floors['vision']['ms']:.2f} ms")
            prefill = (f"{taken['prefill_ms'][0]:.2f} ms", f"{floors['prefill']['ms']:.2f} ms")
            cells = (*vision, *prefill, f"{taken['ttft_ms'][0]:.2f} ms", f"{off['eager']:.3f}", f"{off['fast']:.3f}")
            title = title.replace("1 crops", "1 crop")
            lines.append(f"| {name}, {title} | {case['prompt_tokens']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def fast_promises() -> str:
    """Promise and delivery on other models."""
    recorded = result("fast-promises")
    lines = ["| what | stage | promised | measured | kept |", "|---|---|---|---|---|"]
    for row in recorded["figures"]["rows"]:
        promised = f"{row['promised_low_ms']:.2f} to {row['promised_high_ms']:.2f} ms"
        verdict = ("yes" if row["kept"] else "no") + (" (set on it)" if row["set_on"] else "")
        lines.append(f"| {row['what']} | {row['stage']} | {promised} | {row['measured_ms']:.2f} ms | {verdict} |")
    kept, of = (recorded["figures"][name] for name in ("kept", "of"))
    return "\n".join(lines) + (
        f"\n\n{kept} of {of} kept, of those that the ranges were not set on. {machine(recorded)}.\n"
    )


def fast_knobs() -> str:
    """What each knob leaves of FastModel's stages, beside what it leaves of their floors."""
    recorded = result("fast-knobs")
    figures = recorded["figures"]
    lines = ["| setting | total | vision | prefill | decode |", "|---|---|---|---|---|"]
    for row in figures["rows"]:
        cells = [
            f"{row['times'][stage]:.2f} ms"
            + ("" if row is figures["rows"][0] else f", {100 * left[0]:.0f} % (floor {100 * left[1]:.0f} %)")
            for stage, left in row["left"].items()
        ]
        lines.append(f"| {row['what']} | {row['total_ms']:.1f} ms | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        f"\n\nShares are of the first row. molmoe-1b's shapes, {figures['tokens']} new tokens; {machine(recorded)}.\n"
    )


def million() -> str:
    """Each verb on a run of a million samples."""
    figures = result("million_samples")["figures"]
    lines = ["| task | processor time | memory at most |", "|---|---|---|"]
    for task, row in figures["tasks"].items():
        lines.append(f"| {task} | {row['processor_s']:.1f} s | {row['peak_mib']:,.0f} MiB |")
    return "\n".join(lines) + "\n\n" + measured_at(result("million_samples"), figures["tasks"].values())


def large() -> str:
    """Shards, configurations, events of a trace, calls of a profile."""
    figures = result("large_inputs")["figures"]
    lines = ["| task | processor time | memory at most |", "|---|---|---|"]
    for task, row in figures.items():
        if "processor_s" in row:
            lines.append(f"| {task} | {row['processor_s']:.1f} s | {row['peak_mib']:,.0f} MiB |")
    text = "\n".join(lines) + "\n"
    if (page := figures.get("its page in Chromium")) is not None:
        text += (
            f"\nThe page of 10,000 configurations has {page['page_bytes'] / 1e6:.1f} MB. Chromium has loaded it after "
            f"{page['loaded_ms'] / 1000:.1f} s and drawn it after {page['drawn_ms'] / 1000:.1f} s.\n"
        )
    if (call := figures.get("profile, a call")) is not None:
        text += (
            f"\n`profile` takes {call['own_ms'] + call['end_ms']:.1f} ms of a processor for each call beside the "
            f"model's own {call['bare_call_ms']:.1f} ms (preset:tiny-llm, two new tokens).\n"
        )
    return text + "\n" + measured_at(result("large_inputs"), figures.values())


def measured_at(recorded: dict[str, Any], rows: Iterable[dict[str, Any]]) -> str:
    """The environment, and how busy the machine was."""
    where = recorded["environment"]
    loads = sorted(row["load"] for row in rows)
    return (
        f"{where['processors']} processors, Python {where['python']}; load average {loads[0]:.0f} to {loads[-1]:.0f}: "
        "other programs make processor time longer too.\n"
    )


def torture() -> str:
    """The tries to break laptime, by area."""
    recorded = result("torture")
    figures = recorded["figures"]
    lines = ["| area | tries | kill -9 | resumes on another day |", "|---|---|---|---|"]
    for area, row in figures["areas"].items():
        kills, resumes = (row.get(name, "not recorded") for name in ("kills_9", "resumes_on_another_day"))
        lines.append(f"| {area} | {row['tries']:,} | {kills} | {resumes} |")
    lines.append(f"| all | {figures['tries']:,} | {figures['kills_9']} | {figures['resumes_on_another_day']} |")
    faults = ", ".join(f"{count} {sort}" for sort, count in figures["faults"].items())
    return "\n".join(lines) + f"\n\n`{recorded['command']}`, Python {recorded['environment']['python']}: {faults}.\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "million": million,
    "large": large,
    "torture": torture,
    "observer": observer,
    "observer-short": observer_short,
    "observer-fixed": observer_fixed,
    "truth": truth,
    "truth-short": truth_short,
    "truth-families": lambda: truth("truth_families"),
    "truth-families-short": lambda: truth_short("truth_families"),
    "subtraction": subtraction,
    "overhead": overhead,
    "knobs": knobs,
    "fast-calls": fast_calls,
    "fast-stages": fast_stages,
    "fast-promises": fast_promises,
    "fast-knobs": fast_knobs,
}


if __name__ == "__main__":
    main()
