"""FastModel's promises for vision and prefill against what is delivered, on models that the ranges were not set on.

    python benchmarks/fast_promises.py

Shapes of ten models and prompts with random weights. Each is promised from its operations and bytes alone
(laptime.remedy.call_promise), then its captured prefill and tower are replayed. benchmarks/results/fast-promises.json.
"""

from __future__ import annotations

import gc
import sys
from statistics import median
from time import monotonic
from typing import Any

import torch
import transformers

from laptime.decoder import FastModel, timed_generate
from laptime.decoder.timed import CallTimer
from laptime.decoder.vision import tower_blocks
from laptime.measure.environment import describe
from laptime.models.loading import load_model
from laptime.remedy.call_floor import call_floor, dense_tflop_per_s
from laptime.remedy.call_promise import prefill_promise, vision_promise
from laptime.remedy.floor import copy_gb_per_s
from laptime.workload.inputs import make_inputs
from recorded import record

LLAMA_1B = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
MISTRAL_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32768,
    "sliding_window": None,
}
QWEN_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
}
QWEN_MOE = {
    "hidden_size": 2048,
    "moe_intermediate_size": 768,
    "intermediate_size": 6144,
    "num_hidden_layers": 12,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 151936,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-3.2-1B": ("LlamaConfig", LLAMA_1B),
    "Mistral-7B": ("MistralConfig", MISTRAL_7B),
    "Qwen2.5-0.5B": ("Qwen2Config", QWEN_05B),
    "Qwen3-30B-A3B, 12 blocks": ("Qwen3MoeConfig", QWEN_MOE),
}
TEXT = [
    ("Llama-3.2-1B", 1, 1024),
    ("Llama-3.2-1B", 8, 256),
    ("Mistral-7B", 1, 700),
    ("Mistral-7B", 1, 2048),
    ("Qwen2.5-0.5B", 1, 2000),
    ("Qwen3-30B-A3B, 12 blocks", 1, 1500),
    ("Qwen3-30B-A3B, 12 blocks", 4, 128),
]
PRESETS = [
    ("qwen2.5-vl-3b", {"prompt_tokens": 64, "image_size": (672, 672)}),
    ("qwen2.5-vl-3b", {"prompt_tokens": 64, "image_size": (1120, 840)}),
    ("olmoe-1b-7b", {"prompt_tokens": 700}),
    ("llama-3-8b", {"prompt_tokens": 512}),
]


def main() -> None:
    """Promise and measure each."""
    until = monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    device = torch.device("cuda")
    bandwidth, rate = copy_gb_per_s(device), dense_tflop_per_s(device, torch.bfloat16)
    rows: list[dict[str, Any]] = []
    held: dict[str, Any] = {}
    for name, batch, tokens in TEXT:
        if monotonic() > until:
            break
        if name not in held:
            held.clear()
            free()
            kind, shape = SHAPES[name]
            config = getattr(transformers, kind)(**shape, max_position_embeddings=8192)
            with torch.device(device):
                model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
            model.generation_config.eos_token_id = None
            model.generation_config.pad_token_id = 0
            held[name] = model
        ids = torch.randint(5, 30000, (batch, tokens), device=device)
        rows += judged(f"{name}, {batch} x {tokens}", held[name], {"input_ids": ids}, bandwidth, rate)
    held.clear()
    loaded = None
    for name, given in PRESETS:
        if monotonic() > until:
            break
        if loaded is None or loaded.name != f"preset:{name}":
            loaded = None
            free()
            loaded = load_model(f"preset:{name}", device="cuda")
            loaded.model.generation_config.eos_token_id = None
        inputs = dict(make_inputs(loaded, new_tokens=8, **given).kwargs)
        rows += judged(f"{name}, {inputs['input_ids'].shape[1]} tokens", loaded.model, inputs, bandwidth, rate)
    kept = sum(row["kept"] for row in rows)
    print(f"{kept} of {len(rows)} kept")
    figures = {"copy_gb_per_s": bandwidth, "dense_tflop_per_s": rate, "kept": kept, "of": len(rows), "rows": rows}
    print("written to", record("fast-promises", figures, describe(device)))


def judged(what: str, model: Any, inputs: dict[str, Any], bandwidth: Any, rate: Any) -> list[dict[str, Any]]:
    """Promise and delivery of each stage before decode."""
    with FastModel(model) as fast:
        floor = call_floor(model, fast.plan, inputs, bandwidth, rate)
        promises = {"prefill": (floor.prefill.ms, prefill_promise(fast.plan, floor.prefill, rate, bandwidth))}
        if floor.vision is not None:
            promises["vision"] = (floor.vision.ms, vision_promise(floor.vision, tower_blocks(model)))
        rest = {key: value for key, value in inputs.items() if key != "input_ids"}
        timer = CallTimer(model)
        samples = [
            timed_generate(fast, inputs["input_ids"], timer=timer, max_new_tokens=2, do_sample=False, **rest)[1]
            for _ in range(12)
        ][3:]
    rows = []
    for stage, (least, promise) in promises.items():
        assert promise is not None
        ms = median(getattr(sample.stages, f"{stage}_ms") for sample in samples)
        rows.append(
            {
                "what": what,
                "stage": stage,
                "floor_ms": least,
                "promised_low_ms": promise.low_ms,
                "promised_high_ms": promise.high_ms,
                "measured_ms": round(ms, 3),
                "kept": promise.low_ms <= ms <= promise.high_ms,
            }
        )
        print(*rows[-1].values(), flush=True)
    return rows


def free() -> None:
    """Give memory back before the next model."""
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
