"""What a type needs beside small numbers: values that must agree. A part's are under the part's name."""

from __future__ import annotations

from typing import Any

ANYRES: dict[str, Any] = {"image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]], "vision_feature_layer": -1}
OMNI: dict[str, Any] = {
    "vision_start_token_id": 303,
    "vision_end_token_id": 304,
    "audio_start_token_id": 305,
    "audio_end_token_id": 306,
}
ONE_OF_EACH_ZAMBA: dict[str, Any] = {"layers_block_type": ["mamba", "hybrid"], "num_hidden_layers": 2}
PLAIN_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
AXES_ROPE: dict[str, Any] = {**PLAIN_ROPE, "mrope_section": [3, 3, 2]}
PER_LAYER_ROPE: dict[str, Any] = dict.fromkeys(("full_attention", "sliding_attention"), AXES_ROPE)
INDEXER: dict[str, Any] = {
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
}
MAMBA_64: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 16}

FIXES: dict[str, dict[str, Any]] = {
    # text
    "axk1": {},
    "axk2": {},
    "deepseek_v32": {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 8},
    "glm_moe_dsa": {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 8},
    "kimi_linear": {},
    "longcat_flash": {"head_dim": 8},
    "zaya": {"num_experts_per_tok": 1},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8}},
    "cohere_compass_text": {"rope_parameters": PER_LAYER_ROPE},
    "cohere_compass": {"text_config": {"rope_parameters": PER_LAYER_ROPE}},
    "qwen4_exp_text": INDEXER,
    "qwen4_exp:text": INDEXER,
    "qwen4_exp": {"text_config": INDEXER},
    "xlstm": {"num_heads": 4, "qk_dim_factor": 1.0},
    "bamba": {"attn_layer_indices": [1], **MAMBA_64},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], **MAMBA_64},
    "falcon_h1": {"mamba_d_ssm": 128, **MAMBA_64},
    "gemma3n_text": {"intermediate_size": [48, 48], "layer_types": ["sliding_attention", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16},
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "zamba": {
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_hidden_layers": 4,
        "n_mamba_heads": 2,
        "attention_hidden_size": 128,
        "attention_head_dim": 32,
    },
    "zamba2": {**ONE_OF_EACH_ZAMBA, "n_mamba_heads": 8, "mamba_headdim": 16, "hybrid_layer_ids": [1]},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [16, 32],
        "axial_pos_embds_dim": [32, 32],
        "attn_layers": ["local", "lsh"],
        "attention_head_size": 16,
    },
    # images
    "gemma3": {"mm_tokens_per_image": 4},
    "shieldgemma2": {"mm_tokens_per_image": 4},
    "t5gemma2": {"encoder": {"mm_tokens_per_image": 4}},
    "llava_next": ANYRES,
    "llava_next_video": ANYRES,
    "llava_onevision": ANYRES,
    "vipllava": {"vision_feature_layers": [-1, -2]},
    "aria": {"projector_patch_to_query_dict": {16: 4}, "vision_feature_layer": -1},
    "qwen2_5_omni_thinker": OMNI,
    "qwen3_omni_moe_thinker": OMNI,
    "qwen2_5_omni_thinker:sound": OMNI,
    "qwen3_omni_moe_thinker:sound": OMNI,
    "llama4": {
        "vision_config": {
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "intermediate_size": 256,
            "pixel_shuffle_ratio": 0.5,
        },
        "text_config": {"intermediate_size_mlp": 48},
    },
    "mllama": {
        "vision_config": {
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 128,
            "attention_heads": 4,
            "max_num_tiles": 4,
        },
        "text_config": {"cross_attention_layers": [1]},
    },
    "hunyuan_vl": {"text_config": {"rope_parameters": {**PLAIN_ROPE, "mrope_section": [2, 2, 2, 2]}, "head_dim": 16}},
    "step3p7": {"text_config": {"sliding_window": 64}},
    "blip-2": {"image_token_index": 300, "num_query_tokens": 4, "text_config": {"vocab_size": 512}},
    "chameleon": {
        "vq_config": {
            "embed_dim": 8,
            "num_embeddings": 8,
            "latent_channels": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 2],
            "num_res_blocks": 1,
            "resolution": 32,
            "attn_resolutions": [],
        },
        "vocabulary_map": {**{f"IMGIMG{chr(65 + i)}Z": 100 + i for i in range(26)}, "<image>": 300},
    },
    "emu3": {
        "vq_config": {
            "codebook_size": 64,
            "embed_dim": 4,
            "latent_channels": 4,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "hidden_size": 32,
            "num_attention_heads": 1,
            "temporal_downsample_factor": 1,
        },
        "vocabulary_map": {**{f"<|visual token {i:06d}|>": 100 + i for i in range(64)}, "<image>": 300},
    },
    "granite4_vision": ANYRES,
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": AXES_ROPE}},
    "blt": {"num_hidden_layers": 2},
    "kosmos-2": {"latent_query_num": 4},
    "instructblipvideo": {"num_query_tokens": 4},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "granite_speech": {"encoder_config": {"input_dim": 16}},
    "granite_speech_plus": {"encoder_config": {"input_dim": 16}},
    "idefics": {},
}
