"""The model: a small LLaVA-NeXT with an OLMoE text model, its processor, and how both are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken
from transformers import CLIPVisionConfig, GenerationConfig, LlavaNextConfig, LlavaNextForConditionalGeneration
from transformers import OlmoeConfig as TextConfig

from laptime.models.processors import byte_tokenizer, llava_next_processor

from .questions import words

EOS, PAD, IMAGE = 0, 1, 2
SPECIAL = {EOS: "<|endoftext|>", PAD: "<pad>", IMAGE: "<image>"}
BYTES = 264
"""256 bytes, three special tokens, and what rounds it to eights."""
WORDS = words()
"""Words of questions and answers that are one token each: a colour's name is then a thing to look for at once."""
VOCABULARY = BYTES + -(-len(WORDS) // 8) * 8
TILE, PATCH = 96, 8
"""Side of a crop and of a patch in pixels: 144 tokens a crop."""
TILINGS = {"low": 1, "medium": 2, "high": 3}
"""Columns and rows that a tier cuts a page into. A page is square (docs/knobs.md)."""
CROPS = {"low": (1, 3), "medium": (4, 8), "high": (9, 15)}
TOP_KS, DEPTHS = (1, 2, 4), (2, 3, 4, 6, 8)
LONGEST_ANSWER = 6
"""Tokens, the end token included."""

Size = Literal["full", "tiny"]


def make_config(size: Size = "full") -> Any:
    """The architecture: "full" has 7.3 M weights, "tiny" 0.3 M for tests; tiles, blocks and experts are equal."""
    full = size == "full"
    grid = [[rows * TILE, columns * TILE] for columns, rows in ((1, 1), (2, 2), (3, 3))]
    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=128 if full else 48,
            intermediate_size=512 if full else 96,
            num_hidden_layers=6 if full else 2,
            num_attention_heads=4 if full else 2,
            image_size=TILE,
            patch_size=PATCH,
            hidden_act="gelu_pytorch_tanh",
        ),
        text_config=TextConfig(
            vocab_size=VOCABULARY,
            hidden_size=192 if full else 48,
            intermediate_size=128 if full else 16,
            num_hidden_layers=8,
            num_attention_heads=6 if full else 3,
            num_experts=8,
            num_experts_per_tok=4,
            norm_topk_prob=True,  # a block's scale is then the same at every top-k
            max_position_embeddings=2048,
            pad_token_id=PAD,
            eos_token_id=EOS,
        ),
        image_token_index=IMAGE,
        image_grid_pinpoints=grid,
        image_seq_length=(TILE // PATCH) ** 2,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )


def make_model(size: Size = "full", *, seed: int = 0) -> Any:
    """Random weights in float32, on the CPU."""
    torch.manual_seed(seed)
    model = LlavaNextForConditionalGeneration(make_config(size))
    for block in model.model.language_model.layers:
        for weight in (block.self_attn.o_proj.weight, block.mlp.experts.down_proj):
            weight.data.mul_(0.25)  # 1 / sqrt(2 x 8 blocks): the residual stream starts at the scale of its input
    model.generation_config = make_generation_config()
    return model


def make_generation_config() -> GenerationConfig:
    """Greedy, up to the end token; the image's placeholder is never said."""
    return GenerationConfig(do_sample=False, eos_token_id=EOS, pad_token_id=PAD, suppress_tokens=[IMAGE])


def make_processor() -> Any:
    """LLaVA-NeXT's processor around a tokenizer of words and bytes; without knobs it cuts a page into 3 x 3."""
    tokenizer = byte_tokenizer(BYTES, SPECIAL, pad=PAD, context=2048)
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False, special=False) for word in WORDS])
    grid = [[rows * TILE, rows * TILE] for rows in TILINGS.values()]
    return llava_next_processor(tokenizer, image_size=TILE, patch_size=PATCH, grid=grid)


def save(model: Any, folder: Path) -> None:
    """Weights in bfloat16 as safetensors, with all that laptime.models.loading.load_model reads."""
    copied = LlavaNextForConditionalGeneration(model.config).to(torch.bfloat16)
    copied.load_state_dict(model.state_dict())
    copied.generation_config = make_generation_config()
    copied.save_pretrained(folder, max_shard_size="15MB")
    make_processor().save_pretrained(folder)
