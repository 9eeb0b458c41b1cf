"""The whole answer: eager, FastDecoder and FastModel, stage by stage, each against its own floor.

    python benchmarks/fast.py molmoe-1b        1, 6 and 12 crops, answers of 2, 6 and 32 tokens
    python benchmarks/fast.py qwen2.5-vl-3b    an image of 672 x 672
    python benchmarks/fast.py qwen3-4b         512 prompt tokens

Each round calls every way once for each length, in rotating order. Medians with their 95 % intervals go to
benchmarks/results/fast-NAME.json, with the distance of the first logits to those of the same weights in float32.
"""

from __future__ import annotations

import gc
import sys
from time import perf_counter
from typing import Any

import torch

from laptime.data.stats import median_interval
from laptime.decoder import FastDecoder, FastModel, timed_generate
from laptime.decoder.timed import CallTimer
from laptime.measure.environment import describe
from laptime.measure.stage_timer import StageTimer
from laptime.models.loading import load_model
from laptime.remedy.call_floor import call_floor, dense_tflop_per_s
from laptime.remedy.floor import copy_gb_per_s
from laptime.workload.inputs import make_inputs
from recorded import record

CASES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "molmoe-1b": [
        (f"{crops} crops", {"prompt_tokens": 32, "image_size": (1024, 768), "crops": (crops, crops)})
        for crops in (1, 6, 12)
    ],
    "qwen2.5-vl-3b": [("672 x 672", {"prompt_tokens": 32, "image_size": (672, 672)})],
    "qwen3-4b": [("512 tokens", {"prompt_tokens": 512})],
    "tiny-vlm": [("2 tiles", {"prompt_tokens": 32, "image_size": (336, 336)})],
}
LENGTHS = (2, 6, 32)
ROUNDS, EAGER_ROUNDS = 15, 6
STAGES = ("vision_ms", "prefill_ms", "decode_ms", "other_ms", "total_ms")


def main() -> None:
    """Measure one preset."""
    name = sys.argv[1]
    loaded = load_model(f"preset:{name}", device="cuda" if torch.cuda.is_available() else "cpu")
    model = loaded.model
    model.generation_config.eos_token_id = None
    device = next(model.parameters()).device
    bandwidth, rate = copy_gb_per_s(device), dense_tflop_per_s(device, loaded.dtype)
    figures: dict[str, Any] = {"copy_gb_per_s": bandwidth, "dense_tflop_per_s": rate, "cases": {}}
    for title, given in CASES[name]:
        inputs = dict(make_inputs(loaded, new_tokens=32, **given).kwargs)
        figures["cases"][title] = case = measure(model, inputs)
        case["prompt_tokens"] = int(inputs["input_ids"].shape[1])
        with FastModel(model) as fast:
            case["floors"] = call_floor(model, fast.plan, inputs, bandwidth, rate).figures()
        show(title, case)
    target = record(f"fast-{name}", figures, describe(device))
    print("written to", target)


def measure(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Every way and every length."""
    ids = inputs["input_ids"]
    rest = {key: value for key, value in inputs.items() if key != "input_ids"}
    stages, calls = StageTimer(model), CallTimer(model)

    def eager(tokens: int) -> Any:
        with stages:
            model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return stages.last

    case: dict[str, Any] = {"ways": {}}
    with FastDecoder(model) as decoder, FastModel(model) as fast:

        def by(what: Any) -> Any:
            return lambda n: timed_generate(what, ids, timer=calls, max_new_tokens=n, do_sample=False, **rest)[1]

        ways = {"eager": eager, "FastDecoder": by(decoder), "FastModel": by(fast)}
        samples: dict[str, dict[int, list[Any]]] = {way: {n: [] for n in LENGTHS} for way in ways}
        for way, call in ways.items():
            began = perf_counter()
            call(8)
            case.setdefault("first_call_s", {})[way] = round(perf_counter() - began, 2)
            for n in LENGTHS:
                call(n)
        for number in range(ROUNDS):
            order = list(ways)[number % 3 :] + list(ways)[: number % 3]
            for way in order:
                if way == "eager" and number >= EAGER_ROUNDS:
                    continue
                for n in LENGTHS:
                    samples[way][n].append(ways[way](n))
        for way, by_length in samples.items():
            case["ways"][way] = {n: summary(taken) for n, taken in by_length.items()}
        case["bucket_mib"] = round(fast.bucket_bytes / 2**20, 1)
        case["parts"] = [[part.part, part.captured, part.reason] for part in fast.parts()]
        case["passed_by"] = fast.passed_by
        case["nearness"] = nearness(model, inputs, fast)
    gc.collect()
    return case


def nearness(model: Any, inputs: dict[str, Any], fast: FastModel) -> dict[str, float] | None:
    """How far the first logits are from those of the same weights in float32, relative: eager's and FastModel's."""
    if next(model.parameters()).numel() == 0 or torch.cuda.mem_get_info()[0] < 70 * 2**30:
        return None
    import copy

    rest = {key: value for key, value in inputs.items() if key != "input_ids"}
    ids = fast.generate(inputs["input_ids"], **rest, max_new_tokens=1)
    del ids
    session = fast.decoder.sessions[0]
    own = session.state.logits[:1].float().clone()
    with torch.no_grad():
        eager = model(**inputs, logits_to_keep=1).logits[:1, -1].float()
        exact = copy.deepcopy(model).float()
        wide = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
        truth = exact(**wide, logits_to_keep=1).logits[:1, -1]
    del exact
    gc.collect()
    torch.cuda.empty_cache()
    return {
        "eager": round(float((eager - truth).norm() / truth.norm()), 5),
        "fast": round(float((own - truth).norm() / truth.norm()), 5),
    }


def summary(samples: list[Any]) -> dict[str, Any]:
    """The median and its interval of every stage and of TTFT."""
    found: dict[str, Any] = {}
    for name in (*STAGES, "ttft_ms"):
        values = [getattr(s if name == "ttft_ms" else s.stages, name) for s in samples]
        if all(value is not None for value in values):
            interval = median_interval(values)
            ends = (interval.value, interval.low, interval.high)
            found[name] = [None if value is None else round(value, 3) for value in ends]
    return found


def show(title: str, case: dict[str, Any]) -> None:
    """One line a way and length."""
    print(title, "floors", case["floors"], "nearness", case["nearness"], "MiB", case["bucket_mib"], case["parts"])
    print("   first call s", case["first_call_s"], case["passed_by"])
    for way, by_length in case["ways"].items():
        for n, row in by_length.items():
            figures = "  ".join(f"{key[:-3]} {value[0]:.2f}" for key, value in row.items())
            print(f"   {way:12}{n:4}", figures, flush=True)


if __name__ == "__main__":
    main()
