"""Which model types does laptime measure right? Every generative type of transformers, tiny and random, by own clocks.

    python benchmarks/families.py            # all types that have no row yet
    python benchmarks/families.py t5 whisper # these, again

Each type runs in a process of its own with a time limit. Rows are kept in benchmarks/results/families.json, so that a
run can be stopped and taken up again; docs/families.md is written from it.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import signal
import textwrap
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from family_by_hand import BY_HAND
from family_clocks import OwnClocks, same_tokens
from family_inputs import inputs
from family_models import build, types

import laptime
from laptime.errors import LaptimeError
from laptime.measure.environment import describe
from recorded import record

TOKENS = 5
LIMIT_S = 60
TRIES = 3
"""A call whose times alone differ is measured again: on a busy machine another process may have run in between."""

STAGES = ("vision", "audio", "encode", "prefill")
WITHIN = 0.02
WITHIN_MS = 1.0
"""Below 30 ms a stage may differ by this: two perf_counter calls with hooks between them."""


def main() -> None:
    """Measure, write the rows and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--kind", choices=["text", "image", "any", "audio", "seq2seq"])
    parser.add_argument("--page", action="store_true", help="only write the page from the rows that are there")
    parser.add_argument("--again", action="store_true", help="measure types that have a row, too")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    rows = {row["type"]: row for row in _kept()}
    if arguments.page:
        write_page(list(rows.values()))
        return
    wanted = arguments.types or [
        key
        for key, (kind, _) in types().items()
        if (arguments.again or key not in rows) and arguments.kind in (None, kind)
    ]
    context = multiprocessing.get_context("fork")
    with context.Pool(arguments.processes, maxtasksperchild=1) as pool:
        pending = [(key, pool.apply_async(measured, (key,))) for key in wanted]
        for number, (key, answer) in enumerate(pending):
            try:
                row = answer.get(LIMIT_S + 60)
            except multiprocessing.TimeoutError:
                row = {
                    "type": key,
                    "class": types()[key][1],
                    "kind": types()[key][0],
                    "result": "not run",
                    "why": "time",
                }
            rows[key] = row
            print(f"{row['kind']:16} {key:28} {row['result']:8} {row.get('why', '')}", flush=True)
            if number % 10 == 9:
                record("families", list(rows.values()), describe(torch.device("cpu")))
    record("families", list(rows.values()), describe(torch.device("cpu")))
    write_page(list(rows.values()))
    for kind, count in sorted(Counter((row["kind"], row["result"]) for row in rows.values()).items()):
        print(*kind, count)


def measured(key: str) -> dict[str, Any]:
    """One type's row: result is right, wrong, lost, refused, or not run (with why)."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT_S)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    kind, name = types()[key]
    row: dict[str, Any] = {"type": key, "class": name, "kind": kind}
    try:
        if key in BY_HAND:
            model, made = BY_HAND[key]()
        else:
            model = build(key)
            row["why"] = refused_on_entry(model)
            if row["why"]:
                return {**row, "result": "refused"}
            with torch.random.fork_rng():
                made = inputs(model, kind)
        row["kind"] = kind_of(model, made)
        usual = {"max_new_tokens": TOKENS, "do_sample": False, "suppress_tokens": list(range(290, 320))}
        call = {name: value for name, value in {**usual, **made}.items() if value is not None}
        bare = model.generate(**call)
        if not same_tokens(bare, model.generate(**call)):  # it draws noise of its own: its tokens prove nothing
            bare = None
    except Exception as error:
        row["kind"] = {"any": "image or video", "image": "image or video", "seq2seq": "encoder-decoder"}.get(kind, kind)
        return {**row, "result": "not run", "why": f"{type(error).__name__}: {error}".replace("\n", " ")[:200]}
    for _ in range(TRIES):
        try:
            found = compared(model, call, bare, key.partition(":")[0])
        except TimeoutError as error:
            return {**row, "result": "not run", "why": str(error)}
        if found["result"] != "wrong" or not found.get("only_times"):
            break
    found.pop("only_times", None)
    return {**row, **found}


def refused_on_entry(model: Any) -> str:
    """Why no call of this model is measured; empty where they are."""
    try:
        with laptime.StageTimer(model):
            return ""
    except LaptimeError as error:
        return str(error)


def kind_of(model: Any, made: dict[str, Any]) -> str:
    """What the call is: an encoder-decoder's, or by what stands beside the text."""
    if getattr(model.config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if any("pixel" in name for name in made):
        return "image or video"
    return "audio" if any(name in made for name in ("input_features", "input_values")) else "text"


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"not done within {LIMIT_S} s")


def compared(model: Any, call: dict[str, Any], bare: Any, model_type: str) -> dict[str, Any]:
    """laptime's sample of one call against the own clocks of the same call."""
    own = OwnClocks(model, model_type)
    try:
        with own, laptime.StageTimer(model) as timer:
            timed = model.generate(**call)
    except LaptimeError as error:
        return {"result": "lost" if own.generated else "refused", "why": str(error)[:200]}
    except TimeoutError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        return {"result": "lost" if own.generated else "wrong", "why": why.replace("\n", " ")[:200]}
    if not timer.samples:
        reasons = [failure.error for failure in getattr(timer, "failures", [])]
        return {"result": "failed", "why": "; ".join(reasons)[:200]}
    sample = timer.last
    stages = {name: getattr(sample.stages, f"{name}_ms", 0.0) or 0.0 for name in (*STAGES, "decode", "other", "total")}
    faults = [] if sample.stages.closes() else ["does not close"]
    for stage in (*STAGES, "total"):
        right = own.ms.get(stage, 0.0)
        if abs(stages[stage] - right) > max(WITHIN * right, WITHIN_MS):
            faults.append(f"{stage} {stages[stage]:.1f} ms, by own clock {right:.1f}")
    if bare is not None and not same_tokens(bare, timed):
        faults.append("other tokens")
    if own.forwards != sample.decode_forwards + 1 or sample.decode_forwards != sample.output_tokens - 1:
        faults.append(f"{sample.output_tokens} tokens, {sample.decode_forwards} decode forwards, own {own.forwards}")
    return {
        "result": "wrong" if faults else "right",
        "only_times": all("by own clock" in fault for fault in faults),
        "why": "; ".join(faults),
        "flags": list(sample.flags),
        "stages_ms": {name: round(ms, 3) for name, ms in stages.items()},
        "own_ms": {name: round(ms, 3) for name, ms in own.ms.items()},
    }


def _kept() -> list[dict[str, Any]]:
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    file = folder / "families.json"
    return json.loads(file.read_bytes())["figures"] if file.exists() else []


def write_page(rows: list[dict[str, Any]]) -> None:
    """docs/families.md: how many of each kind are right, and each type's result."""
    kinds = Counter((row["kind"], row["result"]) for row in rows)
    results = ("right", "wrong", "lost", "failed", "refused", "not run")
    lines = [
        "# Model families",
        "",
        "After this page you know which model types of transformers laptime was tried on. `python",
        "benchmarks/families.py` builds a tiny random model of each generative type, measures one generate() call of",
        f"{TOKENS} tokens, and compares with clocks of its own (transformers {transformers.__version__}, CPU).",
        "",
        "*Right* means: the total, vision, audio, encode and prefill agree within 2 % or 1 ms (in one of three calls,",
        "since another process may run between two clocks), the stages add up,",
        "there are N − 1 decode forwards, and the tokens are those without laptime (where the bare model gives the",
        "same tokens twice; else tokens are not compared). *Refused* was said by name before",
        "anything ran. *Failed*: the output was returned, and the sample is a failure with its reason. *Lost*: the",
        "output was not returned. *Not run*: the script could not make a model or an input, so nothing is known",
        "(benchmarks/family_by_hand.py writes out those for which small numbers everywhere are not enough).",
        "",
        "| kind | " + " | ".join(results) + " |",
        "|---|" + "---:|" * len(results),
    ]
    lines += [
        f"| {kind} | " + " | ".join(str(kinds[kind, result]) for result in results) + " |"
        for kind in sorted({row["kind"] for row in rows})
    ]
    for result in results:
        those = [row for row in rows if row["result"] == result]
        if not those:
            continue
        lines += ["", f"## {result.capitalize()}", ""]
        if result == "right":
            for kind in sorted({row["kind"] for row in those}):
                names = ", ".join(sorted(row["type"] for row in those if row["kind"] == kind))
                lines += textwrap.wrap(f"- {kind}: {names}", 120, subsequent_indent="  ", break_on_hyphens=False)
        elif result == "not run":
            names = ", ".join(sorted(row["type"] for row in those))
            lines += textwrap.wrap(names, 120, break_on_hyphens=False)
        else:
            lines += ["| type | kind | why |", "|---|---|---|"]
            lines += [f"| {row['type']} | {row['kind']} | {row['why'].replace('|', '/')} |" for row in those]
    (Path(__file__).parents[1] / "docs" / "families.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
