"""Language models that blocks may be left out of: tests compare each with itself where the blocks are skipped by hand.

In other families a block may read what another one left (Gemma 3n shares keys and values), or know its place in ways
that renumbering doesn't reach. A family is added here once the test passes for it.
"""

_NAMES = """
    afmoe apertus arcee aria_text bitnet bloom codegen cohere cohere2 cwm deepseek_v2 deepseek_v3 dots1 ernie4_5
    ernie4_5_moe exaone4 falcon flex_olmo gemma gemma2 gemma3_text glm glm4 glm4_moe glm4_moe_lite gpt2 gpt_bigcode
    gpt_neox gpt_oss gptj granite granite_swa granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe
    jetmoe lfm2 lfm2_moe llama minicpm3 minimax minimax_m2 ministral ministral3 mistral mixtral nanochat nemotron
    olmo olmo2 olmo3 olmo_hybrid olmoe opt phi phi3 phimoe qwen2 qwen2_5_vl_text qwen2_moe qwen3 qwen3_5_moe_text
    qwen3_5_text qwen3_moe qwen3_next qwen3_vl_moe_text qwen3_vl_text seed_oss smollm3 solar_open stablelm starcoder2
    vaultgemma youtu
"""
PROVED: tuple[str, ...] = tuple(_NAMES.split())
"""By the model_type of their text config."""
