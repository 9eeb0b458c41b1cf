"""Types for which small numbers everywhere make no model or no input: each written out, with what its generate() takes.

A function of this page gives a tiny random model of one type and the arguments of its call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

Made = tuple[nn.Module, dict[str, Any]]
IMAGE, SOUND = 300, 302
TEXT: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}
SIGLIP: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
CODER: dict[str, Any] = {"base_channels": 32, "num_res_blocks": 1, "attn_resolutions": []}


def made(name: str, config: Any, **settings: Any) -> nn.Module:
    """A model of that class in eval mode that never ends by itself."""
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, name)(config).eval()
    generation: Any = model.generation_config
    for key, value in {"eos_token_id": None, "pad_token_id": 0, **settings}.items():
        setattr(generation, key, value)
    return model


def ids_with(features: int, token: int, **more: Any) -> dict[str, Any]:
    """A prompt of some text and as many places as there are features."""
    ids = torch.tensor([[5, *[token] * features, 6, 7, 8]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}


def _count(features: Any, width: int = 64) -> int:
    pooled = getattr(features, "pooler_output", features)
    return sum(one.numel() for one in pooled) // width if isinstance(pooled, (list, tuple)) else pooled.numel() // width


def kosmos_2() -> Made:
    """Its generate() calls that of its text model."""
    config = transformers.Kosmos2Config(
        text_config={"vocab_size": 512, "embed_dim": 64, "layers": 2, "ffn_dim": 64, "attention_heads": 4},
        vision_config={**SIGLIP, "hidden_size": 64, "image_size": 32, "patch_size": 8, "model_type": ""},
        latent_query_num=4,
    )
    model = made("Kosmos2ForConditionalGeneration", config, pad_token_id=1)
    ids = torch.tensor([[0, 3, 4, 4, 4, 4, 5, 6, 7]])
    at = (ids == 4).long()
    pixels = torch.randn(1, 3, 32, 32)
    return model, {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels,
        "image_embeds_position_mask": at,
    }


def chameleon() -> Made:
    """Images become ids by a VQ-VAE's encode()."""
    names = {**{f"IMGIMG{chr(65 + i)}Z": 100 + i for i in range(8)}, "<image>": IMAGE}
    coder = {**CODER, "embed_dim": 8, "num_embeddings": 8, "latent_channels": 8, "channel_multiplier": [1, 2]}
    config = transformers.ChameleonConfig(**TEXT, vocabulary_map=names, vq_config={**coder, "resolution": 32})
    model: Any = made("ChameleonForConditionalGeneration", config)
    pixels = torch.randn(1, 3, 32, 32)
    return model, ids_with(model.model.get_image_tokens(pixels).numel(), IMAGE, pixel_values=pixels)


def emu3() -> Made:
    """Likewise."""
    names = {**{f"<|visual token {i:06d}|>": 100 + i for i in range(64)}, "<image>": IMAGE, "<|extra_200|>": 299}
    coder = {
        **CODER,
        "codebook_size": 64,
        "embed_dim": 4,
        "latent_channels": 4,
        "double_latent": False,
        "channel_multiplier": [1, 1],
        "hidden_size": 32,
        "num_attention_heads": 1,
        "temporal_downsample_factor": 1,
    }
    config = transformers.Emu3Config(vq_config=coder, text_config={**TEXT, "pad_token_id": 0}, vocabulary_map=names)
    model: Any = made("Emu3ForConditionalGeneration", config)
    pixels, sizes = torch.randn(1, 3, 32, 32), torch.tensor([[32, 32]])
    count = model.model.get_image_tokens(pixels, sizes).numel()
    return model, ids_with(count, model.config.image_token_id, pixel_values=pixels, image_sizes=sizes)


def florence2() -> Made:
    """An encoder-decoder that sees."""
    tower = {
        "depths": (1, 1),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "embed_dim": (32, 64),
        "num_heads": (2, 4),
        "num_groups": (2, 4),
        "window_size": 4,
        "projection_dim": 64,
    }
    text = {
        "model_type": "bart",
        "vocab_size": 512,
        "d_model": 64,
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
        "max_position_embeddings": 256,
        "is_encoder_decoder": True,
    }
    config = transformers.Florence2Config(
        vision_config=tower, text_config=text, image_token_id=IMAGE, is_encoder_decoder=True
    )
    free = {"forced_eos_token_id": None, "forced_bos_token_id": None, "decoder_start_token_id": 2, "pad_token_id": 1}
    model: Any = made("Florence2ForConditionalGeneration", config, **free)
    pixels = torch.randn(1, 3, 64, 64)
    return model, ids_with(_count(model.model.get_image_features(pixels)), IMAGE, pixel_values=pixels)


def deepseek_vl_hybrid() -> Made:
    """Two towers for one image."""
    sam = {
        "model_type": "sam_vision_model",
        "hidden_size": 32,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 128,
        "patch_size": 16,
        "mlp_dim": 32,
        "global_attn_indexes": [1],
        "window_size": 2,
    }
    config = transformers.DeepseekVLHybridConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={**SIGLIP, "image_size": 32, "patch_size": 4},
        high_res_vision_config=sam,
        image_token_id=IMAGE,
    )
    model: Any = made("DeepseekVLHybridForConditionalGeneration", config)
    images = {"pixel_values": torch.randn(1, 3, 32, 32), "high_res_pixel_values": torch.randn(1, 3, 128, 128)}
    return model, ids_with(_count(model.model.get_image_features(**images)), IMAGE, **images)


def granite_speech() -> Made:
    """Sound through a conformer and a Q-Former."""
    return _granite_speech("GraniteSpeech")


def granite_speech_plus() -> Made:
    """Likewise."""
    return _granite_speech("GraniteSpeechPlus")


def _granite_speech(name: str) -> Made:
    conformer = {
        "input_dim": 16,
        "num_layers": 2,
        "hidden_dim": 32,
        "feedforward_mult": 2,
        "num_heads": 4,
        "dim_head": 8,
        "output_dim": 16,
        "context_size": 20,
        "max_pos_emb": 32,
        "conv_kernel_size": 3,
    }
    former = {**BERT, "model_type": "blip_2_qformer", "encoder_hidden_size": 32, "cross_attention_frequency": 1}
    config = getattr(transformers, f"{name}Config")(
        text_config={"model_type": "granite", **TEXT},
        encoder_config=conformer,
        projector_config=former,
        audio_token_index=SOUND,
        window_size=15,
        downsample_rate=5,
        has_lora_adapter=False,
    )
    model: Any = made(f"{name}ForConditionalGeneration", config)
    sound = torch.randn(1, 60, 16)
    count = _count(model.get_audio_features(sound))
    mask = torch.ones(1, count, dtype=torch.bool)
    return model, ids_with(count, SOUND, input_features=sound, input_features_mask=mask)


def vision_encoder_decoder() -> Made:
    """TrOCR: a ViT and a decoder of text."""
    seeing = transformers.ViTConfig(**{**BERT, "image_size": 32, "patch_size": 8})
    writing = transformers.TrOCRConfig(
        vocab_size=512, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=32
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(seeing, writing)
    model = _two("VisionEncoderDecoderModel", config)
    return model, {"pixel_values": torch.randn(1, 3, 32, 32)}


def encoder_decoder() -> Made:
    """Two BERTs."""
    two = transformers.BertConfig(**BERT), transformers.BertConfig(**BERT)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*two)
    ids = torch.tensor([[5, 6, 7, 8]])
    return _two("EncoderDecoderModel", config), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def speech_encoder_decoder() -> Made:
    """wav2vec 2.0 and a BERT."""
    hearing = transformers.Wav2Vec2Config(
        **BERT,
        conv_dim=(16, 16),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        num_feat_extract_layers=2,
    )
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        hearing, transformers.BertConfig(**BERT)
    )
    return _two("SpeechEncoderDecoderModel", config), {"input_values": torch.randn(1, 800)}


def _two(name: str, config: Any) -> nn.Module:
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    torch.manual_seed(0)
    model: Any = getattr(transformers, name)(config=config).eval()
    settings = model.generation_config
    settings.decoder_start_token_id = settings.bos_token_id = 1
    settings.pad_token_id, settings.eos_token_id, settings.forced_eos_token_id = 0, None, None
    return model


def blt() -> Made:
    """Bytes in patches; its config has no number of layers, so transformers makes no cache for it."""
    part = {**TEXT, "vocab_size": 260}
    crossed = {**part, "hidden_size_global": 128, "cross_attn_k": 2}
    config = transformers.BltConfig(
        vocab_size=260,
        max_position_embeddings=256,
        patcher_config=part,
        encoder_config={**crossed, "num_hidden_layers": 1},
        decoder_config=crossed,
        global_config={**part, "hidden_size": 128},
        cross_attn_k=2,
        encoder_hash_byte_group_size=[3, 4],
        encoder_hash_byte_group_vocab=500,
        encoder_hash_byte_group_nb_functions=1,
    )
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False, "suppress_tokens": None}
    return made("BltForCausalLM", config), call


def seamless_m4t() -> Made:
    """Text in, text out; its generate() can make sound afterwards."""
    return _seamless("SeamlessM4T")


def seamless_m4t_v2() -> Made:
    """Likewise."""
    return _seamless("SeamlessM4Tv2")


def _seamless(name: str) -> Made:
    heads = ("encoder", "decoder", "speech_encoder", "t2u_encoder", "t2u_decoder")
    config = getattr(transformers, f"{name}Config")(
        **dict.fromkeys(("vocab_size", "t2u_vocab_size", "unit_hifi_gan_vocab_size"), 512),
        hidden_size=32,
        **{f"{side}_attention_heads": 4 for side in heads},
        **{f"{side}_layers": 2 for side in heads},
        **{f"{side}_ffn_dim": 32 for side in heads if side != "speech_encoder"},
        speech_encoder_intermediate_size=32,
        **dict.fromkeys(("unit_embed_dim", "lang_embed_dim", "spkr_embed_dim"), 16),
        upsample_initial_channel=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    codes = {"text_decoder_lang_to_code_id": {"fra": 7}, "t2u_lang_code_to_id": {"fra": 1}}
    model = made(f"{name}Model", config, **codes, vocoder_lang_code_to_id={"fra": 1})
    return model, {"input_ids": torch.tensor([[5, 6, 7, 8]]), "tgt_lang": "fra", "generate_speech": False}


def udop() -> Made:
    """Text at its place on a page."""
    config = transformers.UdopConfig(
        vocab_size=512,
        d_model=32,
        d_kv=8,
        d_ff=32,
        **dict.fromkeys(("num_layers", "num_decoder_layers"), 2),
        num_heads=4,
        image_size=32,
        patch_size=8,
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    return made("UdopForConditionalGeneration", config, decoder_start_token_id=1), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "bbox": torch.rand(1, 4, 4),
        "pixel_values": torch.randn(1, 3, 32, 32),
    }


def kimi_k25() -> Made:
    """Images as rows of patches, and latent attention."""
    latent = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "qk_nope_head_dim": 16}
    experts = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
    text = {**TEXT, **latent, **experts, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
    tower = {
        "patch_size": 8,
        **dict.fromkeys(("pos_emb_height", "pos_emb_width"), 8),
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        **dict.fromkeys(("hidden_size", "intermediate_size"), 64),
        "merge_kernel_size": [2, 2],
    }
    config = transformers.Kimi_K25Config(
        text_config={"model_type": "deepseek_v3", **text},
        vision_config=tower,
        projection_hidden_size=64,
        image_token_id=IMAGE,
        video_token_id=301,
    )
    model: Any = made("Kimi_K25ForConditionalGeneration", config)
    images = {"pixel_values": torch.randn(16, 3, 8, 8), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    return model, ids_with(_count(model.model.get_image_features(**images)), IMAGE, **images)


def musicflamingo() -> Made:
    """A sound between its two marks."""
    hearing = {
        "model_type": "audioflamingo3_encoder",
        "num_mel_bins": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        **dict.fromkeys(("hidden_size", "intermediate_size"), 64),
        "max_source_positions": 50,
    }
    marks = {"audio_token_id": SOUND, "audio_bos_token_id": 303, "audio_eos_token_id": 304}
    text = {"model_type": "qwen2", **TEXT}
    config = transformers.MusicFlamingoConfig(audio_config=hearing, text_config=text, **marks)
    ids = torch.tensor([[303, *[SOUND] * 25, 304, 5, 6]])
    sound = {"input_features": torch.randn(1, 16, 100), "input_features_mask": torch.ones(1, 100, dtype=torch.long)}
    model = made("MusicFlamingoForConditionalGeneration", config)
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), **sound}


def fun_asr_nano() -> Made:
    """A sound encoder with memory blocks, and an adaptor."""
    hearing = {
        "model_type": "fun_asr_nano_encoder",
        "num_mel_bins": 16,
        **dict.fromkeys(("hidden_size", "intermediate_size"), 32),
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "num_timestamp_prediction_layers": 1,
        "num_stacked_frames": 2,
        "fsmn_kernel_size": 3,
        "max_position_embeddings": 200,
    }
    adaptor = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.FunAsrNanoConfig(
        adaptor_config={**adaptor, "projector_hidden_size": 64},
        audio_config=hearing,
        text_config={"model_type": "qwen3", "head_dim": 16, **TEXT},
        audio_token_id=SOUND,
    )
    model: Any = made("FunAsrNanoForConditionalGeneration", config)
    sound = {"input_features": torch.randn(1, 40, 32), "input_features_mask": torch.ones(1, 40, dtype=torch.long)}
    return model, ids_with(_count(model.model.get_audio_features(**sound)), SOUND, **sound)


def pop2piano() -> Made:
    """Sound in, notes as tokens out."""
    config = transformers.Pop2PianoConfig(
        vocab_size=512,
        composer_vocab_size=1,
        d_model=32,
        d_kv=8,
        d_ff=32,
        **dict.fromkeys(("num_layers", "num_decoder_layers"), 2),
        num_heads=4,
    )
    composers = {"composer_to_feature_token": {"composer1": 5}}
    model = made("Pop2PianoForConditionalGeneration", config, decoder_start_token_id=1, **composers)
    return model, {"input_features": torch.randn(1, 10, 32)}


BY_HAND: dict[str, Callable[[], Made]] = {
    "blt": blt,
    "chameleon": chameleon,
    "deepseek_vl_hybrid": deepseek_vl_hybrid,
    "emu3": emu3,
    "encoder-decoder": encoder_decoder,
    "florence2": florence2,
    "fun_asr_nano": fun_asr_nano,
    "granite_speech": granite_speech,
    "granite_speech_plus": granite_speech_plus,
    "kimi_k25": kimi_k25,
    "kosmos-2": kosmos_2,
    "musicflamingo": musicflamingo,
    "pop2piano": pop2piano,
    "seamless_m4t": seamless_m4t,
    "seamless_m4t_v2": seamless_m4t_v2,
    "speech-encoder-decoder": speech_encoder_decoder,
    "udop": udop,
    "vision-encoder-decoder": vision_encoder_decoder,
}
