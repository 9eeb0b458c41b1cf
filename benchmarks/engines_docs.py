"""Write the figures of the serving benchmarks into the docs, between their markers, so that none is typed by hand.

    python benchmarks/engines_docs.py

What isn't recorded yet keeps its block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from into_docs import ROOT, result

PAGES = ("docs/serve.md", "docs/vllm.md", "docs/engines.md", "docs/appendix/engines-figures.md")


def main() -> None:
    """Fill every marked block of every page."""
    for page in PAGES:
        file = ROOT / page
        content = file.read_text(encoding="utf-8")
        for name, block in BLOCKS.items():
            marked = re.search(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", content, flags=re.DOTALL)
            if marked is None:
                continue
            try:
                filled = block()
            except (FileNotFoundError, KeyError) as missing:
                print(f"{page}: {name} stays ({missing!r})")
                continue
            content = content.replace(marked[0], marked[1] + filled + marked[2])
        file.write_text(content, encoding="utf-8")
        print(page)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table; columns of figures stand to the right."""
    figures = [
        all(re.fullmatch(r"[-−±]?[\d.,]+( \S+)?|none|", row[place]) for row in rows) for place in range(len(heads))
    ]
    lines = [heads, ["---:" if figure else "---" for figure in figures], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def ms(value: float) -> str:
    """A time with three figures."""
    if value < 0:
        return "0" if value > -0.0005 else f"−{ms(-value)}"
    if abs(value) >= 999.5:
        return f"{value / 1e3:.{2 if abs(value) < 9995 else 1}f} s"
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.{0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2 if abs(value) >= 0.0995 else 3}f} ms"


def load(recorded: dict[str, Any], name: str = "load_average") -> str:
    where = recorded["environment"]
    return f"{where['cpu']} cores, load average {recorded[name][0]:.0f}"


def truth() -> str:
    recorded = result("serve_truth")
    names = {"chunk": "instant of a chunk", "gap": "gap between chunks", "ttft": "TTFT, from sending", "tpot": "TPOT"}
    rows = [
        [level, said, *(ms(errors[name][q]) for q in ("p50", "p99", "max"))]
        for level, errors in recorded["error_ms"].items()
        for name, said in names.items()
    ]
    head = f"On {load(recorded, 'load_average_before')}"
    head += ", with a priority that other work can't take the cores from" if recorded.get("realtime") else ""
    return head + ":\n\n" + table(["load", "figure", "error, median", "p99", "largest"], rows)


def lag() -> str:
    recorded = result("client_lag")
    rows = []
    for client, runs in recorded["results"].items():
        for run in runs:
            cells = [
                f"{run['sent_per_s']:.0f}",
                *(ms(run["late_ms"][q]) for q in ("p50", "p99", "max")),
                str(run["lost"]),
            ]
            rows.append([client, *cells] if "failed" not in run else [client, "failed", "", "", "", ""])
    head = f"On {load(recorded)}:\n\n"
    return head + table(["client", "sent per second", "late, median", "p99", "largest", "lost"], rows)


def llama() -> str:
    recorded = result("serve_llama_cpp")
    rows = [
        [
            prompts,
            level["load"],
            ms(level["ttft_ms"]["value"]),
            ms(level["engine"]["timings.prompt_ms"]),
            ms(level["tpot_ms"]["value"]),
            f"{100 * level['cached_share']:.0f} %",
            f"{level['tokens_per_chunk']:.3f}",
        ]
        for prompts, name in (("new", "own_prompts"), ("the same", "same_prompt"))
        for level in recorded[name]
    ]
    heads = ["prompts", "load", "TTFT", "engine's `prompt_ms`", "TPOT", "from the cache", "tokens in a chunk"]
    return f"On {load(recorded)}; medians:\n\n" + table(heads, rows)


def levels() -> str:
    recorded = result("serve_vllm")
    rows = []
    for name, level in recorded["levels"].items():
        means = {stage: figure["mean_ms"] for stage, figure in level["stages"].items()}
        tokens = level["output_tokens"]
        rows.append(
            [
                name,
                str(level["requests"]),
                f"{tokens[0]} to {tokens[-1]}",
                ms(level["largest_out_of_order_ms"]),
                ms(level["total"]["mean_ms"]),
                *(ms(means.get(stage, 0)) for stage in ("queue", "prefill", "decode")),
                ms(level["kinds_ms"].get("beside-prefill", 0)),
                ms(level["cost_ms"]),
            ]
        )
    heads = [
        "load",
        "requests",
        "output tokens",
        "instants out of order by",
        "total",
        "queue",
        "prefill",
        "decode",
        "of it beside others' prompts",
        "cost",
    ]
    return f"On {load(recorded)}; means:\n\n" + table(heads, rows)


def others() -> str:
    levels = result("serve_vllm")["levels"]
    name, level = list(levels.items())[-1]
    rows = [
        [
            f"{row['name']}: {row['whose']}",
            ms(row["here_ms"]),
            ms(row["there_ms"]),
            ms(row["difference_ms"]),
            ms(row["largest_ms"]),
            row["why"],
        ]
        for row in level["beside"]
    ]
    heads = ["figure", "here", "there", "difference", "largest", "why they differ"]
    return f"At {name}; medians, and the median and the largest of the differences:\n\n" + table(heads, rows)


def observer() -> str:
    recorded = result("vllm_observer")
    rows, heads = [], []
    for part, said in (("servers", "a server beside another, requests in turns"), ("steps", "steps in turns")):
        for row in recorded.get(part, {}).get("ratios", []):
            figures = [row[clock] for clock in ("wall", "processor")]
            rows.append(
                [
                    said,
                    str(row["requests"]),
                    str(row["pairs"]),
                    ms(row["wall"]["on_ms_median"]),
                    *(f"{f['ratio']:.4f} ({f['interval95'][0]:.4f}–{f['interval95'][1]:.4f})" for f in figures),
                    " and ".join(f"{f['upper95']:.4f}" for f in figures),
                ]
            )
        if part in recorded:
            heads.append(f"{part}: {load(recorded[part])}" + (", realtime" if recorded[part]["realtime"] else ""))
    names = ["how", "requests", "pairs", "with it", "wall clock", "processor time", "upper bounds"]
    return "; ".join(heads) + ":\n\n" + table(names, rows)


def own_time() -> str:
    rows = [
        [
            str(row["requests"]),
            f"{own['hooks_us_per_step']:.0f} µs in {own['hooks_calls_per_step']:.0f} calls",
            f"{own['writer_us_per_step']:.0f} µs",
            ms(row["wall"]["on_ms_median"]),
            f"{100 * own['share_of_a_step']:.2f} %",
        ]
        for row in result("vllm_observer")["steps"]["ratios"]
        if (own := row["own_time"])
    ]
    return table(["requests", "hooks of a step", "the writing thread, for a step", "a step", "share"], rows)


def images() -> str:
    recorded = result("serve_vllm_images")
    asked = [
        ("one image, alone", recorded["alone"]),
        *(("three at once", row) for row in recorded["at_once"]),
        ("the first image again", recorded["asked_again"]),
    ]
    rows = [
        [
            said,
            str(row["prompt_tokens"]),
            str(row["cached_tokens"]),
            ms(row["total_ms"]),
            ms(row["stages_ms"]["vision"]) if "vision" in row["stages_ms"] else "none",
            ms(row["others_vision_ms"]),
            ms(row["stages_ms"].get("prefill", 0)),
            ms(row["stages_ms"].get("decode", 0)),
            ms(row["out_of_order_ns"] / 1e6),
        ]
        for said, row in asked
    ]
    heads = [
        "request",
        "prompt tokens",
        "from the cache",
        "total",
        "vision",
        "others' vision",
        "prefill",
        "decode",
        "out of order by",
    ]
    towers = ", ".join(ms(value) for value in recorded["tower_by_a_clock_ms"])
    tail = (
        f"\nA clock around the encoder saw {towers}. Alone, vision was {ms(recorded['vision_less_tower_ms'])} more.\n"
    )
    return f"On {load(recorded)}:\n\n" + table(heads, rows) + tail


def states() -> str:
    recorded = result("serve_vllm_states")
    rows = []
    if "memory" in recorded:
        it = recorded["memory"]
        rows += [
            ["prompts computed in chunks", f"{it['prompts_in_chunks']} of {it['requests']}, preempted ones left out"],
            [
                "preempted requests",
                f"{it['preempted']}; preemptions, as vLLM counts them: {it['preemptions_as_vllm_counts']}",
            ],
            ["a prompt asked again", f"{it['cached_tokens_when_asked_again']} of {it['of']} tokens from the cache"],
        ]
    if "speculation" in recorded:
        it = recorded["speculation"]
        rows.append(
            [
                "n-gram drafts",
                f"{it['tokens_per_step']:.2f} tokens a step, {it['decode_steps']} decode steps for "
                f"{it['output_tokens']} tokens",
            ]
        )
    if "ranks" in recorded:
        it = recorded["ranks"]
        rows.append(
            [
                f"{it['workers']} workers, tensor-parallel",
                f"{it['steps_of_each']} steps of each; the last worker "
                f"ended a step {ms(it['skew_ms']['value'])} after the first (median)",
            ]
        )
    return table(["brought about", "seen"], rows)


def killed() -> str:
    rows = []
    for engine, name in (("llama.cpp", "serve_llama_cpp"), ("vLLM", "serve_vllm")):
        recorded = result(name)
        if "client_killed" in recorded:
            it = recorded["client_killed"]
            ended = ", ".join(f"{count} {outcome}" for outcome, count in it["after_resume"].items())
            rows.append([engine, "client", str(it["asked"]), f"{it['kept_at_the_kill']} kept; after --resume: {ended}"])
        if "server_killed" in recorded:
            it = recorded["server_killed"]
            ended = ", ".join(f"{count} {outcome}" for outcome, count in it["outcomes"].items())
            rows.append([engine, "server", str(it["sent"]), ended])
    return table(["engine", "killed", "requests", "what is in the run folder"], rows)


def errors() -> str:
    """Engine by figure by error: each against what is known beside it."""
    known, vllm = result("serve_truth"), result("serve_vllm")
    llama_cpp, serving = result("serve_llama_cpp"), result("serve_transformers")
    chunks, tpots = ([at[name]["p50"] for at in known["error_ms"].values()] for name in ("chunk", "tpot"))
    levels = vllm["levels"].values()
    beside = {row["name"]: [] for level in levels for row in level["beside"]}
    for level in levels:
        for row in level["beside"]:
            beside[row["name"]].append(row["difference_ms"])
    costs = max(abs(1 - level["share_of_steps_added_up"]) for level in levels)
    outside = [level["ttft_ms"]["value"] - level["engine"]["timings.prompt_ms"] for level in llama_cpp["own_prompts"]]
    first = serving["served"][0]
    rows = [
        [
            "server of known delays",
            "instant of a chunk",
            "its own note of writing it",
            _range(chunks) + " (medians)",
        ],
        ["", "TPOT", "its own gaps", _range(tpots) + " (medians)"],
        [
            "vLLM 0.32",
            f"the parts of each of {sum(level['requests'] for level in levels)} requests",
            "what the client waited for",
            f"0 ns; instants out of order by {ms(max(level['largest_out_of_order_ms'] for level in levels))}",
        ],
        ["", "cost of all requests", "the time of all steps", f"{costs:.0e} of it"],
        [
            "",
            "arrival → first token",
            "vLLM's own, wall clock",
            f"{_range(beside['TTFT from arrival'])} (medians): its later reading",
        ],
        ["", "first → last token", "vLLM's own", _range(beside["decode, first to last token"])],
        ["", "clocks", "bracket", f"± {vllm['clock_error_ns'] / 1e3:.2f} µs"],
        [
            "llama.cpp",
            "TTFT",
            "its own `timings.prompt_ms`",
            f"{_range(outside)} more (medians): the queue, HTTP, the first token",
        ],
        [
            "transformers, batching",
            f"the stages of each of {serving['batched']['requests']} requests",
            "created → finished",
            f"0 ns; instants out of order by {ms(serving['batched']['largest_out_of_order_ms'])}",
        ],
        [
            "`transformers serve`",
            "first event, taken for the first token",
            "first content",
            f"{ms(first['first_event_ms'])} where it is {ms(first['ttft_ms']['value'])} (medians)",
        ],
    ]
    try:
        pictures = result("serve_vllm_images")
        rows.insert(
            7,
            [
                "",
                "vision of an image alone",
                "a clock around the encoder",
                ms(pictures["vision_less_tower_ms"]) + " more",
            ],
        )
    except FileNotFoundError:
        pass
    return table(["engine", "figure", "held against", "error"], rows)


def _range(values: list[float]) -> str:
    ends = ms(min(values)), ms(max(values))
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


BLOCKS: dict[str, Callable[[], str]] = {
    "truth": truth,
    "lag": lag,
    "llama": llama,
    "levels": levels,
    "others": others,
    "observer": observer,
    "own-time": own_time,
    "images": images,
    "states": states,
    "errors": errors,
    "killed": killed,
}


if __name__ == "__main__":
    main()
