"""Tiny models whose encoders are reached in other ways: a VQ-VAE's encode(), sound, and encoder-decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import (
    ChameleonConfig,
    ChameleonForConditionalGeneration,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    SeamlessM4TConfig,
    SeamlessM4TModel,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

TEXT: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
IMAGE, SOUND = 310, 300


def chameleon() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Images become ids by a VQ-VAE's encode(), which is no forward."""
    coder = {
        "embed_dim": 8,
        "num_embeddings": 8,
        "latent_channels": 8,
        "base_channels": 32,
        "channel_multiplier": [1, 2],
        "num_res_blocks": 1,
        "resolution": 28,
        "attn_resolutions": [],
    }
    names = {**{f"IMGIMG{chr(65 + i)}Z": 100 + i for i in range(8)}, "<image>": IMAGE}
    model = ChameleonForConditionalGeneration(ChameleonConfig(**TEXT, vocabulary_map=names, vq_config=coder)).eval()
    pixels = torch.randn(1, 3, 28, 28)
    count = model.model.get_image_tokens(pixels).numel()
    ids = torch.tensor([[5, *[IMAGE] * count, 6, 7]])
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def qwen2_audio() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A sound encoder and its projector, called in forward."""
    tower = {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "d_model": 16,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "max_source_positions": 50,
    }
    text = {**TEXT, "model_type": "qwen2"}
    config = Qwen2AudioConfig(audio_config=tower, text_config=text, audio_token_index=SOUND)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = 0
    heard = torch.ones(1, 100, dtype=torch.long)
    count = int(model.model.audio_tower._get_feat_extract_output_lengths(heard.sum(-1))[1])
    ids = torch.tensor([[5, *[SOUND] * count, 6, 7]])
    sound = {"input_features": torch.randn(1, 16, 100), "feature_attention_mask": heard}
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **sound}


def t5() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Text in, text out, by an encoder and a decoder."""
    config = T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def whisper() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Sound in, text out. Its generate() takes the decoder's start token off again."""
    config = WhisperConfig(
        vocab_size=320,
        d_model=32,
        num_mel_bins=16,
        max_source_positions=50,
        max_target_positions=64,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    model = WhisperForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None
    return model, {"input_features": torch.randn(1, 16, 100)}


def florence2() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Images and text in, text out. What it calls its decoder holds the encoder too."""
    tower = {
        "depths": (1, 1),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "embed_dim": (16, 32),
        "num_heads": (2, 4),
        "num_groups": (2, 4),
        "window_size": 4,
        "projection_dim": 32,
    }
    text = {
        "model_type": "bart",
        "vocab_size": 320,
        "d_model": 32,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
        "max_position_embeddings": 128,
        "is_encoder_decoder": True,
    }
    config = Florence2Config(vision_config=tower, text_config=text, image_token_id=IMAGE, is_encoder_decoder=True)
    model = Florence2ForConditionalGeneration(config).eval()
    settings = model.generation_config
    settings.eos_token_id = settings.forced_eos_token_id = settings.forced_bos_token_id = None
    settings.decoder_start_token_id, settings.pad_token_id = 2, 1
    pixels = torch.randn(1, 3, 32, 32)
    count = model.model.get_image_features(pixels).pooler_output.shape[-2]
    ids = torch.tensor([[*[IMAGE] * count, 5, 6, 7]])
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def seamless_m4t() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Text or sound in, text out, and sound from it by a second language model."""
    small = dict.fromkeys(("encoder_layers", "decoder_layers", "t2u_encoder_layers", "t2u_decoder_layers"), 1)
    small |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "t2u_encoder_ffn_dim", "t2u_decoder_ffn_dim"), 32)
    sides = ("encoder", "decoder", "speech_encoder", "t2u_encoder", "t2u_decoder")
    config = SeamlessM4TConfig(
        vocab_size=320,
        t2u_vocab_size=320,
        unit_hifi_gan_vocab_size=320,
        hidden_size=32,
        max_position_embeddings=64,
        speech_encoder_layers=1,
        speech_encoder_intermediate_size=32,
        **dict.fromkeys(("unit_embed_dim", "lang_embed_dim", "spkr_embed_dim"), 16),
        upsample_initial_channel=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        **{f"{side}_attention_heads": 4 for side in sides},
        **small,
    )
    model = SeamlessM4TModel(config).eval()
    settings = model.generation_config
    settings.eos_token_id = None
    settings.text_decoder_lang_to_code_id = {"fra": 7}
    settings.t2u_lang_code_to_id = settings.vocoder_lang_code_to_id = {"fra": 1}
    ids = torch.tensor([[5, 6, 7, 8]])
    return model, {"input_ids": ids, "tgt_lang": "fra", "generate_speech": False}


BUILD: dict[str, Callable[[], tuple[nn.Module, dict[str, torch.Tensor]]]] = {
    "chameleon": chameleon,
    "florence2": florence2,
    "qwen2_audio": qwen2_audio,
    "seamless_m4t": seamless_m4t,
    "t5": t5,
    "whisper": whisper,
}


def build(family: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model and what its generate() gets, the same ones each time."""
    torch.manual_seed(0)
    return BUILD[family]()
