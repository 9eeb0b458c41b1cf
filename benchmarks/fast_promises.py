"""FastModel's promises for vision and prefill against what is delivered, on models that the ranges were not set on.

    python benchmarks/fast_promises.py

Shapes of eleven models and prompts with random weights. Each is promised from its operations and bytes alone
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
from laptime.decoder.vision import is_packed, tower_blocks
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
MIXTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 6,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
VICUNA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
}
LLAVA_7B = {
    "vision_config": {"model_type": "clip_vision_model", **VIT_L, "image_size": 336, "patch_size": 14},
    "text_config": {**VICUNA_7B, "max_position_embeddings": 8192},
    "image_token_index": 32000,
    "image_seq_length": 576,
}
INTERNVL_2B = {
    "vision_config": {**VIT_L, "image_size": 448, "patch_size": 14, "attention_bias": True},
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151674,
        "max_position_embeddings": 8192,
    },
    "image_token_id": 151667,
}
QWEN3_VL_2B = {
    "vision_config": {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "patch_size": 16,
        "out_hidden_size": 2048,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5000000.0},
    },
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-3.2-1B": ("LlamaConfig", LLAMA_1B),
    "Mistral-7B": ("MistralConfig", MISTRAL_7B),
    "Qwen2.5-0.5B": ("Qwen2Config", QWEN_05B),
    "Qwen3-30B-A3B, 12 blocks": ("Qwen3MoeConfig", QWEN_MOE),
    "Mixtral-8x7B, 6 blocks": ("MixtralConfig", MIXTRAL),
    "LLaVA-1.5-7B": ("LlavaConfig", LLAVA_7B),
    "InternVL3-2B": ("InternVLConfig", INTERNVL_2B),
    "Qwen3-VL-2B": ("Qwen3VLConfig", QWEN3_VL_2B),
}
DEVICE = "cuda"
TEXT = [
    ("Llama-3.2-1B", 1, 1024),
    ("Llama-3.2-1B", 8, 256),
    ("Mistral-7B", 1, 700),
    ("Mistral-7B", 1, 2048),
    ("Qwen2.5-0.5B", 1, 2000),
    ("Qwen3-30B-A3B, 12 blocks", 1, 1500),
    ("Qwen3-30B-A3B, 12 blocks", 4, 128),
    ("Mixtral-8x7B, 6 blocks", 1, 900),
]
IMAGES = [("LLaVA-1.5-7B", 1), ("InternVL3-2B", 1), ("InternVL3-2B", 6), ("Qwen3-VL-2B", 48), ("Qwen3-VL-2B", 80)]
"""Images, or patches along a side."""
PRESETS = [
    ("qwen2.5-vl-3b", {"prompt_tokens": 64, "image_size": (672, 672)}),
    ("qwen2.5-vl-3b", {"prompt_tokens": 64, "image_size": (1120, 840)}),
    ("olmoe-1b-7b", {"prompt_tokens": 700}),
    ("llama-3-8b", {"prompt_tokens": 512}),
]
SET_ON = (("Qwen3-30B-A3B", "prefill"), ("qwen2.5-vl-3b", "vision"))
"""Stages that the ranges were set on, by the beginning of what they are of."""


def main() -> None:
    """Promise and measure each."""
    until = monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    device = torch.device(DEVICE)
    bandwidth, rate = copy_gb_per_s(device), dense_tflop_per_s(device, torch.bfloat16)
    rows: list[dict[str, Any]] = []
    held: dict[str, Any] = {}
    for name, *size in [*TEXT, *IMAGES]:
        if monotonic() > until:
            break
        if name not in held:
            held.clear()
            free()
            held[name] = built(name, device)
        inputs = text_inputs(*size, device) if len(size) == 2 else image_inputs(name, size[0], device)
        what = f"{name}, {' x '.join(map(str, inputs['input_ids'].shape))} tokens"
        rows += judged(what, held[name], inputs, bandwidth, rate)
    held.clear()
    loaded = None
    for name, given in PRESETS:
        if monotonic() > until:
            break
        if loaded is None or loaded.name != f"preset:{name}":
            loaded = None
            free()
            loaded = load_model(f"preset:{name}", device=DEVICE)
            loaded.model.generation_config.eos_token_id = None
        inputs = dict(make_inputs(loaded, new_tokens=8, **given).kwargs)
        rows += judged(f"{name}, {inputs['input_ids'].shape[1]} tokens", loaded.model, inputs, bandwidth, rate)
    others = [row for row in rows if not row["set_on"]]
    kept = sum(row["kept"] for row in others)
    print(f"{kept} of {len(others)} kept, of those that the ranges were not set on")
    figures = {"copy_gb_per_s": bandwidth, "dense_tflop_per_s": rate, "kept": kept, "of": len(others), "rows": rows}
    print("written to", record("fast-promises", figures, describe(device)))


def built(name: str, device: torch.device) -> Any:
    """A model of these shapes with random weights."""
    kind, shape = SHAPES[name]
    images = "vision_config" in shape
    config = getattr(transformers, kind)(**shape, **({} if images else {"max_position_embeddings": 8192}))
    auto = transformers.AutoModelForImageTextToText if images else transformers.AutoModelForCausalLM
    with torch.device(device):
        model = auto.from_config(config, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


def text_inputs(batch: int, tokens: int, device: torch.device) -> dict[str, Any]:
    """Random tokens."""
    return {"input_ids": torch.randint(5, 30000, (batch, tokens), device=device)}


def image_inputs(name: str, size: int, device: torch.device) -> dict[str, Any]:
    """Random tokens and pixels. size: the number of images, or patches along a side."""
    shape = SHAPES[name][1]
    token = shape.get("image_token_id", shape.get("image_token_index"))
    inputs: dict[str, Any] = {}
    if name.startswith("Qwen"):
        count = size * size // 4
        inputs["pixel_values"] = torch.randn(size * size, 3 * 2 * 16 * 16, device=device)
        inputs["image_grid_thw"] = torch.tensor([[1, size, size]], device=device)
    else:
        side = shape["vision_config"]["image_size"]
        count = size * (576 if name.startswith("LLaVA") else 256)
        inputs["pixel_values"] = torch.randn(size, 3, side, side, device=device)
    text = torch.randint(5, 30000, (1, 40), device=device)
    ids = torch.cat([text[:, :4], torch.full((1, count), token, device=device), text[:, 4:]], dim=1)
    if name.startswith("Qwen"):
        inputs["mm_token_type_ids"] = (ids == token).int()
    return {"input_ids": ids, **inputs}


def judged(what: str, model: Any, inputs: dict[str, Any], bandwidth: Any, rate: Any) -> list[dict[str, Any]]:
    """Promise and delivery of each stage before decode."""
    with FastModel(model) as fast:
        floor = call_floor(model, fast.plan, inputs, bandwidth, rate)
        promises = {"prefill": (floor.prefill.ms, prefill_promise(fast.plan, floor.prefill, rate, bandwidth))}
        if floor.vision is not None:
            promises["vision"] = (
                floor.vision.ms,
                vision_promise(floor.vision, tower_blocks(model), packed=is_packed(model)),
            )
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
                "set_on": any(what.startswith(name) and stage == kind for name, kind in SET_ON),
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
