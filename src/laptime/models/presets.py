"""Presets: real architectures at real shapes with random weights. Nothing is downloaded.

Listing them (`NAMES`, `SUMMARIES`) imports no torch; `recipe(name)` does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from laptime.errors import LaptimeError


@dataclass(frozen=True)
class Recipe:
    """What a preset is made of.

    config: the transformers config; processor: None for a text model; suppress: ids that generate() must not emit
    (image placeholders, which random weights would choose); pad: the id that fills rows.
    """

    config: Any
    tokenizer: Any
    processor: Any | None
    suppress: tuple[int, ...]
    pad: int


_RECIPES: dict[str, Callable[[], Recipe]] = {}
SUMMARIES: dict[str, str] = {}
"""One line for each preset, by its name."""


def _preset(name: str, summary: str) -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    def add(build: Callable[[], Recipe]) -> Callable[[], Recipe]:
        _RECIPES[name], SUMMARIES[name] = build, summary
        return build

    return add


def recipe(name: str) -> Recipe:
    """Build the preset's config and processor. Raises LaptimeError, with near names, for a name that isn't one."""
    if name not in _RECIPES:
        near = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise LaptimeError(f"no preset {name!r}: {hint}there are {', '.join(NAMES)}")
    return _RECIPES[name]()


@_preset("tiny-vlm", "LLaVA-NeXT tiles on an 8-layer, 16-expert OLMoE; seconds on two CPU cores (19 M weights)")
def _tiny_vlm() -> Recipe:
    from transformers import CLIPVisionConfig, LlavaNextConfig, OlmoeConfig

    from laptime.models.processors import llava_next_processor

    pad, image, grid = 1, 2, [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=4,
            image_size=336,
            patch_size=28,  # 144 tokens a tile
        ),
        text_config=OlmoeConfig(
            vocab_size=2048,
            hidden_size=256,
            intermediate_size=128,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_experts=16,
            num_experts_per_tok=4,
            initializer_range=0.2,  # ten times the usual: below it so small a model says one token for ever
            max_position_embeddings=4096,
            pad_token_id=pad,
            eos_token_id=None,
        ),
        image_token_index=image,
        image_grid_pinpoints=grid,
        image_seq_length=144,
    )
    tokenizer = _tokenizer(config.text_config, {0: "<|endoftext|>", pad: "<pad>", image: "<image>"}, pad=pad)
    processor = llava_next_processor(tokenizer, image_size=336, patch_size=28, grid=grid)
    return Recipe(config, tokenizer, processor, suppress=(image,), pad=pad)


@_preset("tiny-llm", "an 8-layer Qwen3; well under a second on two CPU cores (7 M weights)")
def _tiny_llm() -> Recipe:
    from transformers import Qwen3Config

    config = Qwen3Config(
        vocab_size=4096,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=4096,
        initializer_range=0.1,
        tie_word_embeddings=True,
        pad_token_id=1,
    )
    return _text(config, {0: "<|endoftext|>", 1: "<pad>"}, pad=1)


@_preset("qwen3-4b", "Qwen3-4B: 36 layers, 8.04 GB in bfloat16")
def _qwen3_4b() -> Recipe:
    from transformers import Qwen3Config

    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
        pad_token_id=151643,
    )
    return _text(config, {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}, pad=151643)


@_preset("molmoe-1b", "MolmoE-1B's shapes: ViT-L/14 at 336 px, 144 tokens a crop, 1-15 crops, 64-expert OLMoE (14 GB)")
def _molmoe_1b() -> Recipe:
    from transformers import InternVLConfig, InternVLVisionConfig

    from laptime.models.processors import molmoe_processor

    pad = 1
    marks = {50280: "<im_start>", 50281: "<im_end>", 50282: "<im_patch>", 50283: "<video>"}
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            attention_bias=True,
            hidden_act="quick_gelu",
            image_size=336,
            patch_size=14,  # 24 x 24 patches; pooled 2 x 2 they are 144 tokens
        ),
        text_config=_olmoe_1b_7b_config(pad),
        image_token_id=50282,
        image_seq_length=144,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    names = {
        "start_image_token": marks[50280],
        "end_image_token": marks[50281],
        "context_image_token": marks[50282],
        "video_token": marks[50283],
    }
    special = {50279: "<|endoftext|>", pad: "<pad>", **marks}
    tokenizer = _tokenizer(config.text_config, special, pad=pad, names=names)
    processor = molmoe_processor(tokenizer, image_size=336, tokens_per_tile=144, max_crops=15)
    return Recipe(config, tokenizer, processor, suppress=tuple(marks), pad=pad)


@_preset("qwen2.5-vl-3b", "Qwen2.5-VL-3B: 32-block windowed vision tower at native resolution, 36 layers (7.5 GB)")
def _qwen2_5_vl_3b() -> Recipe:
    from transformers import Qwen2_5_VLConfig

    from laptime.models.processors import qwen2_5_vl_processor

    pad = 151643
    special = {
        pad: "<|endoftext|>",
        151644: "<|im_start|>",
        151645: "<|im_end|>",
        151652: "<|vision_start|>",
        151653: "<|vision_end|>",
        151655: "<|image_pad|>",
        151656: "<|video_pad|>",
    }
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "patch_size": 14,
            "window_size": 112,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
        text_config={
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0},
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": pad,
            "tie_word_embeddings": True,
        },
        image_token_id=151655,
        video_token_id=151656,
        vision_start_token_id=151652,
        vision_end_token_id=151653,
        tie_word_embeddings=True,
    )
    names = {"image_token": special[151655], "video_token": special[151656]}
    tokenizer = _tokenizer(config.text_config, special, pad=pad, names=names)
    processor = qwen2_5_vl_processor(tokenizer, min_pixels=56 * 56, max_pixels=28 * 28 * 1280)
    return Recipe(config, tokenizer, processor, suppress=(151652, 151653, 151655, 151656), pad=pad)


@_preset("olmoe-1b-7b", "OLMoE-1B-7B: 16 layers, 64 experts, 8 of them for each token (14 GB)")
def _olmoe_1b_7b() -> Recipe:
    return _text(_olmoe_1b_7b_config(1), {50279: "<|endoftext|>", 1: "<pad>"}, pad=1)


@_preset("llama-3-8b", "Llama-3-8B: 32 layers (16 GB)")
def _llama_3_8b() -> Recipe:
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=128001,
    )
    return _text(config, {128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128009: "<|eot_id|>"}, pad=128001)


NAMES: tuple[str, ...] = tuple(_RECIPES)
"""The presets, in the order in which they are shown."""


def _olmoe_1b_7b_config(pad: int) -> Any:
    from transformers import OlmoeConfig

    return OlmoeConfig(
        vocab_size=50304,
        hidden_size=2048,
        intermediate_size=1024,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_experts=64,
        num_experts_per_tok=8,
        initializer_range=0.1,  # at the usual 0.02 a prompt reaches 20 of the 64 experts; a trained model's, all
        max_position_embeddings=4096,
        pad_token_id=pad,
        eos_token_id=None,
    )


def _tokenizer(text_config: Any, special: dict[int, str], *, pad: int, names: dict[str, str] | None = None) -> Any:
    from laptime.models.processors import byte_tokenizer

    context = text_config.max_position_embeddings
    return byte_tokenizer(text_config.vocab_size, special, pad=pad, context=context, names=names)


def _text(config: Any, special: dict[int, str], *, pad: int) -> Recipe:
    return Recipe(config, _tokenizer(config, special, pad=pad), None, suppress=(), pad=pad)
