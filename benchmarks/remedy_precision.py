"""How far each way of computing a decode step in bfloat16 lies from the same weights in float32.

Eager bfloat16 is no truth: two ways that both round lie apart by both their errors. So the float32 model is the
reference, and eager, transformers' static cache, the plain step, the kernels of one row and those of several rows are
measured against it: once from the same cache (the step's own rounding), once against the whole float32 model (what a
user sees, prefill's rounding in it). Several prompts, several positions, the same tokens for all (eager's own).
"""

from __future__ import annotations

import copy
from statistics import median
from typing import Any

import torch
from remedy_lengths import Flush
from transformers import DynamicCache, StaticCache

from laptime.decoder import FastDecoder
from laptime.decoder.kernels.shapes import SHAPES
from laptime.decoder.plain_step import decode_one_token
from laptime.decoder.plan import DecodePlan, read_plan
from laptime.decoder.state import DecodeState, Sampling, new_state
from laptime.decoder.triton_step import triton_step
from laptime.models.loading import load_model

PROMPT, POSITIONS, PROMPTS, CAPACITY, ROWS = 256, 4, 3, 512, 3
WAYS = ("eager", "eager again", "static", "plain step", "kernels", "kernels, 3 rows")


@torch.no_grad()
def precision(model_name: str, flush: Flush, *, device: str = "cuda") -> dict[str, Any]:
    """Relative distances, median and largest over prompts and positions, by way and reference."""
    loaded = load_model(model_name, device=device)
    model, exact = loaded.model, copy.deepcopy(loaded.model).float()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    distances: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    agreed: dict[str, list[bool]] = {way: [] for way in WAYS}
    figures: dict[str, Any] = {"model": model_name, "prompts": PROMPTS, "positions": POSITIONS}
    with FastDecoder(model, graph=False, kernels="auto" if device == "cuda" else "plain") as decoder:
        exact_plan = read_plan(exact)
        for seed in range(PROMPTS):
            noise = torch.Generator().manual_seed(seed)
            ids = torch.randint(10, min(vocabulary, 50000), (1, PROMPT), generator=noise).to(device)
            logits_by_way = _one_prompt(model, exact, decoder.plan, exact_plan, ids, decoder.kernels)
            for way in WAYS:
                for logits, step, whole, own in zip(
                    logits_by_way.get(way, ()),
                    logits_by_way["step"],
                    logits_by_way["whole"],
                    logits_by_way["eager"],
                    strict=False,
                ):
                    distances[way].append(
                        {"step": _apart(logits, step), "whole": _apart(logits, whole), "eager": _apart(logits, own)}
                    )
                    agreed[way].append(bool(logits.argmax() == whole.argmax()))
            figures["rows"] = [_row(way, distances[way], agreed[way]) for way in WAYS if distances[way]]
            flush(figures)
    for row in figures["rows"]:
        print(
            f"{model_name} {row['way']:16} |- float32 step|: {row['step']:.4f} (most {row['step_most']:.4f}), "
            f"|- float32 model|: {row['whole']:.4f} (most {row['whole_most']:.4f}), |- eager|: {row['eager']:.4f}, "
            f"same choice as float32 {row['same_choice']:.0%}",
            flush=True,
        )
    return figures


def _one_prompt(
    model: Any, exact: Any, plan: DecodePlan, exact_plan: DecodePlan, ids: torch.Tensor, kernels: str
) -> dict[str, list[torch.Tensor]]:
    """Logits (V,) by way and position; `step` and `whole` are the float32 references."""
    logits_by_way: dict[str, list[torch.Tensor]] = {}
    prompts = {"eager": DynamicCache(), "eager again": DynamicCache(), "whole": DynamicCache()}
    first = model(ids, past_key_values=prompts["eager"], use_cache=True, logits_to_keep=1).logits[0, -1]
    model(ids, past_key_values=prompts["eager again"], use_cache=True, logits_to_keep=1)
    exact(ids, past_key_values=prompts["whole"], use_cache=True, logits_to_keep=1)
    static = StaticCache(config=model.config.get_text_config(), max_cache_len=CAPACITY)
    model(ids, past_key_values=static, use_cache=True, logits_to_keep=1)
    base = [(layer.keys.clone(), layer.values.clone()) for layer in prompts["eager"].layers]
    for i, (keys, values) in enumerate(base):  # every way goes on from the same cache
        static.layers[i].keys[:, :, :PROMPT] = keys
        static.layers[i].values[:, :, :PROMPT] = values
        prompts["eager again"].layers[i].keys = keys.clone()
        prompts["eager again"].layers[i].values = values.clone()
    tokens = [first.argmax()]
    logits_by_way["eager"] = []
    for _ in range(POSITIONS):
        logits = model(tokens[-1].view(1, 1), past_key_values=prompts["eager"], use_cache=True).logits[0, -1]
        logits_by_way["eager"].append(logits.float())
        tokens.append(logits.argmax())
    for way, with_model, cache in (
        ("eager again", model, prompts["eager again"]),
        ("static", model, static),
        ("whole", exact, prompts["whole"]),
    ):
        logits_by_way[way] = [
            with_model(token.view(1, 1), past_key_values=cache, use_cache=True).logits[0, -1].float()
            for token in tokens[:POSITIONS]
        ]
    for way, with_plan, rows in (("step", exact_plan, 1), ("plain step", plan, 1)):
        state = _filled(with_plan, base, rows)
        logits_by_way[way] = []
        for n, token in enumerate(tokens[:POSITIONS]):
            state.token.copy_(token)
            state.position.fill_(PROMPT + n)
            logits_by_way[way].append(decode_one_token(with_plan, state)[0].float())
    if kernels == "triton":
        for way, rows in (("kernels", 1), ("kernels, 3 rows", ROWS)):
            state = _filled(plan, base, rows)
            step = triton_step(plan, state, Sampling(), None, SHAPES)
            logits_by_way[way] = []
            for n, token in enumerate(tokens[:POSITIONS]):
                state.token.copy_(token.expand(rows))
                state.position.fill_(PROMPT + n)
                state.begin.copy_(state.position)
                step.begin()
                step()
                logits_by_way[way].append(state.logits[-1].clone())
    return logits_by_way


def _filled(plan: DecodePlan, base: list[tuple[torch.Tensor, torch.Tensor]], rows: int) -> DecodeState:
    state = new_state(plan, rows, CAPACITY)
    for i, (keys, values) in enumerate(base):
        state.keys[i][:, :, :PROMPT] = keys
        state.values[i][:, :, :PROMPT] = values
    return state


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def _row(way: str, distances: list[dict[str, float]], agreed: list[bool]) -> dict[str, Any]:
    row: dict[str, Any] = {"way": way, "n": len(distances), "same_choice": sum(agreed) / len(agreed)}
    for key in ("step", "whole", "eager"):
        values = [each[key] for each in distances]
        row[key], row[key + "_most"] = median(values), max(values)
    return row
