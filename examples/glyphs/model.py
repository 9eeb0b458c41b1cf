"""The model: a small LLaVA-NeXT with an OLMoE text model, its processor, and how both are saved."""

from __future__ import annotations

from dataclasses import dataclass
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
"""Experts for each token where four are the most (twice as many where eight are), and active blocks."""
LONGEST_ANSWER = 6
"""Tokens, the end token included."""

Size = Literal["full", "tiny"]


@dataclass(frozen=True)
class Widths:
    """What differs between sizes. expert: one expert's inner width; top_k: experts a token, all knobs at their most;
    rate: the highest learning rate in training."""

    vision: int
    vision_inner: int
    vision_blocks: int
    vision_heads: int
    text: int
    text_heads: int
    expert: int
    experts: int
    top_k: int
    rate: float


SIZES: dict[Size, Widths] = {
    "full": Widths(128, 512, 6, 4, 192, 6, 128, 8, 4, 1.5e-3),
    "tiny": Widths(48, 96, 2, 2, 48, 3, 16, 8, 4, 1.5e-3),
}


def make_config(size: Size = "full") -> Any:
    """The architecture: "full" has 7.3 M weights, "tiny" 0.3 M for tests; tiles and blocks are equal."""
    widths = SIZES[size]
    grid = [[rows * TILE, columns * TILE] for columns, rows in ((1, 1), (2, 2), (3, 3))]
    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=widths.vision,
            intermediate_size=widths.vision_inner,
            num_hidden_layers=widths.vision_blocks,
            num_attention_heads=widths.vision_heads,
            image_size=TILE,
            patch_size=PATCH,
            hidden_act="gelu_pytorch_tanh",
        ),
        text_config=TextConfig(
            vocab_size=VOCABULARY,
            hidden_size=widths.text,
            intermediate_size=widths.expert,
            num_hidden_layers=8,
            num_attention_heads=widths.text_heads,
            num_experts=widths.experts,
            num_experts_per_tok=widths.top_k,
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
    with torch.device("meta"):  # nothing is drawn for weights that are replaced at once
        copied = LlavaNextForConditionalGeneration(model.config).to(torch.bfloat16)
    weights = {name: weight.to("cpu", torch.bfloat16) for name, weight in model.state_dict().items()}
    copied.load_state_dict(weights, assign=True)
    copied.generation_config = make_generation_config()
    copied.save_pretrained(folder, max_shard_size="2GB")
    make_processor().save_pretrained(folder)
