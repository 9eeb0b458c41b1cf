"""Are the stages true in families of other kinds? As benchmarks/truth.py, with small models made here.

    python benchmarks/truth_families.py            # on a GPU: against torch.profiler's trace
    python benchmarks/truth_families.py --cpu      # against clocks around what transformers itself calls

Six kinds: Gemma 3, Llama 4 (experts, pixel shuffle), Mllama (cross-attention), Qwen3-VL (a merger inside the tower),
Qwen2-Audio (sound) and Whisper (an encoder-decoder). Two ways more, of a Llama: prompt lookup, and an assistant, whose
draft and verify are compared too. Random weights; wide enough that a stage takes milliseconds.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from truth import compare_calls, print_rows

from laptime import StageTimer
from laptime.measure.environment import describe
from recorded import record

IMAGE, VIDEO, SOUND, START, END = 310, 311, 300, 312, 313
TEXT: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
TOWER: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "patch_size": 14,
}
QUESTION = 64

Made = tuple[nn.Module, dict[str, torch.Tensor]]


def asked(placeholder: int | None = None, count: int = 0) -> dict[str, torch.Tensor]:
    """Ids and their mask: `count` placeholders among random text."""
    text = torch.randint(400, 30000, (1, QUESTION), generator=torch.Generator().manual_seed(0))
    ids = text if placeholder is None else torch.cat([text[:, :4], torch.full((1, count), placeholder), text[:, 4:]], 1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def gemma3() -> Made:
    """SigLIP pooled to 64 tokens; sliding and full attention."""
    config = transformers.Gemma3Config(
        vision_config={**TOWER, "model_type": "siglip_vision_model", "image_size": 448, "vision_use_head": False},
        text_config={**TEXT, "model_type": "gemma3_text", "sliding_window": 512},
        image_token_id=IMAGE,
        mm_tokens_per_image=64,
    )
    inputs = asked(IMAGE, 64)
    inputs |= {"token_type_ids": (inputs["input_ids"] == IMAGE).long(), "pixel_values": torch.randn(1, 3, 448, 448)}
    return transformers.Gemma3ForConditionalGeneration(config), inputs


def llama4() -> Made:
    """A pixel-shuffling tower; routed experts in the text."""
    vision = {
        **TOWER,
        "image_size": 448,
        "intermediate_size": 3072,
        "vision_output_dim": 1024,
        "projector_input_dim": 1024,
        "projector_output_dim": 1024,
    }
    text = {**TEXT, "intermediate_size_mlp": 2816, "num_local_experts": 4, "num_experts_per_tok": 1}
    config = transformers.Llama4Config(vision_config=vision, text_config=text, image_token_index=IMAGE)
    return transformers.Llama4ForConditionalGeneration(config), {
        **asked(IMAGE, 256),
        "pixel_values": torch.randn(1, 3, 448, 448),
    }


def mllama() -> Made:
    """Cross-attention to the states of a two-part tower."""
    vision = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 8,
        "num_global_layers": 2,
        "attention_heads": 12,
        "image_size": 448,
        "intermediate_layers_indices": [3, 6],
        "vision_output_dim": 768 * 3,
    }
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    config = transformers.MllamaConfig(
        vision_config=vision,
        text_config={**text, "cross_attention_layers": [3, 6], "tie_word_embeddings": False},
        image_token_index=IMAGE,
    )
    inputs = asked(IMAGE, 1)
    return transformers.MllamaForConditionalGeneration(config), {
        **inputs,
        "pixel_values": torch.randn(1, 1, 4, 3, 448, 448),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, 4, dtype=torch.long),
        "cross_attention_mask": torch.ones(1, inputs["input_ids"].shape[1], 1, 4, dtype=torch.long),
    }


def qwen3_vl() -> Made:
    """A merger inside the tower, features added at several depths."""
    vision = {
        "depth": 8,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_heads": 12,
        "patch_size": 16,
        "out_hidden_size": 1024,
        "deepstack_visual_indexes": [2, 4],
    }
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 10000.0}
    config = transformers.Qwen3VLConfig(
        vision_config=vision,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )
    inputs = asked(IMAGE, 256)
    return transformers.Qwen3VLForConditionalGeneration(config), {
        **inputs,
        "mm_token_type_ids": (inputs["input_ids"] == IMAGE).int(),
        "pixel_values": torch.randn(1024, 3 * 2 * 16 * 16),
        "image_grid_thw": torch.tensor([[1, 32, 32]]),
    }


def qwen2_audio() -> Made:
    """A sound encoder and its projector."""
    tower = {"model_type": "qwen2_audio_encoder", "d_model": 768, "encoder_layers": 8, "encoder_attention_heads": 12}
    config = transformers.Qwen2AudioConfig(
        audio_config={**tower, "encoder_ffn_dim": 3072},
        text_config={**TEXT, "model_type": "qwen2"},
        audio_token_index=SOUND,
    )
    model = transformers.Qwen2AudioForConditionalGeneration(config)
    heard = torch.ones(1, 3000, dtype=torch.long)
    count = int(model.model.audio_tower._get_feat_extract_output_lengths(heard.sum(-1))[1])
    return model, {
        **asked(SOUND, count),
        "input_features": torch.randn(1, 128, 3000),
        "feature_attention_mask": heard,
    }


def whisper() -> Made:
    """An encoder-decoder of sound."""
    config = transformers.WhisperConfig(
        d_model=768,
        num_mel_bins=80,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 8),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 12),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 3072),
    )
    return transformers.WhisperForConditionalGeneration(config), {"input_features": torch.randn(1, 80, 3000)}


def llama() -> Made:
    """Text that repeats itself, so that prompt lookup finds something."""
    inputs = asked()
    inputs = {name: torch.cat([value, value], 1) for name, value in inputs.items()}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)), inputs


DRAFTS: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
    "prompt_lookup": lambda model: {"prompt_lookup_num_tokens": 3},
    "assistant": lambda model: {"assistant_model": copy.deepcopy(model)},  # all of its drafts are kept
}
"""What generate() gets beside the inputs, for the ways in which candidates are drafted."""

MODELS: dict[str, Callable[[], Made]] = {
    "gemma3": gemma3,
    "llama4": llama4,
    "mllama": mllama,
    "qwen3_vl": qwen3_vl,
    "qwen2_audio": qwen2_audio,
    "whisper": whisper,
    "prompt_lookup": llama,
    "assistant": llama,
}


def made(name: str, device: torch.device, dtype: torch.dtype) -> Made:
    """A model that never ends by itself, and what its generate() gets, on the device."""
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.to(device).eval().requires_grad_(False)
    for parameter in model.parameters():  # buffers stay as they are: Llama 4's rotary table is complex
        parameter.data = parameter.data.to(dtype)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    model.generation_config.suppress_tokens = [IMAGE, VIDEO, START, END, SOUND]
    cast = {key: value.to(device, dtype if value.is_floating_point() else None) for key, value in inputs.items()}
    return model, cast


class OwnRounds:
    """Clocks of its own around one assisted call on a CPU: each draft, and each forward of the model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.drafts_ms: list[float] = []
        self.drafted: list[int] = []
        self.forwards_ms: list[float] = []

    def __enter__(self) -> OwnRounds:
        make = self._model._get_candidate_generator

        def made_generator(*args: Any, **kwargs: Any) -> Any:
            generator = make(*args, **kwargs)
            draft = generator.get_candidates

            def clocked(ids: torch.Tensor, *more: Any, **named: Any) -> Any:
                begin = time.perf_counter()
                candidates, logits = draft(ids, *more, **named)
                self.drafts_ms.append((time.perf_counter() - begin) * 1e3)
                self.drafted.append(candidates.shape[1] - ids.shape[1])
                return candidates, logits

            generator.get_candidates = clocked
            return generator

        self._model._get_candidate_generator = made_generator
        begun: list[float] = []
        self._hooks = [
            self._model.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter())),
            self._model.register_forward_hook(
                lambda *_: self.forwards_ms.append((time.perf_counter() - begun.pop()) * 1e3)
            ),
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        del self._model._get_candidate_generator
        for hook in self._hooks:
            hook.remove()


def by_own_clocks(name: str, tokens: int) -> str:
    """One call on the CPU: laptime's stages, and the own clocks of an assisted call. Ends where counts differ."""
    model, inputs = made(name, torch.device("cpu"), torch.float32)
    call = {**inputs, "max_new_tokens": tokens, "do_sample": False}
    if name not in DRAFTS:
        with StageTimer(model) as timer:
            model.generate(**call)
        return f"{timer.last.stages} {timer.last.flags}"
    call |= DRAFTS[name](model)
    model.generate(**call)
    with StageTimer(model, assisted=True) as timer, OwnRounds(model) as own:
        model.generate(**call)
    sample = timer.last
    if (sample.drafted_tokens, sample.decode_forwards) != (sum(own.drafted), len(own.forwards_ms) - 1):
        raise SystemExit(f"{name}: {sample.drafted_tokens} drafted, {sum(own.drafted)} by own count")
    drafts, forwards = sum(own.drafts_ms[1:]), sum(own.forwards_ms[1:])  # the first are other and prefill
    return (
        f"draft {sample.draft_ms:.1f} ms, own {drafts:.1f}; verify {sample.verify_ms:.1f} ms, own {forwards:.1f}; "
        f"prefill {sample.stages.prefill_ms:.1f} ms, own {own.forwards_ms[0]:.1f}; "
        f"{sample.output_tokens} tokens in {sample.decode_forwards + 1} forwards, "
        f"{sample.accepted_tokens} of {sample.drafted_tokens} drafts kept"
    )


def main() -> None:
    """Compare each model, some calls each, and write benchmarks/results/truth_families.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu:
        for name in arguments.models:
            print(name, by_own_clocks(name, arguments.tokens), flush=True)
        return
    device = torch.device("cuda", 0)
    rows: list[dict[str, Any]] = []
    for name in arguments.models:
        model, inputs = made(name, device, torch.bfloat16)
        call = {**inputs, "max_new_tokens": arguments.tokens, "do_sample": False}
        if name in DRAFTS:
            call |= DRAFTS[name](model)
        rows += compare_calls(name, model, call, arguments.calls)
        del model, inputs, call
        torch.cuda.empty_cache()
    worst = print_rows(rows)
    print(record("truth_families", {"calls": rows, "largest_relative_difference": worst}, describe(device)))


if __name__ == "__main__":
    main()
